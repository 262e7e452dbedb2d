"""The guard: failures are written after a moment, unless the worker is broken."""

import asyncio

import pytest
import structlog
from prometheus_client import REGISTRY

from streams.observability.internal_error import describe
from streams.worker.guard import WINDOW_RECORDS, BrokenWorkerError, Guard

pytestmark = pytest.mark.anyio


class Bench:
    """A guard with a fake clock, and its writes and reports."""

    def __init__(self) -> None:
        self.now = 0.0
        self.written: list[int] = []
        self.errors: list[Exception] = []
        self.guard = Guard("bench", self.errors.append, lambda: self.now)

    def take(self, pattern: str) -> None:
        """Handle a record per character: `x` fails, anything else passes."""
        for number, character in enumerate(pattern):
            if character == "x":
                self.guard.failed(ValueError("personal data"), lambda number=number: self.written.append(number))
            else:
                self.guard.passed()


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr("streams.worker.guard.HOLD_SECONDS", 10.0)
    return Bench()


async def test_a_failure_is_written_once_the_hold_is_over(bench: Bench):
    """Not before; records that pass meanwhile do not wait."""
    bench.take("x..")
    assert not bench.written
    bench.now = 9.9
    bench.take(".")
    assert not bench.written
    bench.now = 10.0
    bench.take(".")
    assert bench.written == [0]


async def test_the_last_failure_of_a_quiet_topic_is_written(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """Without another record a timer writes it, also when all of the few records failed."""
    monkeypatch.setattr("streams.worker.guard.HOLD_SECONDS", 0.01)
    bench.guard = Guard("bench", bench.errors.append)
    bench.take("xxx")
    async with asyncio.timeout(60):
        while len(bench.written) < 3:
            await asyncio.sleep(0.001)


async def test_failures_are_held_while_most_records_fail(bench: Bench):
    """A broken worker with little traffic writes nothing; 5 minutes are the longest that it holds."""
    for bench.now in range(300):
        bench.take("x")
    assert not bench.written
    bench.now = 300.0
    bench.take("x")
    assert bench.written == [0]


async def test_a_thousand_records_later_a_failure_is_written_at_once(bench: Bench):
    """An old failure leaves the window, and the number of held failures is bounded."""
    bench.take("x" + "." * (WINDOW_RECORDS - 1))
    assert bench.written == [0]


@pytest.mark.parametrize("pattern", ["x" * 501, "." * 5000 + "x" * 501, "x" + "x." * 499 + "x"])
async def test_more_than_half_of_a_thousand_is_a_broken_worker(bench: Bench, pattern: str):
    """It is reported once, and nothing that is held is written, then or later."""
    bench.take(pattern)
    assert [type(error) for error in bench.errors] == [BrokenWorkerError]
    assert bench.guard.broken
    bench.now = 1000.0
    bench.take("x.x")
    bench.guard.flush()
    assert not bench.written
    assert len(bench.errors) == 1


@pytest.mark.parametrize("pattern", ["x." * 3000, "x" * 500 + "." * 500 + "x" * 500, "." * 400 + "x" * 500])
async def test_half_of_a_thousand_is_none(bench: Bench, pattern: str):
    """However many records have passed by then."""
    bench.take(pattern)
    assert not bench.errors


async def test_a_stop_writes_what_is_held_unless_most_records_fail(bench: Bench):
    """Failures held at an orderly stop are not repeated; those of a broken worker are redelivered."""
    bench.take("x..")
    bench.guard.flush()
    assert bench.written == [0]
    bench.take("xx.")
    bench.guard.flush()
    assert bench.written == [0]


async def test_a_write_that_fails_is_reported(bench: Bench):
    """The record stays uncommitted, and the worker stops."""

    def write() -> None:
        raise KeyError

    bench.guard.failed(ValueError(), write)
    bench.take(".")
    bench.guard.flush()
    assert [type(error) for error in bench.errors] == [KeyError]


async def test_failures_are_counted_and_logged_without_their_text(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """The metric has the worker; the log has type and place of the error, and the place of the record."""
    logged = structlog.testing.CapturingLogger()
    monkeypatch.setattr("streams.worker.guard.log", logged)
    before = REGISTRY.get_sample_value("turnout_internal_failures_total", {"worker": "bench"}) or 0
    try:
        raise ValueError("personal data")  # noqa: TRY301
    except ValueError as error:
        bench.guard.failed(error, lambda: None, topic="t", partition=1, offset=7)
    assert REGISTRY.get_sample_value("turnout_internal_failures_total", {"worker": "bench"}) == before + 1
    (call,) = logged.calls
    assert call.method_name == "error"
    assert call.kwargs["reason"].startswith("ValueError at worker/test_guard.py:")
    assert (call.kwargs["topic"], call.kwargs["partition"], call.kwargs["offset"]) == ("t", 1, 7)
    assert "personal data" not in str(call)


def test_an_error_without_a_place_is_its_type():
    """As one that was never raised."""
    assert describe(ValueError("personal data")) == "ValueError"
