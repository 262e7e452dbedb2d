"""Events and deliveries that Kafka's retention removed before they were read are in the books as lost."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.ledger.audit import AuditReport, KafkaBounds, audit
from streams.ledger.bit_sets import BLOCK_OFFSETS, BitSets
from streams.ledger.lookup import story_of
from streams.ledger.store import Store
from streams.ledger.summary import summarize
from streams.records.event import Origin
from streams.records.outcomes import OutcomeInterval
from tests.streams.ledger.making import START_MS, TOPICS, Oracle, Records, counts_of, feed
from tests.streams.ledger.steps import EVERY_STORE, KEY, MEMORY, OFFSETS, STEPS, MakeStore, check, examples, make

EVENTS = (TOPICS.events, 0)
PERIOD = (START_MS // 1000 - 3600, START_MS // 1000 + 3600)


@pytest.fixture(params=EVERY_STORE)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    store = request.param(tmp_path, KEY)
    yield store
    store.close()


def forward(records: Records, first: int, last: int) -> None:
    """Route events that all are forwarded to `ga4`."""
    records.run(0, range(first, last + 1), [OutcomeInterval("ga4", "r", "forwarded", first, last)])


def deliver(records: Records, first: int, last: int) -> None:
    records.outcomes(0, [OutcomeInterval("ga4", "r", "delivered", first, last)])


def outcomes_of(store: Store) -> Counter[tuple[str, str, str]]:
    """The counted events by integration, outcome and reason."""
    found: Counter[tuple[str, str, str]] = Counter()
    for (_, _, key), number in counts_of(store).items():
        found[key.integration, key.outcome, key.reason] += number
    return found


def audited(store: Store, first: int, end: int, *waiting: tuple[int, int]) -> AuditReport:
    """Audit events of which these deliveries wait in Kafka."""
    sets = BitSets()
    for span in waiting:
        sets.add(*span)
    in_flight = {EVENTS: {("ga4", "r"): dict(sets.blocks())}}
    return audit(store, KafkaBounds({EVENTS: (first, end)}, in_flight, {}, PERIOD), lambda _: ["ga4"])


def test_deliveries_that_are_neither_finished_nor_left_are_lost(store: Store):
    """The others are not, and the books balance."""
    records = Records()
    forward(records, 0, 99)
    deliver(records, 0, 39)
    deliver(records, 70, 79)
    records.lost_deliveries(0, "ga4", 0, 90, [("r", [(50, 59)])])
    feed(store, records.made)
    found = outcomes_of(store)
    assert found["ga4", "lost", "retention"] == 30
    assert found["ga4", "delivered", ""] == 50
    assert found["ga4", "forwarded", ""] == 20
    report = audited(store, 0, 100, (50, 59), (90, 99))
    assert report.balanced
    assert report.lines[0][2:] == (100, 50, 20, 0, 30)
    told = {offset: story_of(store, Origin(*EVENTS, offset)) for offset in (45, 55, 75)}
    assert [(it.outcomes[0].outcome, it.outcomes[0].reason) for it in told.values() if it] == [
        ("lost", "retention"), ("forwarded", ""), ("delivered", ""),
    ]  # fmt: skip


def test_a_lost_delivery_of_another_integration_or_rule_is_no_concern(store: Store):
    """Only the deliveries of the integration are lost, and a rule that waits does not keep another rule's."""
    records = Records()
    spans = [
        OutcomeInterval(name, rule, "forwarded", 0, 9) for name, rule in (("ga4", "r"), ("ga4", "s"), ("crm", "r"))
    ]
    records.run(0, range(10), spans)
    records.lost_deliveries(0, "ga4", 0, 10, [("s", [(0, 9)])])
    feed(store, records.made)
    assert outcomes_of(store) == {
        ("", "read", ""): 10, ("ga4", "lost", "retention"): 10,
        ("ga4", "forwarded", ""): 10, ("crm", "forwarded", ""): 10,
    }  # fmt: skip


