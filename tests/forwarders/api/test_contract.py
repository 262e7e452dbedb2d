"""Responses and old names; the results of statuses are in the webhook's `forwarder.yaml`."""

from collections.abc import Mapping
from copy import copy
from dataclasses import fields, replace
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any

import pytest

from forwarders.api import contract
from forwarders.api.contract import Category, Contract, Request, Response, Settings
from transforms.documents import Document

CASES = Document.read(Path(__file__).parents[2] / "cases" / "retry_after.yaml").data


class Clock(datetime):
    """A fixed clock."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "Clock":  # noqa: ARG003
        return cls(2026, 1, 3, tzinfo=UTC)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["header"] or "empty")
def test_retry_after(case: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry-After is read in every form of RFC 9110 and of vendors; other forms are ignored."""
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


@pytest.mark.parametrize("old", contract.RENAMED)
def test_old_name_of_the_module(old: str) -> None:
    """Importing an old name fails with an error that names the new one, which exists."""
    new = contract.RENAMED[old]
    with pytest.raises(ImportError, match=f"^{old} was renamed to {new}$"):
        exec(f"from forwarders.api.contract import {old}")  # noqa: S102
    assert hasattr(contract, new)


def test_unknown_name_of_the_module() -> None:
    """A name that never existed is a usual AttributeError."""
    assert not hasattr(contract, "Unknown")


@pytest.mark.parametrize(
    ("cls", "old", "new"),
    [(cls, *names) for cls, renamed in contract.RENAMED_FIELDS.items() for names in renamed.items()],
)
def test_old_field(cls: str, old: str, new: str) -> None:
    """The old name of a field fails with an error that names the new one, which exists."""
    with pytest.raises(TypeError, match=f"^{cls}: {old} was renamed to {new}$"):
        getattr(contract, cls)(**{old: None})
    assert new in {field.name for field in fields(getattr(contract, cls))}


def test_contract_can_be_copied() -> None:
    """Contracts can be copied with other values."""
    made = Contract("a", "A", "https://a.example", Category.CRM, Settings)
    assert replace(made, title="B").title == "B"
    assert copy(made) == made
