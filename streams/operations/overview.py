"""Combine the reports of processes, and find the problems that an operator must act on."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import isinf
from typing import Any, NamedTuple

from streams.parsing.times import rfc3339, seconds_of
from streams.records.control import Control
from streams.records.status import DeliveryState, PipelineStatus, ProcessStatus, VendorStatus

SILENT_SECONDS = 35.0
"""Seconds without a report after which a process counts as silent: three reports are missing."""

STALLED_SECONDS = 60
"""Seconds without progress, with records waiting, after which an operator must act."""

MIN_HOURS_LEFT = 24.0
"""Hours until retention removes unfinished records below which an operator must act, and at most this share of it:"""

MIN_SHARE_LEFT = 0.25

ROUTER = "router"

_ORDER = (DeliveryState.DELIVERING, DeliveryState.FAILING, DeliveryState.REFUSED, DeliveryState.PAUSED)


class OperatorTask(NamedTuple):
    """A problem that an operator must act on, and the action."""

    what: str
    action: str


@dataclass(frozen=True, slots=True)
class Share:
    """A pipeline of a process that reports."""

    process: ProcessStatus
    pipeline: PipelineStatus


@dataclass(frozen=True, slots=True)
class PipelineOverview:
    """The router or an integration, over all processes that work on it.

    `paused` says who paused the integration by hand.
    """

    name: str
    shares: Sequence[Share]
    paused: Control | None = None

    @property
    def lag(self) -> int | None:
        """The number of unfinished records; None if no process reports it."""
        lags = [share.pipeline.lag for share in self.shares if share.pipeline.lag is not None]
        return sum(lags) if lags else None

    @property
    def oldest(self) -> float | None:
        """When the oldest unfinished record was written to Kafka, in seconds since 1970; None without any."""
        return min((seconds_of(at) for share in self.shares if (at := share.pipeline.oldest)), default=None)

    @property
    def expires(self) -> float | None:
        """When Kafka's retention removes the first unfinished record, in seconds since 1970; None without any."""
        return min((seconds_of(at) for share in self.shares if (at := share.pipeline.expires)), default=None)

    @property
    def drain_seconds(self) -> float | None:
        """Seconds until the lag is drained at the rates of the last minutes; infinite if it grows, None if unknown."""
        rates = [
            (share.pipeline.finished, share.pipeline.arrived)
            for share in self.shares
            if share.pipeline.finished is not None and share.pipeline.arrived is not None
        ]
        if self.lag is None or not rates:
            return None
        if not self.lag:
            return 0.0
        shrinks = sum(finished - arrived for finished, arrived in rates)
        return self.lag / shrinks if shrinks > 0 else float("inf")

    @property
    def vendor(self) -> VendorStatus | None:
        """The worst state of the vendor that a process reports."""
        vendors = [share.pipeline.vendor for share in self.shares if share.pipeline.vendor]
        return max(vendors, key=lambda vendor: _ORDER.index(vendor.state), default=None)

    def data(self, at: float) -> dict[str, Any]:
        """Return JSON data for a time in seconds since 1970."""
        age = 0.0 if self.oldest is None else max(0.0, at - self.oldest)
        drain = self.drain_seconds
        return {
            "name": self.name,
            "lag": self.lag,
            "lag_seconds": None if self.lag is None else round(age, 1),
            "drain_seconds": None if drain is None or isinf(drain) else round(drain, 1),
            "growing": drain is not None and isinf(drain),
            "retention_hours_left": None if self.expires is None else round(max(0.0, self.expires - at) / 3600, 2),
            "vendor": asdict(self.vendor) if self.vendor else None,
            "paused": asdict(self.paused) if self.paused else None,
        }


