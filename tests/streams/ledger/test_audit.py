"""The audit names exactly the events whose books do not balance."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.ledger.audit import BehindError, Finding, InFlight, KafkaBounds, Problem, audit, resolve
from streams.ledger.bit_sets import BLOCK_OFFSETS, BitSets
from streams.ledger.sqlite_store import SqliteStore
from streams.ledger.store import Partition
from streams.records.outcomes import OutcomeDetail, OutcomeInterval
from tests.streams.ledger.making import START_MS, TOPICS, Records, counts_of, feed
from tests.streams.ledger.steps import MEMORY
from tests.support import fuzzing

EVENTS = (TOPICS.events, 0)
BOTH = ["crm", "ga4"]


def bounds(first: int, end: int, in_flight: InFlight | None = None) -> KafkaBounds:
    return KafkaBounds({EVENTS: (first, end)}, in_flight or {}, {})


def all_of(_: Partition, gaps: Sequence[tuple[int, int]]) -> list[int]:
    """Kafka has a record at every offset."""
    return [offset for first, last in gaps for offset in range(first, last + 1)]


def both(rules: str) -> Sequence[str]:
    return BOTH


def route(records: Records, first: int, last: int, *, rules: str = "v1") -> None:
    """Route events: `ga4` takes all, `crm` filters all."""
    spans = [OutcomeInterval("ga4", "r", "forwarded", first, last), OutcomeInterval("crm", "", "filtered", first, last)]
    records.run(0, range(first, last + 1), spans, rules=rules)


def deliver(records: Records, first: int, last: int) -> None:
    records.outcomes(0, [OutcomeInterval("ga4", "r", "delivered", first, last)])


@pytest.fixture
def store(tmp_path: Path):
    store = SqliteStore(tmp_path, None, 7)
    yield store
    store.close()


def test_complete_books_balance(store: SqliteStore):
    """Every event was read and has an outcome for each integration; the sums say how many."""
    records = Records()
    route(records, 0, 99)
    deliver(records, 0, 99)
    feed(store, records.made)
    report = audit(store, bounds(0, 100), both)
    assert report.balanced
    assert (report.events, report.in_flight, report.findings) == (100, 0, [])
    assert [line[:6] for line in report.lines] == [("web", "crm", 100, 100, 0, 0), ("web", "ga4", 100, 100, 0, 0)]


def test_a_gap_of_ten_offsets_is_named(store: SqliteStore):
    """The group's offset was moved forward by 10: exactly these events are lost, if Kafka has them."""
    records = Records()
    route(records, 0, 499)
    route(records, 510, 999)
    deliver(records, 0, 499)
    deliver(records, 510, 999)
    feed(store, records.made)
    report = audit(store, bounds(0, 1000), both)
    assert not report.balanced
    assert report.gaps == {EVENTS: [(500, 509)]}
    resolve(report, all_of)
    assert report.findings == [Finding(Problem.LOST, *EVENTS, 500, 509)]
    assert not report.balanced
    assert report.problems.total() == 10


def test_a_gap_without_records_is_no_loss(store: SqliteStore):
    """Transaction markers and compacted records take offsets; a record among them is named alone."""
    records = Records()
    route(records, 0, 499)
    route(records, 510, 999)
    deliver(records, 0, 499)
    deliver(records, 510, 999)
    feed(store, records.made)
    report = audit(store, bounds(0, 1000), both)
    resolve(report, lambda _, gaps: [offset for offset in all_of(EVENTS, gaps) if offset in (503, 504, 507)])
    assert [(each.first, each.last) for each in report.findings] == [(503, 504), (507, 507)]
    assert report.problems.total() == 3
    report = audit(store, bounds(0, 1000), both)
    resolve(report, lambda *_: [])
    assert report.balanced


def test_a_repeat_of_500_events_changes_no_count(store: SqliteStore):
    """The group's offset was moved back by 500: all is routed and delivered again, and every event counts once."""
    records = Records()
    route(records, 0, 999)
    deliver(records, 0, 999)
    feed(store, records.made)
    before, report = counts_of(store), audit(store, bounds(0, 1000), both)
    for rules in ("v1", "v2"):
        route(records, 500, 999, rules=rules)
        feed(store, records.made)
        deliver(records, 500, 999)
        feed(store, records.made)
        assert counts_of(store) == before
        assert audit(store, bounds(0, 1000), both) == report


