"""Measure enrichments: CPU microseconds per event, each alone and all together.

    python -m tests.benchmarks.enrichment [EVENTS A RUN]

The event is a browser's page call with client hints, utm parameters and a click ID. *Cached*: events come from 1,000
returning visitors. *New*: each event has a new address, user agent, URL and referrer. Only the time of the steps is
measured; each step gets the event from the step before it.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson

from streams.events import Event
from streams.steps.enrichment import registry
from streams.steps.enrichment.files import Files
from streams.steps.enrichment.memory import MEMORY
from streams.steps.enrichment.step import EnrichmentStep
from streams.steps.step import run_steps
from tests.streams.steps.enrichment.conftest import write_places

LIMITS = {"cached": 25.0, "new": 250.0}
"""Microseconds that all together may cost."""

RUNS = 100

SETTINGS: dict[str, dict[str, Any]] = {
    "geo": {"database": "places.mmdb"},
    "lookup": {"tables": [{"file": "plans.csv", "key": "properties.plan", "into": "properties.details"}]},
}


def page(number: int) -> Event:
    """Return a page call of visitor `number`."""
    address = f"203.0.{113 if number % 2 else number % 250}.{number % 250}"
    if number > 60_000:
        address = f"2001:db8:{number % 65536:x}:{number // 65536:x}::1"
    return {
        "type": "page",
        "anonymousId": f"a-{number}",
        "messageId": f"ajs-next-1767323045678-{number}",
        "timestamp": "2026-03-01T12:05:00.000Z",
        "sentAt": "2026-03-01T12:05:10.000Z",
        "receivedAt": "2026-03-01T12:00:10.250Z",
        "properties": {"title": "Coffee, 1 kg", "path": f"/products/{number}", "plan": "pro"},
        "context": {
            "ip": address,
            "locale": "en-GB",
            "library": {"name": "analytics.js", "version": "next-1.84.3"},
            "userAgent": "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
            f"Chrome/141.0.{number}.0 Safari/537.36",
            "userAgentData": {
                "brands": [{"brand": "Not?A_Brand", "version": "8"}, {"brand": "Google Chrome", "version": "141"}],
                "mobile": False,
                "platform": "Windows",
            },
            "page": {
                "url": f"https://shop.example.com/products/{number}?utm_source=news&utm_medium=email&gclid=Cj0K{number}",
                "referrer": f"https://www.google.com/search?q={number}",
                "title": "Coffee, 1 kg",
            },
        },
    }


def make_steps(folder: Path) -> list[EnrichmentStep]:
    """Make all of Turnout's enrichments, with an address database and a table."""
    write_places(folder / "places.mmdb")
    (folder / "plans.csv").write_text("plan,price,tier\nbasic,9.00,1\npro,29.00,2\n")
    files = Files(folder)
    return [
        registry.make_step(each, each.settings.model_validate(SETTINGS.get(each.name, {})), files)
        for each in registry.BUILT_IN
        if each is not MEMORY  # tests.benchmarks.memory measures it
    ]


def no_note(reason: str, detail: str) -> None:
    raise AssertionError(f"{reason}: {detail}")


def each(steps: Sequence[EnrichmentStep], events: list[Event]) -> list[float]:
    """Return the CPU microseconds per event, by step."""
    spent = []
    for step in steps:
        began = time.process_time_ns()
        for event in events:
            step(event, no_note)
        spent.append((time.process_time_ns() - began) / len(events) / 1000)
    return spent


def together(steps: Sequence[EnrichmentStep], events: list[Event]) -> list[float]:
    """Return the CPU microseconds of all steps, one event at a time as in the router."""
    began = time.process_time_ns()
    for event in events:
        run_steps(steps, event, no_note)
    return [(time.process_time_ns() - began) / len(events) / 1000]


def measure(steps: Sequence[EnrichmentStep], make: Callable[[int], list[Event]]) -> list[float]:
    """Return the minimum of several runs by step and for all steps, since other load only adds time.

    Each run has events of its own.
    """
    runs = [each(steps, make(2 * turn)) + together(steps, make(2 * turn + 1)) for turn in range(RUNS)]
    return [min(column) for column in zip(*runs, strict=True)]


def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        steps = make_steps(Path(name))
        visitors = [orjson.dumps(page(number)) for number in range(1000)]
        together(steps, [orjson.loads(visitor) for visitor in visitors])
        cached = measure(steps, lambda turn: [orjson.loads(visitors[(turn + i) % 1000]) for i in range(count)])
        uncached = measure(steps, lambda turn: [page(100_000 + turn * count + i) for i in range(count)])
    print("| enrichment | cached | new |\n| --- | --- | --- |")
    for title, fast, slow in zip([*(f"`{step.name}`" for step in steps), "all"], cached, uncached, strict=True):
        print(f"| {title.replace('enrich.', '')} | {fast:.1f} | {slow:.1f} |")
    print(f"at most {LIMITS['cached']:.0f} and {LIMITS['new']:.0f} µs are wanted")
    sys.exit(cached[-1] > LIMITS["cached"] or uncached[-1] > LIMITS["new"])


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 50)
