"""Find the deliveries of an integration that need no replay: delivered, or still waiting in Kafka."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from streams.ledger import bit_sets
from streams.ledger.audit import KafkaBounds
from streams.ledger.store import READ, Partition, Reader
from streams.records.outcomes import Outcome

Spans = Sequence[tuple[int, int]]
"""Offsets as closed intervals, ascending."""


class PartitionDeliveries(NamedTuple):
    """The deliveries for the events of a partition, by rule.

    `read` are the events that a router has read; nothing is known about later ones yet. `waiting` are undelivered
    deliveries in the forward and retry topics, from the forwarder's committed offset on.
    """

    topic: str
    partition: int
    read: Spans
    delivered: Mapping[str, Spans]
    waiting: Mapping[str, Spans]


def find_deliveries(reader: Reader, bounds: KafkaBounds, integration: str) -> list[PartitionDeliveries]:
    """Return the deliveries of an integration in the ranges of `bounds`, by partition of the events."""
    return [
        _of_partition(reader, bounds, partition, first, end, integration)
        for partition, (first, end) in sorted(bounds.ranges.items())
        if first < end
    ]


def _of_partition(
    reader: Reader, bounds: KafkaBounds, partition: Partition, first: int, end: int, integration: str
) -> PartitionDeliveries:
    read: list[tuple[int, int]] = []
    delivered: dict[str, list[tuple[int, int]]] = defaultdict(list)
    waiting: dict[str, list[tuple[int, int]]] = defaultdict(list)
    in_kafka = {rule: bits for (name, rule), bits in bounds.in_flight.get(partition, {}).items() if name == integration}
    for block in reader.blocks(*partition, first, end):
        mask = bit_sets.between(block.number, first, end)
        read += bit_sets.spans(block.number, mask & _union(b for c, b in block.outcomes.items() if c.outcome == READ))
        arrived: dict[str, int] = defaultdict(int)
        for combo, bits in block.outcomes.items():
            if combo.integration == integration and combo.outcome == Outcome.DELIVERED:
                arrived[combo.rule] |= bits & mask
                delivered[combo.rule] += bit_sets.spans(block.number, bits & mask)
        for rule, blocks in in_kafka.items():
            # A dead letter that was replayed waits although it has an outcome.
            left = blocks.get(block.number, 0) & ~arrived[rule] & mask
            waiting[rule] += bit_sets.spans(block.number, left)
    return PartitionDeliveries(*partition, bit_sets.joined(read), _joined(delivered), _joined(waiting))


def _joined(spans: Mapping[str, Iterable[tuple[int, int]]]) -> dict[str, Spans]:
    """Merge the offsets of a rule's combos, which may overlap."""
    return {rule: _merged(sorted(its)) for rule, its in spans.items() if its}


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for first, last in spans:
        if found and first <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(found[-1][1], last)
        else:
            found.append((first, last))
    return found


def _union(parts: Iterable[int]) -> int:
    found = 0
    for bits in parts:
        found |= bits
    return found