def test_a_gap_over_whole_blocks_is_found(store: SqliteStore):
    """Blocks of which nothing is known are part of the range, and the end behind the last run also is."""
    records = Records()
    route(records, 0, 9)
    route(records, 3 * BLOCK_OFFSETS, 3 * BLOCK_OFFSETS + 9)
    deliver(records, 0, 9)
    deliver(records, 3 * BLOCK_OFFSETS, 3 * BLOCK_OFFSETS + 9)
    feed(store, records.made)
    report = audit(store, bounds(0, 3 * BLOCK_OFFSETS + 12), both)
    gaps = [(10, 3 * BLOCK_OFFSETS - 1), (3 * BLOCK_OFFSETS + 10, 3 * BLOCK_OFFSETS + 11)]
    assert report.gaps == {EVENTS: gaps}


def test_events_without_an_outcome_are_named_by_integration(store: SqliteStore):
    """An integration of the version that routed an event has no outcome for it; a later integration is not missed."""
    records = Records()
    records.run(0, range(10), [OutcomeInterval("ga4", "", "consent", 0, 6)], rules="old")
    records.run(
        0,
        range(10, 20),
        [OutcomeInterval("ga4", "", "consent", 10, 19), OutcomeInterval("crm", "", "filtered", 10, 19)],
        rules="new",
    )
    feed(store, records.made)
    expected = [Finding(Problem.NO_OUTCOME, *EVENTS, 7, 9, "ga4")]
    assert audit(store, bounds(0, 20), {"old": ["ga4"], "new": BOTH}.get).findings == expected
    assert audit(store, bounds(0, 20)).findings == expected, "by default the recorded integrations count"
    assert len(audit(store, bounds(0, 20), both).findings) == 2


def test_events_left_at_forwarded_are_missing_or_in_flight(store: SqliteStore):
    """Deliveries that wait in Kafka are in flight, with the age of the oldest; the others are missing."""
    records = Records()
    route(records, 0, 99)
    deliver(records, 0, 89)
    feed(store, records.made)
    waiting = BitSets()
    waiting.add(93, 99)
    report = audit(store, bounds(0, 100, {EVENTS: {("ga4", "r"): dict(waiting.blocks())}}), both)
    assert report.findings == [Finding(Problem.NOT_FINISHED, *EVENTS, 90, 92, "ga4", "r")]
    assert report.in_flight == 7
    assert report.oldest_in_flight == START_MS // 60_000
    assert report.lines[1][2:] == (100, 90, 7, 3, 0)


def test_rejected_events_need_no_outcome(store: SqliteStore):
    """They are in the rejected topic, by their coordinates."""
    records = Records()
    route(records, 0, 8)
    deliver(records, 0, 8)
    records.run(0, [9], [])
    records.rejected(0, 9, "json")
    feed(store, records.made[:-1])
    assert audit(store, bounds(0, 10), both).problems == {Problem.NO_OUTCOME: 2}
    feed(store, records.made)
    report = audit(store, bounds(0, 10), both)
    assert report.balanced
    assert (report.events, report.rejected) == (10, 1)


def test_several_rules_per_event_count_as_one_event(store: SqliteStore):
    """With `match: all` each rule must be finished, and the event is accepted once."""
    records = Records()
    records.run(0, range(10), [OutcomeInterval("ga4", rule, "forwarded", 0, 9) for rule in ("a", "b")])
    records.outcomes(
        0, [OutcomeInterval("ga4", "a", "delivered", 0, 9), OutcomeInterval("ga4", "b", "delivered", 0, 4)]
    )
    feed(store, records.made)
    report = audit(store, bounds(0, 10))
    assert report.findings == [Finding(Problem.NOT_FINISHED, *EVENTS, 5, 9, "ga4", "b")]
    assert [line[:6] for line in report.lines] == [("web", "ga4", 10, 5, 0, 5)]


def test_outcomes_that_exclude_each_other_are_contradictory(store: SqliteStore):
    """One version of the rules filters and forwards an event; another version may decide otherwise."""
    records = Records()
    records.run(
        0, range(10), [OutcomeInterval("ga4", "r", "forwarded", 0, 9), OutcomeInterval("ga4", "", "filtered", 4, 5)]
    )
    deliver(records, 0, 9)
    records.run(0, range(10), [OutcomeInterval("ga4", "", "filtered", 0, 9)], rules="v2")
    feed(store, records.made)
    expected = Finding(Problem.CONTRADICTORY, *EVENTS, 4, 5, "ga4", "r", ("filtered", "forwarded"))
    assert audit(store, bounds(0, 10)).findings == [expected]


