"""Encode and decode reports of processes: their work, and whether their vendors accept deliveries."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

import orjson

from streams.records.format import STATUS_VERSION, RecordError, decode_object


class DeliveryState(StrEnum):
    """Whether deliveries to a vendor go out."""

    DELIVERING = "delivering"
    FAILING = "failing"
    """The vendor fails. Requests are probes."""
    REFUSED = "refused"
    """The vendor rejects the credentials, or has retired the API version. Requests are probes."""
    PAUSED = "paused"
    """Paused by `turnout pause`. Nothing is sent."""


@dataclass(frozen=True, slots=True)
class VendorStatus:
    """Whether deliveries go out, and the vendor's last answer to a request that failed.

    Args:
        state: Whether deliveries go out.
        since: When the state began, RFC 3339; None while delivering.
        reason: Why delivery is paused, or who paused it.
        status: The HTTP status of the last failed request, if it was answered.
        answer: The beginning of that answer, secrets masked; without an answer, the reason.
        answered: When, RFC 3339.
        probe: When the next request is tried, RFC 3339; None while delivering or paused by hand.

    """

    state: DeliveryState
    since: str | None = None
    reason: str = ""
    status: int | None = None
    answer: str = ""
    answered: str | None = None
    probe: str | None = None


@dataclass(frozen=True, slots=True)
class PipelineStatus:
    """One pipeline of a process: the router, the ledger, or the delivery to one integration.

    Args:
        name: `router`, `ledger`, or the integration.
        failing: Why it is being restarted; None while it runs.
        partitions: The partitions it works on, by topic.
        lag: How many of their records are not finished; None if that is not known yet.
        stalled: Seconds without progress while records wait that should not.
        vendor: The state of the vendor; None for the router and the ledger.
        oldest: When the oldest unfinished record was written to Kafka, RFC 3339; None without any, or if unknown.
        expires: When Kafka's retention removes the first unfinished record, RFC 3339; None as `oldest`.
        finished: Records finished per second in the last 5 minutes; None if not known yet.
        arrived: Records that arrived per second meanwhile.

    """

    name: str
    failing: str | None = None
    partitions: Mapping[str, Sequence[int]] = field(default_factory=dict)
    lag: int | None = None
    stalled: int = 0
    vendor: VendorStatus | None = None
    oldest: str | None = None
    expires: str | None = None
    finished: float | None = None
    arrived: float | None = None


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """The report of one process.

    Args:
        kind: `collector`, `router`, `forwarder` or `ledger`.
        host: The name of its machine.
        pid: Its process ID there.
        release: The version of Turnout.
        rules: The version of its rules.
        started: When it started, RFC 3339.
        reported: When it made this report, RFC 3339.
        pipelines: One for each of its consumers; empty for a collector.

    """

    kind: str
    host: str
    pid: int
    release: str
    rules: str
    started: str
    reported: str
    pipelines: Sequence[PipelineStatus] = ()

    def encode(self) -> bytes:
        """Encode the record's value."""
        return orjson.dumps({"v": STATUS_VERSION, **asdict(self)})

    @classmethod
    def decode(cls, value: bytes) -> "ProcessStatus":
        """Read a record's value; raises RecordError and NewerFormatError."""
        data = decode_object(value, STATUS_VERSION)
        try:
            return cls(**_known(cls, data) | {"pipelines": [_pipeline(each) for each in data["pipelines"]]})
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise RecordError(f"a report of a process cannot be read: {error}") from error


def _pipeline(data: Mapping[str, Any]) -> PipelineStatus:
    vendor = data["vendor"]
    if vendor is not None:
        vendor = VendorStatus(**_known(VendorStatus, vendor) | {"state": DeliveryState(vendor["state"])})
    return PipelineStatus(**_known(PipelineStatus, data) | {"vendor": vendor})


def _known(kind: type, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of `kind`; a newer writer may have added others."""
    return {name: data[name] for name in kind.__dataclass_fields__ if name in data}  # type: ignore[attr-defined]
