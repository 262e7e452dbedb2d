"""What a worker reports about its pipelines."""

from time import monotonic
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from streams.delivery.flow.breaker import Breaker
from streams.operations.description import describe_worker
from streams.records.control import Control, ControlAction
from streams.records.status import PipelineStatus
from streams.worker.lag import Lag

FORWARD, RETRY = TP("forward.one", 0), TP("forward.one.retry", 0)


def worker(*pipelines: Any, **failures: str) -> Any:
    return SimpleNamespace(pipelines=pipelines, failures=failures)


def pipeline(*, still: float = 100.0, **more: Any) -> Any:
    return SimpleNamespace(
        **{
            "name": "one",
            "done": {FORWARD: 5, RETRY: 0},
            "paused_partitions": (),
            "progress": SimpleNamespace(moved_at=monotonic() - still),
            "vendor": None,
            "waits": lambda: False,
            **more,
        }
    )


class Measured:
    """A meter that has measured these lags."""

    def __init__(self, parts: dict[TP, int]) -> None:
        self.parts = parts

    def lag_of(self, name: str) -> Lag | None:
        its = [lag for part, lag in self.parts.items() if name in part.topic]
        return Lag(sum(its), 1000.0, 2000.0, 5.0, 4.0) if its else None


def described(pipeline: Any, lags: dict[TP, int]) -> PipelineStatus:
    (found,) = describe_worker(worker(pipeline), Measured(lags))
    return found


def test_partitions_and_lag():
    """The lag is the sum of all partitions; it is unknown until it was measured, and 0 without a partition."""
    status = described(pipeline(), {FORWARD: 3, RETRY: 4, TP("other", 0): 9})
    assert status.partitions == {"forward.one": [0], "forward.one.retry": [0]}
    assert (status.lag, status.finished, status.arrived) == (7, 5.0, 4.0)
    assert (status.oldest, status.expires) == ("1970-01-01T00:16:40.000Z", "1970-01-01T00:33:20.000Z")
    assert described(pipeline(), {}).lag is None
    assert described(pipeline(done={}), {}).lag == 0


@pytest.mark.parametrize(
    ("lags", "more", "stalls"),
    [
        ({FORWARD: 1}, {}, True),
        ({FORWARD: 0}, {}, False),
        ({RETRY: 1}, {"paused_partitions": (RETRY,)}, False),
        ({FORWARD: 1, RETRY: 1}, {"paused_partitions": (RETRY,)}, True),
        ({FORWARD: 1}, {"waits": lambda: True}, False),
    ],
)
def test_a_stall_is_a_lag_that_nobody_waits_for(lags: dict[TP, int], more: dict[str, Any], stalls: bool):
    """Retries that are to be tried later, and declared waits, are no stall."""
    assert (described(pipeline(**more), lags).stalled >= 100) is stalls


def test_paused_by_hand_is_no_stall():
    """Its lag grows by order."""
    breaker = Breaker("one", 3, 1, 5)
    assert described(pipeline(vendor=breaker), {FORWARD: 1}).stalled
    breaker.hold(Control(ControlAction.PAUSED, "ann", "t"))
    assert not described(pipeline(vendor=breaker), {FORWARD: 1}).stalled


def test_a_failing_pipeline_is_reported_with_its_reason():
    """While it is stopped, and until it runs steadily again."""
    stopped, running = worker(one="it crashed"), worker(pipeline(), one="it crashed")
    assert describe_worker(stopped, Measured({})) == [PipelineStatus("one", "it crashed")]
    (status,) = describe_worker(running, Measured({FORWARD: 2}))
    assert (status.failing, status.lag) == ("it crashed", 2)