def test_an_outcome_that_only_the_forwarder_recorded_is_named(store: SqliteStore):
    """The router read the event and its outcome record is missing; replays of filtered events are in order."""
    records = Records()
    records.run(
        0, range(10), [OutcomeInterval("ga4", "r", "forwarded", 0, 4), OutcomeInterval("ga4", "", "filtered", 5, 7)]
    )
    deliver(records, 0, 9)
    feed(store, records.made)
    assert audit(store, bounds(0, 10)).findings == [Finding(Problem.NOT_FORWARDED, *EVENTS, 8, 9, "ga4")]


def test_a_ledger_that_is_behind_is_not_audited(store: SqliteStore):
    """Outcomes that the ledger has not read yet are not missing."""
    records = Records()
    route(records, 0, 9)
    feed(store, records.made)
    with pytest.raises(BehindError, match="2 records behind"):
        audit(store, KafkaBounds({EVENTS: (0, 10)}, {}, {(TOPICS.outcomes, 0): 2, (TOPICS.dead, 1): 1}), both)
    audit(store, KafkaBounds({EVENTS: (0, 10)}, {}, {(TOPICS.outcomes, 0): 1}), both)


def test_what_was_before_the_ledger_is_not_audited(store: SqliteStore):
    """Events before the first run header were routed by an older version; a partition without one is unknown."""
    records = Records()
    route(records, 50, 59)
    deliver(records, 50, 59)
    feed(store, records.made)
    other = (TOPICS.events, 1)
    report = audit(store, KafkaBounds({EVENTS: (0, 60), other: (0, 7), ("empty", 0): (3, 3)}, {}, {}), both)
    assert report.balanced
    assert (report.events, report.unknown) == (10, [other])


def test_long_reports_are_cut_and_counted(store: SqliteStore, monkeypatch: pytest.MonkeyPatch):
    """Every other event lacks its outcome: the list is bounded, the number is exact."""
    monkeypatch.setattr("streams.ledger.audit.MAX_FINDINGS", 5)
    records = Records()
    records.run(0, range(100), [OutcomeInterval("ga4", "", "filtered", offset, offset) for offset in range(0, 100, 2)])
    feed(store, records.made)
    report = audit(store, bounds(0, 100))
    assert (len(report.findings), report.problems) == (5, {Problem.NO_OUTCOME: 50})


OFFSETS = st.sets(st.integers(BLOCK_OFFSETS - 8, BLOCK_OFFSETS + 8), max_size=4)


@settings(max_examples=fuzzing.examples(30))
@given(OFFSETS, OFFSETS, OFFSETS, OFFSETS)
def test_exactly_the_planted_problems_are_found(unread: set[int], silent: set[int], open_: set[int], waiting: set[int]):
    """Events that no router read, that lack an outcome, and that are left at forwarded: all found, none invented."""
    first, last = BLOCK_OFFSETS - 9, BLOCK_OFFSETS + 9
    silent, open_ = silent - unread, open_ - unread
    records = Records()
    for offset in sorted(set(range(first, last + 1)) - unread):
        crm = [] if offset in silent else [OutcomeInterval("crm", "", "filtered", offset, offset)]
        records.run(0, [offset], [*crm, OutcomeInterval("ga4", "r", "forwarded", offset, offset)])
        if offset not in open_:
            reason = [OutcomeDetail("ga4", "r", "dead", offset, "status", "422")] if offset % 3 == 0 else []
            records.outcomes(
                0, [OutcomeInterval("ga4", "r", "dead" if reason else "delivered", offset, offset)], reason
            )
    in_kafka = BitSets()
    for offset in waiting:
        in_kafka.add(offset, offset)
    with TemporaryDirectory(dir=MEMORY) as folder:
        store = SqliteStore(Path(folder), None, 7)
        feed(store, records.made, 3)
        report = audit(store, bounds(first, last + 1, {EVENTS: {("ga4", "r"): dict(in_kafka.blocks())}}), both)
        store.close()
    resolve(report, all_of)
    found: Mapping[Problem, set[int]] = {problem: set() for problem in Problem}
    for finding in report.findings:
        offsets = set(range(finding.first, finding.last + 1))
        assert not found[finding.problem] & offsets
        found[finding.problem].update(offsets)
    assert found[Problem.LOST] == unread
    assert found[Problem.NO_OUTCOME] == silent
    assert found[Problem.NOT_FINISHED] == open_ - waiting
    assert report.in_flight == len(open_ & waiting)
    assert not found[Problem.CONTRADICTORY] | found[Problem.NOT_FORWARDED]
