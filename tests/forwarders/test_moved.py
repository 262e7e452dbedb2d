"""A plug-in that imports a module's old name gets an error with the new one."""

import importlib

import pytest


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("forwarders.contract", "forwarders.api.contract"),
        ("forwarders.urls", "forwarders.api.urls"),
        ("streams.enrichment.contract", "streams.steps.enrichment"),
    ],
)
def test_the_error_names_the_new_module(old: str, new: str):
    """Importing an old public module raises an ImportError that names the new module."""
    with pytest.raises(ImportError, match=f"is now {new}"):
        importlib.import_module(old)
