"""Describe the pipelines of a worker for its report."""

from collections.abc import Mapping
from time import monotonic

from faust.types import TP

from streams.records.status import DeliveryState, PipelineStatus
from streams.worker.pipeline import ConsumerPipeline
from streams.worker.worker import Worker


def describe_worker(worker: Worker, lags: Mapping[TP, int]) -> list[PipelineStatus]:
    """Describe the pipelines of a worker; `lags` are those of their partitions, as far as they are known."""
    running = [_describe(pipeline, worker.failures.get(pipeline.name), lags) for pipeline in worker.pipelines]
    names = {pipeline.name for pipeline in running}
    restarting = [PipelineStatus(name, why) for name, why in worker.failures.items() if name not in names]
    return running + restarting


def _describe(pipeline: ConsumerPipeline, failing: str | None, lags: Mapping[TP, int]) -> PipelineStatus:
    parts = pipeline.done.keys()
    partitions: dict[str, list[int]] = {}
    for part in sorted(parts):
        partitions.setdefault(part.topic, []).append(part.partition)
    known = [lags[part] for part in parts if part in lags]
    waiting = any(lags.get(part) for part in parts if part not in pipeline.paused_partitions)
    still = monotonic() - pipeline.progress.moved_at
    vendor = pipeline.vendor.status if pipeline.vendor else None
    held = vendor is not None and vendor.state is DeliveryState.PAUSED
    return PipelineStatus(
        pipeline.name,
        failing,
        partitions,
        sum(known) if known or not parts else None,
        int(still) if waiting and not held and not pipeline.waits() else 0,
        vendor,
    )
