"""Models of the tests in rule files and beside them."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from streams.settings import StrictModel


class ExpectedRequest(StrictModel):
    """The expected request to the vendor. Only the given fields and headers are compared."""

    method: str | None = None
    """`POST`, …, or `WRITE` for a file or database."""
    url: str | None = None
    """The full URL, with `***` in place of each secret."""
    headers: dict[str, str] = Field(default_factory=dict)
    """Headers; names are case-insensitive."""
    body: Any = None
    """The body: JSON, or text."""


Decision = Literal[
    "forwarded", "filtered", "opted_out", "consent", "sampled", "suppressed", "quarantined", "dead", "rejected"
]


class Expectation(StrictModel):
    """The expected result of a test. Only the given fields are compared."""

    outcome: Decision | None = None
    """The router's decision; `forwarded` if there is a request."""
    rule: str | None = None
    """The rule that matches the event; null if none does."""
    payload: Any = None
    """The full payload."""
    request: ExpectedRequest | None = None
    """The request."""
    reason: str | None = None
    """The reason for not sending a request."""


class Case(StrictModel):
    """One test: an event and its expected result."""

    name: str | None = None
    """The behaviour that the test shows."""
    event: dict[str, Any]
    """The event."""
    source: str | None = None
    """The source of the event. Default: one whose events the integration gets."""
    memory: dict[str, Any] = Field(default_factory=dict)
    """The user's values in the enrichment `memory`, in the form of an event: `integrations: {meta: {fbp: ...}}`."""
    now: datetime | None = None
    """The time of the event's record, for events without a timestamp."""
    expect: tuple[Expectation, ...] | Expectation | None = None
    """A list if several rules match. `turnout test --update` fills it in."""


class CaseFile(StrictModel):
    """`NAME.test.yaml` beside NAME.yaml."""

    tests: tuple[Case, ...]
    """Test events with expected results."""


class SourceExpectation(StrictModel):
    """The expected event after a source's steps. Only the given fields are compared."""

    outcome: Literal["kept", "filtered", "suppressed", "quarantined", "rejected"] | None = None
    """The result of the steps; `kept` if the event is forwarded."""
    event: dict[str, Any] | None = None
    """The full event after the steps."""
    reason: str | None = None
    """Why the event is not forwarded."""
    notes: list[str] | None = None
    """Notes on the event, each `REASON: DETAIL`."""


class SourceCase(StrictModel):
    """One test of a source's steps."""

    name: str | None = None
    """The behaviour that the test shows."""
    event: dict[str, Any]
    """The event; for a webhook, `headers` (in lower case) and `body`."""
    memory: dict[str, Any] = Field(default_factory=dict)
    """The user's values in the enrichment `memory`, in the form of an event: `integrations: {meta: {fbp: ...}}`."""
    expect: tuple[SourceExpectation, ...] | SourceExpectation | None = None
    """A list if a webhook makes several events. `turnout test --update` fills it in."""


class SourceCaseFile(StrictModel):
    """`NAME.test.yaml` beside a source's NAME.yaml."""

    tests: tuple[SourceCase, ...]
    """Test events with expected results."""
