"""The router's CPU for run headers: the routing path without Kafka, with and without them, in turns.

    python -m tests.benchmarks.run_header [TURNS]

Three integrations, validation, dedupe and outcomes included. The facts are also gathered without headers; their cost is
measured alone and added.
"""

import asyncio
import statistics
import sys
import time
from unittest.mock import patch

import orjson

from streams.kafka.offsets import OffsetTracker
from streams.kafka.settings import Broker
from streams.ledger.outcome_buffer import OutcomeBuffer
from streams.records.outcomes import Stage
from streams.routing.dedupe import Windows
from streams.routing.router import Router
from streams.routing.ruleset import CurrentRules
from streams.sources.source import Source
from streams.suppression.filter import SuppressedUsers
from streams.worker.guard import Guard
from tests.benchmarks.events import make_events
from tests.benchmarks.router import TOPICS, rule_set
from tests.support.in_process import Nobody
from tests.support.local_producer import LocalProducer, LocalRecord

RUN = 500
RUNS = 12


async def route(records: list[list[LocalRecord]]) -> float:
    """Route runs with a new router; returns the CPU seconds."""
    producer = LocalProducer()
    router = Router(
        CurrentRules(rule_set()),
        TOPICS,
        producer,
        Windows(Broker(), 20_000, "bench", TOPICS),
        Nobody(Broker(), TOPICS.suppressed, SuppressedUsers(), "bench"),
        Guard("router", print),
        time.time,
    )
    progress, used = OffsetTracker(), 0.0
    for some in records:
        run = progress.open((TOPICS.events, 0), some)
        began = time.process_time()
        await router.work(run)
        used += time.process_time() - began
        while not run.finished:
            await asyncio.sleep(0)
        producer.records.clear()
    return used


def cost_of_facts() -> float:
    """Return the CPU seconds per event for gathering the facts of a header."""
    event = orjson.loads(make_events(0, 1)[0])
    source, turns = Source.of("web", []), 1000
    message_id = event["messageId"]
    began = time.process_time()
    for _ in range(turns):
        tally = OutcomeBuffer(Stage.ROUTER, TOPICS.events, 0, "v1")
        for offset in range(RUN):
            tally.read.append((offset, message_id, source.name, event["type"], event.get("event")))
    return (time.process_time() - began) / turns / RUN


def main(turns: int) -> None:
    values = make_events(0, RUN * RUNS)
    records = [
        [
            LocalRecord(
                TOPICS.events, 0, offset, 1_767_323_045_678, b"user-%d" % (offset % 10_000), values[offset],
                (("turnout-source", b"web"),),
            )
            for offset in range(start, start + RUN)
        ]
        for start in range(0, RUN * RUNS, RUN)
    ]  # fmt: skip
    facts = cost_of_facts() * RUN * RUNS
    ratios, with_headers = [], []
    asyncio.run(route(records))
    for _ in range(turns):
        with patch("streams.ledger.outcome_buffer.encode_run", lambda *_: iter(())):
            without = asyncio.run(route(records)) - facts
        with_headers.append(asyncio.run(route(records)))
        ratios.append(with_headers[-1] / without)
    figures = {
        "router with headers, events per CPU-second": round(RUN * RUNS / statistics.median(with_headers)),
        f"more CPU for headers, %, median of {turns}": round((statistics.median(ratios) - 1) * 100, 2),
        "facts, microseconds per event": round(facts / RUN / RUNS * 1e6, 3),
    }
    print(orjson.dumps(figures, option=orjson.OPT_INDENT_2).decode())


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 15)