@dataclass(frozen=True, slots=True)
class Overview:
    """The combined reports; `problems` lists the problems that an operator must act on."""

    at: float
    alive: Mapping[str, ProcessStatus]
    silent: Mapping[str, ProcessStatus]
    router: PipelineOverview
    integrations: Sequence[PipelineOverview]
    problems: Sequence[OperatorTask] = field(default_factory=tuple)

    def data(self, dead: int | None) -> dict[str, Any]:
        """Return JSON data; `dead` is the number of dead letters of the last hour, if it is known."""
        return {
            "at": rfc3339(self.at),
            "problems": [problem._asdict() for problem in self.problems],
            "processes": [
                {"id": key, "silent": key in self.silent, **asdict(process)}
                for key, process in sorted({**self.alive, **self.silent}.items())
            ],
            "router": self.router.data(self.at),
            "integrations": [row.data(self.at) for row in self.integrations],
            "dead_last_hour": dead,
        }

    @property
    def rows(self) -> Sequence[PipelineOverview]:
        """The router, then the integrations."""
        return (self.router, *self.integrations)


def make_overview(
    reports: Mapping[str, ProcessStatus], integrations: Iterable[str], paused: Mapping[str, Control], at: float
) -> Overview:
    """Combine reports at a time, in seconds since 1970."""
    alive = {key: it for key, it in reports.items() if at - seconds_of(it.reported) <= SILENT_SECONDS}
    silent = {key: it for key, it in reports.items() if key not in alive}
    shares = [Share(process, pipeline) for process in alive.values() for pipeline in process.pipelines]
    rows = [
        PipelineOverview(name, [share for share in shares if share.pipeline.name == name], paused.get(name))
        for name in integrations
    ]
    router = PipelineOverview(
        ROUTER, [share for share in shares if share.process.kind == ROUTER and share.pipeline.name == ROUTER]
    )
    problems = [
        *_missing(alive, silent, rows),
        *(problem for share in shares for problem in _problems(share)),
        *(problem for row in (router, *rows) for problem in _expiring(row, at)),
    ]
    # Several processes of an integration have the same problem with its vendor.
    return Overview(at, alive, silent, router, rows, tuple(dict.fromkeys(problems)))


def _missing(
    alive: Mapping[str, ProcessStatus], silent: Mapping[str, ProcessStatus], rows: Collection[PipelineOverview]
) -> Iterable[OperatorTask]:
    kinds = {process.kind for process in alive.values()}
    if ROUTER not in kinds:
        yield OperatorTask("no router reports: events are not routed", "start one: turnout router")
    # There may be none by design: any producer can write events, and a ledger is optional.
    for kind in ("collector", "ledger"):
        if kind not in kinds and any(process.kind == kind for process in silent.values()):
            yield OperatorTask(f"no {kind} reports any more", f"start one: turnout {kind}")
    for row in rows:
        if not row.shares:
            yield OperatorTask(f"{row.name}: no forwarder reports", f"start one: turnout forwarder {row.name}")


def _problems(share: Share) -> Iterable[OperatorTask]:
    pipeline, place = share.pipeline, f"{share.process.host}:{share.process.pid}"
    if pipeline.failing:
        yield OperatorTask(
            f"{pipeline.name}: is failing on {place}, and restarted: {pipeline.failing}", "see the log of this process"
        )
    if pipeline.stalled >= STALLED_SECONDS:
        yield OperatorTask(
            f"{pipeline.name}: no progress on {place} for {pipeline.stalled} s, with records waiting",
            "see its log; its watchdog ends it after 180 s",
        )
    if pipeline.vendor and pipeline.vendor.state is DeliveryState.REFUSED:
        yield OperatorTask(
            f"{pipeline.name}: {pipeline.vendor.reason}",
            f"renew the credentials (OAuth: turnout authorize {pipeline.name}), and restart the forwarder",
        )


def _expiring(row: PipelineOverview, at: float) -> Iterable[OperatorTask]:
    if row.expires is None or row.oldest is None:
        return
    left, whole = (row.expires - at) / 3600, (row.expires - row.oldest) / 3600
    if left < min(MIN_HOURS_LEFT, MIN_SHARE_LEFT * whole):
        action = "raise retention.ms of its topics in Kafka"
        if row.paused:
            action = f"resume it (turnout resume {row.name}), or {action}"
        yield OperatorTask(f"{row.name}: retention removes unfinished records in {max(0.0, left):.1f} h", action)
