"""Measure the enrichment `memory`: CPU microseconds per event, and memory and CPU for a million users.

    python -m tests.benchmarks.memory [USERS]

*Known*: a page call of a visitor whose remembered values are unchanged, as for most events. *New*: a page call of an
unknown visitor, whose entry is encrypted and written. *Completed*: a server's purchase that gets the values. *Read
back*: a router's work per record when it is assigned a partition. Without Kafka.
"""

import sys
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

from streams.consent.policy import ConsentSettings
from streams.events import Event
from streams.records.memory import MemoryCipher, MemoryKey
from streams.routing.memory import MemoryLimits, MemoryTable
from streams.steps.enrichment.memory import MemorySettings, MemoryStep, VisitorMemory, make_memory_step

EVENTS = 20_000
CONSENT = {"consent": {"categoryPreferences": {"advertising": True}}}
LIMIT = 200.0
"""Microseconds that an event may cost."""


def page(number: int) -> Event:
    """Return a page call of visitor `number` with a browser's IDs."""
    return {
        "type": "page",
        "anonymousId": f"visitor-{number}",
        "messageId": f"m-{number}",
        "integrations": {
            "meta": {"fbp": f"fb.1.1790000000000.{number:010}", "fbc": f"fb.1.1790000000000.IwAR0{number:060}"},
            "ga4": {"client_id": f"{number:010}.1790000000", "session_id": "1790000000"},
            "google_ads": {"gclid": f"EAIaIQobChMI{number:080}"},
        },
        "context": {**CONSENT, "clickIds": {"gclid": f"EAIaIQobChMI{number:080}", "fbclid": f"IwAR0{number:060}"}},
    }


def purchase(number: int) -> Event:
    return {
        "type": "track",
        "event": "Order Completed",
        "anonymousId": f"visitor-{number}",
        "properties": {"revenue": 1},
        "context": dict(CONSENT),
    }


def make_table(users: int) -> MemoryTable:
    cipher = MemoryCipher("a secret of sixteen")
    return MemoryTable(0, cipher, MemoryLimits(30 * 24 * 3600, users), lambda _: 0)


def measure(step: MemoryStep, make: Callable[[int], Event], numbers: range) -> float:
    """Return the CPU microseconds per event."""
    events = [make(number) for number in numbers]
    began = time.process_time_ns()
    for event in events:
        step(event, lambda *_: None)
    return (time.process_time_ns() - began) / len(events) / 1000


def read_back(records: list[Any], users: int, keep: list[MemoryTable] | None = None) -> float:
    """Return the CPU seconds for the records of `users`."""
    table = make_table(users)
    if keep is not None:
        keep.append(table)
    began = time.process_time()
    for turn in range(users):
        key, value = records[turn % len(records)]
        # Each has a digest and a value of its own, as records that are read from Kafka.
        encoded = key._replace(digest=turn.to_bytes(16, "big")).encode()
        table.take(MemoryKey.decode(encoded), bytes(bytearray(value)), 0, live=False)
    return time.process_time() - began


def main(users: int) -> None:
    table, memory = make_table(users + EVENTS), VisitorMemory()
    step = make_memory_step(MemorySettings(consent=("advertising",)), ConsentSettings(), None, memory)
    memory.opened = table.at(1_790_000_000)
    costs = {
        "new": measure(step, page, range(EVENTS)),
        "known": measure(step, page, range(EVENTS)),
        "completed": measure(step, purchase, range(EVENTS)),
    }
    records: list[Any] = [(key, value) for _, key, value in table.take_writes()]
    spent = read_back(records, users)
    tracemalloc.start()
    kept: list[MemoryTable] = []
    read_back(records, users, kept)
    held, _ = tracemalloc.get_traced_memory()
    for name, cost in costs.items():
        print(f"{name}: {cost:.1f} µs an event")
    million = 1_000_000 / users
    print(f"a million users: {held * million / 1e6:,.0f} MB, {spent * million:.1f} s to read back, ", end="")
    print(f"{len(records[0][1])} bytes a value")
    sys.exit(max(costs.values()) > LIMIT)


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 100_000)
