"""The routing path's CPU time without Kafka: the real Router, a producer that confirms at once, three integrations.

    python -m tests.benchmarks.routing [OTHER_CHECKOUT]

Decode, dedupe, decide, encode, and append to batches. Prints the CPU microseconds per event of this checkout, and those
of another one that is measured in turns with it, by median, with their ratio.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

EVENTS, ROUNDS, RUN = 20_000, 15, 500


def measure() -> float:
    """CPU microseconds per event, in this process."""
    from streams.kafka.offsets import OffsetTracker
    from streams.kafka.settings import Broker
    from streams.records.event import event_headers
    from streams.routing.dedupe import Windows
    from streams.routing.router import Router
    from streams.routing.ruleset import CurrentRules
    from streams.suppression.filter import SuppressedUsers
    from streams.suppression.follower import SuppressionFollower
    from streams.worker.gc_tuning import relax_gc
    from streams.worker.guard import Guard
    from tests.benchmarks.events import purchases
    from tests.benchmarks.router import TOPICS, rule_set
    from tests.support.local_producer import LocalProducer

    class Producer(LocalProducer):
        def _keep(self, *_: Any) -> None:
            """Keep nothing."""

    class Nobody(SuppressionFollower):
        async def catch_up(self) -> None:
            """No user is suppressed."""

    relax_gc()
    tp, headers = (TOPICS.events, 0), tuple(event_headers("web"))
    records = [
        SimpleNamespace(
            topic=tp[0], partition=0, offset=number, timestamp=0, headers=headers, key=b"user-%d" % number, value=value
        )
        for number, value in enumerate(purchases(0, EVENTS))
    ]

    async def work() -> float:
        failed: list[Exception] = []
        router = Router(
            CurrentRules(rule_set()),
            TOPICS,
            Producer(),
            Windows(Broker(), 100_000, "b", TOPICS),
            Nobody(Broker(), TOPICS.suppressed, SuppressedUsers(), "b"),
            Guard("router", failed.append),
            time.time,
        )
        progress = OffsetTracker(1 << 40)
        runs = [progress.open(tp, records[first : first + RUN]) for first in range(0, EVENTS, RUN)]
        used = time.process_time()
        for run in runs:
            await router.work(run)
            await asyncio.sleep(0)
        while progress.committable(tp) != EVENTS:
            await asyncio.sleep(0)
        used = time.process_time() - used
        assert not failed
        return used / EVENTS * 1e6

    return asyncio.run(work())


def measure_in(checkout: Path) -> float:
    """Measure another process, with the code of a checkout."""
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    command = [sys.executable, "-P", str(Path(__file__).resolve()), "--measure", str(checkout)]
    return float(subprocess.run(command, env=environment, cwd=checkout, check=True, capture_output=True).stdout)


def main(other: Path | None) -> None:
    own = Path(__file__).resolve().parents[2]
    found: dict[Path, list[float]] = {own: [], **({other: []} if other else {})}
    for _ in range(ROUNDS):
        for checkout, times in found.items():
            times.append(measure_in(checkout))
    for checkout, times in found.items():
        print(f"{checkout}: {statistics.median(times):.1f} us per event, at least {min(times):.1f}")
    if other:
        ratios = [mine / theirs for mine, theirs in zip(found[own], found[other], strict=True)]
        least = min(found[own]) / min(found[other])
        print(f"ratio to the other: {statistics.median(ratios):.3f}, of the least {least:.3f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        import streams

        assert Path(streams.__file__).is_relative_to(sys.argv[2]), streams.__file__
        print(measure())
    else:
        main(Path(sys.argv[1]).resolve() if sys.argv[1:] else None)