def test_a_delivery_that_arrives_after_all_is_not_lost(store: Store):
    """A forwarder that had read a record delivers it after another one found it removed."""
    records = Records()
    forward(records, 0, 9)
    records.lost_deliveries(0, "ga4", 0, 10)
    feed(store, records.made)
    assert outcomes_of(store)["ga4", "lost", "retention"] == 10
    deliver(records, 3, 5)
    records.lost_deliveries(0, "ga4", 0, 10)
    feed(store, records.made)
    assert outcomes_of(store)["ga4", "lost", "retention"] == 7
    assert outcomes_of(store)["ga4", "delivered", ""] == 3


def test_losses_in_more_blocks_than_are_kept_in_memory(store: Store):
    """Two integrations lose deliveries of events in many blocks, in the batch that forwards them."""
    records = Records()
    last = 300 * BLOCK_OFFSETS
    spans = [OutcomeInterval(name, "r", "forwarded", 0, last) for name in ("ga4", "crm")]
    records.run(0, range(0, last + 1, BLOCK_OFFSETS), spans)
    for name in ("ga4", "crm"):
        records.lost_deliveries(0, name, 0, last)
    feed(store, records.made)
    found = outcomes_of(store)
    assert {name: found[name, "lost", "retention"] for name in ("ga4", "crm")} == {"ga4": 300, "crm": 300}
    assert {name: found[name, "forwarded", ""] for name in ("ga4", "crm")} == {"ga4": 1, "crm": 1}


def test_events_that_no_router_could_read_are_lost(store: Store):
    """They count under no integration, the audit says how many they are, and an event that was read is not lost."""
    records = Records()
    forward(records, 0, 9)
    records.lost_events(0, 5, 19)
    forward(records, 20, 29)
    feed(store, records.made)
    counted = summarize(store.counts(0, 2**40), ["outcome"])
    assert (counted["accepted"], counted["lost"]) == (20, 10)
    report = audited(store, 0, 30, (0, 9), (20, 29))
    assert report.balanced
    assert (report.events, report.lost) == (20, 10)
    story, read = (story_of(store, Origin(*EVENTS, offset)) for offset in (12, 7))
    assert story is not None
    assert [(it.integration, it.outcome, it.reason) for it in story.outcomes] == [("", "lost", "retention")]
    assert read is not None
    assert [(it.integration, it.outcome) for it in read.outcomes] == [("ga4", "forwarded")]


def test_an_offset_beside_the_lost_ones_is_still_a_gap(store: Store):
    """Only the recorded offsets are excused."""
    records = Records()
    forward(records, 0, 9)
    records.lost_events(0, 10, 19)
    forward(records, 21, 29)
    feed(store, records.made)
    assert audited(store, 0, 30, (0, 9), (21, 29)).gaps == {EVENTS: [(20, 20)]}


LOSSES = st.one_of(
    st.tuples(st.just("lost events"), OFFSETS, st.integers(0, 9)),
    st.tuples(st.just("lost deliveries"), st.sampled_from(["ga4", "meta"]), OFFSETS, st.integers(0, 20), OFFSETS),
)


@pytest.mark.parametrize("make_store", EVERY_STORE)
def test_losses_among_all_other_records(make_store: MakeStore):
    """Whatever else is recorded, a store has the same outcomes and counts as an oracle with every event."""

    @settings(max_examples=examples(make_store))
    @given(st.lists(st.one_of(STEPS.map(tuple), LOSSES), max_size=8))
    def check_one(steps: list) -> None:
        records = Records()
        for step in steps:
            match step:
                case ("lost events", first, length):
                    records.lost_events(0, first, first + length)
                case ("lost deliveries", str() as integration, start, length, waiting):
                    records.lost_deliveries(0, integration, start, start + length, [("r", [(waiting, waiting + 2)])])
                case _:
                    make(list(step), records)
        with TemporaryDirectory(dir=MEMORY) as folder:
            store = make_store(Path(folder), KEY)
            try:
                feed(store, records.made, 1)
                check(store, Oracle(records.made))
            finally:
                store.close()

    check_one()
