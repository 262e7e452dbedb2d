"""Measure the routing path's CPU time without Kafka: the real Router, and an instant producer.

    python -m tests.benchmarks.routing [OTHER_CHECKOUT] [--presets COUNT] [--names COUNT] [--rounds COUNT]

Decode, dedupe, decide, encode, and append to batches, for three integrations with rules of their own, or for as many
with presets. The first 3,000 events are not measured. Prints the CPU microseconds per event of this checkout, and those
of another one that is measured in turns with it, by median, with their ratio.
"""

import argparse
import asyncio
import math
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

EVENTS, RUN, WARM_UP_RUNS = 20_000, 500, 6


def measure(presets: int, names: int) -> float:
    """Return the CPU microseconds per event in this process."""
    count = EVENTS // (1 + presets // 10) // RUN * RUN
    warm = WARM_UP_RUNS * RUN
    from streams.kafka.offsets import OffsetTracker
    from streams.kafka.settings import Broker
    from streams.records.event import event_headers
    from streams.routing import router as routing
    from streams.routing.dedupe import Windows
    from streams.routing.ruleset import CurrentRules
    from streams.suppression.filter import SuppressedUsers
    from streams.suppression.follower import SuppressionFollower
    from streams.worker.gc_tuning import relax_gc
    from streams.worker.guard import Guard
    from tests.benchmarks.events import make_events
    from tests.benchmarks.router import TOPICS, rule_set
    from tests.support.local_producer import LocalProducer

    class Producer(LocalProducer):
        def _keep(self, *_: Any) -> None:
            """Keep nothing."""

    class Nobody(SuppressionFollower):
        async def catch_up(self) -> None:
            """Do nothing: no user is suppressed."""

    relax_gc()
    # Turns of the event loop end batches here, and a busy machine would make many.
    routing.YIELD_SECONDS = math.inf
    tp, headers = (TOPICS.events, 0), tuple(event_headers("web"))
    records = [
        SimpleNamespace(
            topic=tp[0], partition=0, offset=number, timestamp=0, headers=headers, key=b"user-%d" % number, value=value
        )
        for number, value in enumerate(make_events(0, warm + count, names))
    ]

    async def work() -> float:
        failed: list[Exception] = []
        router = routing.Router(
            CurrentRules(rule_set(presets)),
            TOPICS,
            Producer(),
            Windows(Broker(), 100_000, "b", TOPICS),
            Nobody(Broker(), TOPICS.suppressed, SuppressedUsers(), "b"),
            Guard("router", failed.append),
            time.time,
        )
        progress = OffsetTracker(1 << 40)
        runs = [progress.open(tp, records[first : first + RUN]) for first in range(0, warm + count, RUN)]
        used = 0.0
        for number, run in enumerate(runs):
            if number == WARM_UP_RUNS:
                used = time.process_time()
            await router.work(run)
            await asyncio.sleep(0)
        while progress.committable(tp) != warm + count:
            await asyncio.sleep(0)
        used = time.process_time() - used
        assert not failed
        return used / count * 1e6

    return asyncio.run(work())


def measure_in(checkout: Path, presets: int, names: int) -> float:
    """Measure another process, with the code of a checkout."""
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    options = ["--presets", str(presets), "--names", str(names)]
    command = [sys.executable, "-P", str(Path(__file__).resolve()), str(checkout), "--measure", *options]
    return float(subprocess.run(command, env=environment, cwd=checkout, check=True, capture_output=True).stdout)


def compare(other: Path | None, presets: int, names: int, rounds: int) -> None:
    """Measure this checkout and the other one in turns, and print the figures."""
    own = Path(__file__).resolve().parents[2]
    found: dict[Path, list[float]] = {own: [], **({other: []} if other else {})}
    for _ in range(rounds):
        for checkout, times in found.items():
            times.append(measure_in(checkout, presets, names))
    for checkout, times in found.items():
        median = statistics.median(times)
        print(f"{checkout}: {median:.1f} us per event, from {min(times):.1f} to {max(times):.1f}")
    if other:
        ratios = [mine / theirs for mine, theirs in zip(found[own], found[other], strict=True)]
        least = min(found[own]) / min(found[other])
        print(f"ratio to the other: {statistics.median(ratios):.3f}, of the least {least:.3f}")


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser()
    parser.add_argument("other", type=Path, nargs="?")
    parser.add_argument("--presets", type=int, default=0)
    parser.add_argument("--names", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--measure", action="store_true")
    given = parser.parse_args()
    if given.measure:
        import streams

        assert Path(streams.__file__).is_relative_to(given.other), streams.__file__
        print(measure(given.presets, given.names))
    else:
        compare(given.other and given.other.resolve(), given.presets, given.names, given.rounds)


if __name__ == "__main__":
    main()
