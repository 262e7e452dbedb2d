"""The pages of the vendors are what the contracts declare."""

import pytest

from deploy import vendor_pages


@pytest.mark.parametrize("name", vendor_pages.own())
def test_page_is_up_to_date(name):
    """Each forwarder's page is what its contract says; `python -m deploy.vendor_pages` writes it."""
    assert (vendor_pages.FOLDER / f"{name}.md").read_text() == vendor_pages.page(name)


def test_index_is_up_to_date():
    """The list has every page, and there is no page without a forwarder."""
    assert (vendor_pages.FOLDER / "index.md").read_text() == vendor_pages.index()
    assert {path.stem for path in vendor_pages.FOLDER.glob("*.md")} == {*vendor_pages.own(), "index"}


@pytest.mark.parametrize("name", vendor_pages.own())
def test_no_field_twice(name):
    """A field has one line for each kind of value, however often its model is named."""
    lines = [line for line in vendor_pages.page(name).splitlines() if line.startswith("| `")]
    assert len(lines) == len(set(lines))


def test_sunset_is_shown():
    """A version that ends says when."""
    assert "202511 (ends on 16 November 2026)" in vendor_pages.page("linkedin")
