"""The documentation's index, and the navigation and llms.txt that follow from it."""

import re

from deploy.docsgen import site


def test_navigation_and_llms_are_up_to_date():
    """mkdocs.yml and llms.txt follow from the index; `python -m deploy.docsgen.site` writes them."""
    assert site.MKDOCS.read_text() == site.mkdocs()
    assert site.LLMS.read_text() == site.llms()


def test_the_index_leads_to_every_page():
    """Each page is in the index, or in a folder whose index is."""
    pages = [page for _, pages in site.sections() for page in pages]
    reached = {site.INDEX, *(path for page in pages for path in (page.path, *page.children))}
    assert {str(path.relative_to(site.DOCS)) for path in site.DOCS.rglob("*.md")} == reached


def test_every_entry_of_the_index_is_read():
    """Each list item of the index has the form that the navigation is made from."""
    text = (site.DOCS / site.INDEX).read_text()
    assert len(re.findall(r"^- ", text, re.MULTILINE)) == sum(len(pages) for _, pages in site.sections())
