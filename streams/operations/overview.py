"""Put the reports of processes together, and find what an operator must do."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from streams.parsing.times import rfc3339, seconds_of
from streams.records.control import Control
from streams.records.status import DeliveryState, PipelineStatus, ProcessStatus, VendorStatus

SILENT_SECONDS = 35.0
"""Seconds without a report after which a process counts as silent: three reports are missing."""

STALLED_SECONDS = 60
"""Seconds without progress, with records waiting, after which an operator must act."""

ROUTER = "router"

_ORDER = (DeliveryState.DELIVERING, DeliveryState.FAILING, DeliveryState.REFUSED, DeliveryState.PAUSED)


@dataclass(frozen=True, slots=True)
class Share:
    """A pipeline of a process that reports."""

    process: ProcessStatus
    pipeline: PipelineStatus


@dataclass(frozen=True, slots=True)
class IntegrationOverview:
    """An integration over all processes that deliver to it.

    `lag` is None if nobody reports it. `vendor` is the worst state that a process reports, or None. `paused` says who
    paused it by hand.
    """

    name: str
    shares: Sequence[Share]
    paused: Control | None

    @property
    def lag(self) -> int | None:
        """How many records are not finished."""
        lags = [share.pipeline.lag for share in self.shares if share.pipeline.lag is not None]
        return sum(lags) if lags else None

    @property
    def vendor(self) -> VendorStatus | None:
        """The worst state of the vendor that a process reports."""
        vendors = [share.pipeline.vendor for share in self.shares if share.pipeline.vendor]
        return max(vendors, key=lambda vendor: _ORDER.index(vendor.state), default=None)


@dataclass(frozen=True, slots=True)
class Overview:
    """All that is reported; `problems` is what an operator must act on."""

    at: float
    alive: Mapping[str, ProcessStatus]
    silent: Mapping[str, ProcessStatus]
    integrations: Sequence[IntegrationOverview]
    problems: Sequence[str] = field(default_factory=tuple)

    def data(self, dead: int | None) -> dict[str, Any]:
        """Return JSON data; `dead` is the number of dead letters of the last hour, if it is known."""
        return {
            "at": rfc3339(self.at),
            "problems": list(self.problems),
            "processes": [
                {"id": key, "silent": key in self.silent, **asdict(process)}
                for key, process in sorted({**self.alive, **self.silent}.items())
            ],
            "integrations": [
                {
                    "name": row.name,
                    "lag": row.lag,
                    "vendor": asdict(row.vendor) if row.vendor else None,
                    "paused": asdict(row.paused) if row.paused else None,
                }
                for row in self.integrations
            ],
            "dead_last_hour": dead,
        }


def make_overview(
    reports: Mapping[str, ProcessStatus], integrations: Iterable[str], paused: Mapping[str, Control], at: float
) -> Overview:
    """Put reports together, as they are at a time in seconds since 1970."""
    alive = {key: it for key, it in reports.items() if at - seconds_of(it.reported) <= SILENT_SECONDS}
    silent = {key: it for key, it in reports.items() if key not in alive}
    shares = [Share(process, pipeline) for process in alive.values() for pipeline in process.pipelines]
    rows = [
        IntegrationOverview(name, [share for share in shares if share.pipeline.name == name], paused.get(name))
        for name in integrations
    ]
    problems = [*_missing(alive, silent, rows), *(problem for share in shares for problem in _problems(share))]
    # Several processes of an integration have the same problem with its vendor.
    return Overview(at, alive, silent, rows, tuple(dict.fromkeys(problems)))


def _missing(
    alive: Mapping[str, ProcessStatus], silent: Mapping[str, ProcessStatus], rows: Collection[IntegrationOverview]
) -> Iterable[str]:
    kinds = {process.kind for process in alive.values()}
    if ROUTER not in kinds:
        yield "no router reports: events are not routed"
    # There may be none by design: any producer can write events.
    if "collector" not in kinds and any(process.kind == "collector" for process in silent.values()):
        yield "no collector reports any more"
    for row in rows:
        if not row.shares:
            yield f"{row.name}: no forwarder reports"


def _problems(share: Share) -> Iterable[str]:
    pipeline, place = share.pipeline, f"{share.process.host}:{share.process.pid}"
    if pipeline.failing:
        yield f"{pipeline.name}: is failing on {place}, and restarted: {pipeline.failing}"
    if pipeline.stalled >= STALLED_SECONDS:
        yield f"{pipeline.name}: no progress on {place} for {pipeline.stalled} s, with records waiting"
    if pipeline.vendor and pipeline.vendor.state is DeliveryState.REFUSED:
        yield f"{pipeline.name}: {pipeline.vendor.reason}"
