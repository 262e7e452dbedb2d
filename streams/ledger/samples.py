"""Find the newest events with an outcome, as examples of a count."""

from collections import defaultdict
from collections.abc import Iterator
from time import monotonic
from typing import NamedTuple

from streams.ledger import bit_sets, books
from streams.ledger.bit_sets import BLOCK_BITS
from streams.ledger.lookup import Story, story_of
from streams.ledger.store import READ, Block, Combo, Reader
from streams.records.event import Origin
from streams.records.run_header import Kind

BLOCKS_AT_ONCE = 8
MAX_SECONDS = 2.0
"""Seconds after which the search ends with the events that it has found."""


class Wanted(NamedTuple):
    """The properties to search by; None matches any. `integration`, `rule` and `event` may be empty, as in counts."""

    source: str | None = None
    integration: str | None = None
    rule: str | None = None
    outcome: str | None = None
    reason: str | None = None
    type: str | None = None
    event: str | None = None


def find_events(reader: Reader, wanted: Wanted, since: int, until: int, limit: int) -> list[Story]:
    """Return events from `since` to before `until` (seconds since 1970), the newest of each partition.

    Only the strongest outcome of an event matches, as in counts: an event that was delivered after a failure is not
    dead. Events that the collector rejected are not found, because no router has read them.
    """
    deadline = monotonic() + MAX_SECONDS
    found: list[tuple[int, Origin]] = []
    for (topic, partition), (first, last) in sorted(reader.partitions().items()):
        left = limit
        for block in _newest_first(reader, topic, partition, first, last):
            minutes = [minute for _, minute in block.kinds]
            if monotonic() > deadline or left <= 0 or (minutes and max(minutes) * 60 < since):
                break
            for minute, offset in _matches(block, wanted, since, until):
                found.append((minute, Origin(topic, partition, offset)))
                left -= 1
                if left <= 0:
                    break
    found.sort(key=lambda each: (-each[0], each[1].topic, each[1].partition, -each[1].offset))
    return [story for _, place in found[:limit] if (story := story_of(reader, place))]


def _newest_first(reader: Reader, topic: str, partition: int, first: int, last: int) -> Iterator[Block]:
    end, step = last + 1, BLOCKS_AT_ONCE << BLOCK_BITS
    while end > first:
        begin = max(first, (end - 1) // step * step)
        yield from reversed(list(reader.blocks(topic, partition, begin, end)))
        end = begin


def _matches(block: Block, wanted: Wanted, since: int, until: int) -> Iterator[tuple[int, int]]:
    """Yield minute and offset of the wanted events, the newest first."""
    bits = _with_outcome(block, wanted)
    kinds = sorted(block.kinds.items(), key=lambda item: -item[0][1])
    offsets = [
        (offset, minute)
        for (kind, minute), of_kind in kinds
        if since <= minute * 60 < until and _is_of_kind(kind, wanted)
        for offset in bit_sets.offsets(block.number, of_kind & bits)
    ]
    for offset, minute in sorted(offsets, reverse=True):
        yield minute, offset


def _is_of_kind(kind: Kind, wanted: Wanted) -> bool:
    return (
        wanted.source in (None, kind.source)
        and wanted.type in (None, kind.type)
        and wanted.event in (None, kind.name or "")
    )


def _with_outcome(block: Block, wanted: Wanted) -> int:
    known = 0
    for bits in block.kinds.values():
        known |= bits
    units: dict[tuple[str, str], list[int]] = defaultdict(list)
    combos: dict[int, Combo] = dict(enumerate(block.outcomes))
    for number, combo in combos.items():
        if combo.outcome != READ and wanted.integration in (None, combo.integration):
            units[combo.integration, combo.rule].append(number)
    outcomes = dict(enumerate(block.outcomes.values()))
    found = 0
    for members in units.values():
        for key, bits in books.effective(members, outcomes, combos, known).items():
            if (
                wanted.rule in (None, key.rule)
                and wanted.outcome in (None, key.outcome)
                and wanted.reason in (None, key.reason)
            ):
                found |= bits
    return found
