"""URLs in settings, by `tests/cases/urls.yaml`."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import SecretStr, TypeAdapter, ValidationError

from forwarders.api.urls import Endpoint, SecretUrl, Url, is_forbidden
from transforms.documents import Document

CASES = Document.read(Path(__file__).parents[2] / "cases" / "urls.yaml").data


@pytest.mark.parametrize("url", CASES["accepted"])
def test_accepted(url: str) -> None:
    """A URL over HTTP is taken as it is written, private addresses too."""
    assert TypeAdapter(Url).validate_python(url) == url
    assert TypeAdapter(SecretUrl).validate_python(url) == SecretStr(url)


@pytest.mark.parametrize("case", CASES["refused"], ids=lambda case: case["url"])
def test_refused(case: Mapping[str, str]) -> None:
    """Other schemes, credentials, and what leads to a metadata service in any disguise are refused, and why."""
    for kind in (Url, SecretUrl, Endpoint):
        with pytest.raises(ValidationError, match=case["says"]):
            TypeAdapter(kind).validate_python(case["url"])


def test_endpoint() -> None:
    """An endpoint is what paths are appended to: no slash at its end, no query."""
    assert TypeAdapter(Endpoint).validate_python("http://127.0.0.1:8080/ga4/") == "http://127.0.0.1:8080/ga4"
    with pytest.raises(ValidationError, match="only scheme, host and path"):
        TypeAdapter(Endpoint).validate_python("http://127.0.0.1?a=b")


def test_resolved_address() -> None:
    """An address that a name resolved to can also be checked."""
    assert is_forbidden("169.254.169.254")
    assert not is_forbidden("93.184.216.34")
