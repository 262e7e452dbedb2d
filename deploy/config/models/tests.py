"""Models of the tests in rule files and beside them."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from streams.settings import StrictModel


class ExpectedRequest(StrictModel):
    """What goes to the vendor; only what is said is compared, of headers only those that are named."""

    method: str | None = None
    """`POST`, …, or `WRITE` where a file or database is written to."""
    url: str | None = None
    """The whole URL; `***` stands for each secret in it."""
    headers: dict[str, str] = Field(default_factory=dict)
    """Headers, in any case."""
    body: Any = None
    """The body: JSON, or text."""


Decision = Literal[
    "forwarded", "filtered", "opted_out", "consent", "sampled", "suppressed", "quarantined", "dead", "rejected"
]


class Expectation(StrictModel):
    """What is to become of a test's event; only what is said is compared."""

    outcome: Decision | None = None
    """What the router decides; `forwarded` where there is a request."""
    rule: str | None = None
    """The rule that takes the event; null where none does."""
    payload: Any = None
    """The payload, whole."""
    request: ExpectedRequest | None = None
    """The request."""
    reason: str | None = None
    """Why there is no request."""


class Case(StrictModel):
    """One test: an event, and what is to become of it."""

    name: str | None = None
    """What it shows."""
    event: dict[str, Any]
    """The event."""
    source: str | None = None
    """The source it comes from; by default one that the integration takes."""
    now: datetime | None = None
    """The time of its record, which an event without one gets."""
    expect: tuple[Expectation, ...] | Expectation | None = None
    """A list where several rules take the event; `turnout test --update` fills it in."""


class CaseFile(StrictModel):
    """`NAME.test.yaml` beside NAME.yaml."""

    tests: tuple[Case, ...]
    """Events, each with what is expected of it."""


class SourceExpectation(StrictModel):
    """What a source is to make of a test's event; only what is said is compared."""

    outcome: Literal["kept", "filtered", "suppressed", "quarantined", "rejected"] | None = None
    """Whether it goes on."""
    event: dict[str, Any] | None = None
    """The event as the integrations get it, whole."""
    reason: str | None = None
    """Why it does not go on."""
    notes: list[str] | None = None
    """What is noted of it, each `REASON: DETAIL`."""


class SourceCase(StrictModel):
    """One test of what a source makes of its events."""

    name: str | None = None
    """What it shows."""
    event: dict[str, Any]
    """The event; of a webhook's source `headers`, in lower case, and `body`."""
    expect: tuple[SourceExpectation, ...] | SourceExpectation | None = None
    """A list where a webhook makes several events; `turnout test --update` fills it in."""


class SourceCaseFile(StrictModel):
    """`NAME.test.yaml` beside a source's NAME.yaml."""

    tests: tuple[SourceCase, ...]
    """Events, each with what is expected of it."""
