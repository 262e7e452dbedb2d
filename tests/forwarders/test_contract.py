"""What the contract itself says of answers; statuses are held by the webhook's `forwarder.yaml`."""

from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any

import pytest

from forwarders import contract
from forwarders.contract import Request, Response
from transforms.documents import Document

CASES = Document.read(Path(__file__).parents[1] / "cases" / "retry_after.yaml").data


class Clock(datetime):
    """A clock that stands."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "Clock":  # noqa: ARG003
        return cls(2026, 1, 3, tzinfo=UTC)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["header"] or "empty")
def test_retry_after(case: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry-After is read in every form that RFC 9110 and vendors know, and nothing is made of any other."""
    monkeypatch.setattr(contract, "datetime", Clock)
    assert Response(503, {"retry-after": case["header"]}, b"").retry_after == case["seconds"]


def test_no_retry_after() -> None:
    """An answer without the header says nothing."""
    assert Response(503, {}, b"").retry_after is None


def test_request_shows_its_method_only() -> None:
    """URL, headers and body stay out of logs and tracebacks."""
    assert repr(Request("POST", "https://x.example?token=s3cret", {"A": "s3cret"}, {"email": "a@b"})) == (
        "Request(method='POST')"
    )
