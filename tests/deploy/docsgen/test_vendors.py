"""The vendors' pages match the contracts."""

import pytest

from deploy.docsgen import vendors


@pytest.mark.parametrize("name", vendors.own())
def test_page_is_up_to_date(name):
    """Each forwarder's page is what its contract says; `python -m deploy.docsgen.vendors` writes it."""
    assert (vendors.FOLDER / f"{name}.md").read_text() == vendors.page(name)


def test_index_is_up_to_date():
    """The list has every page, and there is no page without a forwarder."""
    assert (vendors.FOLDER / "index.md").read_text() == vendors.index()
    assert {path.stem for path in vendors.FOLDER.glob("*.md")} == {*vendors.own(), "index"}


@pytest.mark.parametrize("name", vendors.own())
def test_no_field_twice(name):
    """A field has one line for each kind of value, however often its model is named."""
    lines = [line for line in vendors.page(name).splitlines() if line.startswith("| `")]
    assert len(lines) == len(set(lines))


def test_sunset_is_shown():
    """The page shows the date on which a version ends."""
    assert "202511 (until 16 November 2026)" in vendors.page("linkedin")
