"""Measure the memory per remembered messageId and per suppressed user, and the time of a lookup.

    python -m tests.benchmarks.digests [ENTRIES]

A messageId is in a router's window, a user in the list that was read from Kafka. Without Kafka.
"""

import sys
import time
import tracemalloc
from collections.abc import Callable
from hashlib import sha256

import orjson

from streams.digest_table import DIGEST_BYTES
from streams.routing.dedupe import Window
from streams.suppression.filter import SuppressedUsers

LIMIT = 48.0
"""Bytes that an entry may need."""

LOOKUPS = 10_000


def fill_window(count: int) -> Callable[[int], object]:
    window = Window(count + 1)
    for number in range(count):
        window.repeats("web", f"ajs-next-{number:032x}", number)
    return lambda number: window.repeats("web", f"ajs-next-{number:032x}", number)


def fill_users(count: int) -> Callable[[int], object]:
    users = SuppressedUsers()
    for number in range(count):
        users.take(sha256(b"%d" % number).hexdigest().encode(), b"{}")
    return lambda number: str(number) in users


def measure(fill: Callable[[int], Callable[[int], object]], count: int) -> tuple[float, float]:
    """Return the bytes per entry, and the microseconds per lookup."""
    tracemalloc.start()
    look_up = fill(count)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    began = time.process_time()
    for number in range(LOOKUPS):
        look_up(number)
    return held / count, (time.process_time() - began) / LOOKUPS * 1e6


def main(count: int = 100_000) -> None:
    figures: dict[str, float] = {"entries": count, "bits of a digest": DIGEST_BYTES * 8}
    held = 0.0
    for name, fill in {"messageId": fill_window, "suppressed user": fill_users}.items():
        size, seconds = measure(fill, count)
        figures[f"bytes per {name}"], figures[f"µs per lookup of a {name}"] = round(size, 1), round(seconds, 2)
        held = max(held, size)
    print(orjson.dumps(figures, option=orjson.OPT_INDENT_2).decode())
    sys.exit(held > LIMIT)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
