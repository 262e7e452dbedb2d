"""Which deliveries of an integration need no replay."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.ledger.audit import KafkaBounds
from streams.ledger.bit_sets import BitSets
from streams.ledger.sqlite_store import SqliteStore
from streams.ledger.undelivered import PartitionDeliveries, find_deliveries
from streams.records.outcomes import OutcomeInterval
from tests.streams.ledger.making import TOPICS, Records, feed

EVENTS = (TOPICS.events, 0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path, None, 7)
    yield store
    store.close()


def waiting(*spans: tuple[int, int]) -> dict[int, int]:
    bits = BitSets()
    for first, last in spans:
        bits.add(first, last)
    return dict(bits.blocks())


def test_delivered_and_waiting_events(store: SqliteStore):
    """Lost deliveries and dead letters that nobody replayed are in neither; `read` has what routers have read."""
    records = Records()
    for first in range(0, 9000, 1000):
        spans = [("ga4", "r", "forwarded"), ("crm", "", "filtered")]
        last = first + 999
        records.run(0, range(first, last + 1), [OutcomeInterval(*span, first, last) for span in spans])
    records.outcomes(
        0, [OutcomeInterval("ga4", "r", "delivered", 0, 4999), OutcomeInterval("crm", "r", "delivered", 0, 9)]
    )
    records.outcomes(0, [OutcomeInterval("ga4", "r", "dead", 5000, 5999)])
    records.outcomes(0, [OutcomeInterval("ga4", "r", "delivered", 5500, 5509)])
    feed(store, records.made)
    in_flight = {EVENTS: {("ga4", "r"): waiting((5505, 5509), (5990, 6999)), ("crm", "r"): waiting((0, 99))}}
    bounds = KafkaBounds({EVENTS: (100, 9100)}, in_flight, {})
    assert find_deliveries(store, bounds, "ga4") == [
        PartitionDeliveries(*EVENTS, [(100, 8999)], {"r": [(100, 4999), (5500, 5509)]}, {"r": [(5990, 6999)]})
    ]


def test_rules_are_kept_apart(store: SqliteStore):
    """With `match: all` an event may be delivered for one rule and not for another; repeats count once."""
    records = Records()
    records.run(0, range(10), [OutcomeInterval("ga4", rule, "forwarded", 0, 9) for rule in "ab"])
    for last in (3, 5):
        records.outcomes(0, [OutcomeInterval("ga4", "a", "delivered", 0, last)])
    records.outcomes(0, [OutcomeInterval("ga4", "b", "delivered", 7, 9)])
    feed(store, records.made)
    (found,) = find_deliveries(store, KafkaBounds({EVENTS: (0, 10)}, {}, {}), "ga4")
    assert found.delivered == {"a": [(0, 5)], "b": [(7, 9)]}
    assert not any(found.waiting.values())
