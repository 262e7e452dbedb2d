"""Describe the pipelines of a worker for its report."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from time import monotonic
from typing import Protocol

from faust.types import TP

from streams.parsing.times import rfc3339
from streams.records.status import DeliveryState, PipelineStatus
from streams.worker.lag import Lag
from streams.worker.pipeline import ConsumerPipeline
from streams.worker.worker import Worker


class Meter(Protocol):
    """Measures the lag of pipelines."""

    @property
    def parts(self) -> Mapping[TP, int]:
        """Return the lag of each partition in records, as far as it is known."""

    def lag_of(self, name: str) -> Lag | None:
        """Return the lag of a pipeline; None if it is not measured yet."""


def describe_worker(worker: Worker, meter: Meter) -> list[PipelineStatus]:
    """Describe the pipelines of a worker; `meter` measures their lag."""
    running = [_describe(pipeline, worker.failures.get(pipeline.name), meter) for pipeline in worker.pipelines]
    names = {pipeline.name for pipeline in running}
    restarting = [PipelineStatus(name, why) for name, why in worker.failures.items() if name not in names]
    return running + restarting


def with_lag(status: PipelineStatus, lag: Lag | None) -> PipelineStatus:
    """Add a measured lag to the status of a pipeline."""
    if lag is None:
        return status
    oldest, expires = (rfc3339(at) if at is not None else None for at in (lag.oldest, lag.expires))
    return replace(status, lag=lag.records, oldest=oldest, expires=expires, finished=lag.finished, arrived=lag.arrived)


def _describe(pipeline: ConsumerPipeline, failing: str | None, meter: Meter) -> PipelineStatus:
    parts, lags = pipeline.done.keys(), meter.parts
    waiting = any(lags.get(part) for part in parts if part not in pipeline.paused_partitions)
    still = monotonic() - pipeline.progress.moved_at
    vendor = pipeline.vendor.status if pipeline.vendor else None
    held = vendor is not None and vendor.state is DeliveryState.PAUSED
    stalled = int(still) if waiting and not held and not pipeline.waits() else 0
    lag = meter.lag_of(pipeline.name)
    if parts and not any(part in lags for part in parts):
        lag = None  # the partitions were assigned after the last measurement
    status = PipelineStatus(pipeline.name, failing, by_topic(parts), 0 if not parts else None, stalled, vendor)
    return with_lag(status, lag if parts else None)


def by_topic(parts: Iterable[TP]) -> dict[str, list[int]]:
    """Return the numbers of partitions by topic, in order."""
    found: dict[str, list[int]] = {}
    for part in sorted(parts):
        found.setdefault(part.topic, []).append(part.partition)
    return found
