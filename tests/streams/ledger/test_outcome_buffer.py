"""Outcomes are written as intervals, whole, in records that Kafka takes."""

from collections import Counter
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client import Counter as Metric

from streams.kafka.producer import HEADROOM, length_of
from streams.ledger.outcome_buffer import OutcomeBuffer
from streams.records.format import MAX_RECORD_BYTES
from streams.records.outcomes import Outcome, Outcomes, Stage
from streams.records.run_header import EVENTS_PER_HEADER, RUN_HEADER, UNREAD, decode_run


def unfold(records: list[Outcomes]) -> Counter[tuple[str, str, str, str, int]]:
    """Return how often each offset is in the records, by integration, rule, outcome and detail."""
    return Counter(
        (span.integration, span.rule, span.outcome, span.detail, offset)
        for record in records
        for span in record.spans
        for offset in range(span.first, span.last + 1)
    )


def written(tally: OutcomeBuffer) -> list[Outcomes]:
    """The records as a reader of the topic gets them."""
    return [Outcomes.decode(record.encode()) for record in tally.records()]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["one", "two"]),
            st.sampled_from(["", "rule"]),
            st.sampled_from(["delivered", "consent"]),
            st.sampled_from(["", "ads"]),
            st.integers(0, 40),
        ),
        max_size=60,
        unique=True,
    )
)
def test_each_outcome_is_written_once(added: list[tuple[str, str, str, str, int]]):
    """In whatever order outcomes are added, each offset is written once per outcome, and nothing else is."""
    tally = OutcomeBuffer(Stage.ROUTER, "events", 3, "v1")
    for integration, rule, outcome, detail, offset in added:
        tally.add(integration, rule, outcome, offset, detail)
    records = written(tally)
    assert unfold(records) == Counter(added)
    assert {record[:4] for record in records} <= {(Stage.ROUTER, "events", 3, "v1")}


def test_scattered_offsets_fill_several_records_that_kafka_takes():
    """Where no two offsets are neighbours, no record is too large, nothing is missing and nothing is written twice."""
    tally = OutcomeBuffer(Stage.FORWARDER, "events", 0, "v1")
    count = 25_000
    for offset in range(count):
        tally.add("integration-with-a-long-name" * 3, "rule", Outcome.DELIVERED, 10**15 + 2 * offset)
    tally.name("two", "rule", Outcome.DEAD, 7, "bad", "why")
    tally.note(7, "plan", "shop")
    records = written(tally)
    assert len(records) > 1
    assert max(len(record.encode()) for record in records) < MAX_RECORD_BYTES // 2
    found = unfold(records)
    assert len(found) == count + 1
    assert set(found.values()) == {1}
    assert [named.reason for record in records for named in record.named] == ["bad", "plan"]


def test_a_reason_stands_beside_the_outcome():
    """An outcome with a reason is in the intervals and by name; one without, in the intervals with its detail."""
    tally = OutcomeBuffer(Stage.ROUTER, "events", 0, "v1")
    tally.record("one", "r", Outcome.FILTERED, 1, "bot", "crawler")
    tally.record("one", "r", Outcome.FILTERED, 2, "", "")
    tally.record("one", "", Outcome.CONSENT, 5, "", "ads")
    tally.extend("one", "r", Outcome.FILTERED, [4, 3])
    (record,) = written(tally)
    filtered = [("one", "r", "filtered", "", offset) for offset in (1, 2, 3, 4)]
    assert list(unfold([record])) == [*filtered, ("one", "", "consent", "ads", 5)]
    assert [tuple(named) for named in record.named] == [("one", "r", "filtered", 1, "bot", "crawler")]


def test_a_note_alone_is_written_and_nothing_makes_no_record():
    """A remark on an event needs no outcome; without either, Kafka gets nothing."""
    tally = OutcomeBuffer(Stage.ROUTER, "events", 0, "v1")
    assert written(tally) == []
    tally.note(5, "plan", "shop")
    (record,) = written(tally)
    assert [tuple(named) for named in record.named] == [("", "", "noted", 5, "plan", "shop")]
    assert list(record.spans) == []


def test_outcomes_are_counted_by_offsets():
    """The metric counts events, not intervals, by integration and outcome."""
    registry = CollectorRegistry()
    metric = Metric("outcomes", "", ["integration", "outcome"], registry=registry)
    tally = OutcomeBuffer(Stage.ROUTER, "events", 0, "v1")
    tally.extend("one", "a", Outcome.DELIVERED, [1, 2, 3])
    tally.add("one", "b", Outcome.DELIVERED, 4, "detail")
    tally.name("two", "", Outcome.DEAD, 4, "bad")
    tally.note(4, "plan", "shop")
    tally.count(metric)
    counted = {
        (sample.labels["integration"], sample.labels["outcome"]): sample.value
        for sample in next(iter(registry.collect())).samples
        if sample.name.endswith("_total")
    }
    assert counted == {("one", "delivered"): 4, ("two", "dead"): 1}


class Event(NamedTuple):
    """The parts of a consumer's record that a run header describes."""

    offset: int
    key: bytes = b"u"
    timestamp: int = 1_700_000_000_000


def test_the_first_record_of_a_run_has_its_header():
    """The header names all offsets of the run, and the other records have none."""
    tally = OutcomeBuffer(Stage.ROUTER, "events", 0, "v1")
    for offset in range(0, 60_000, 2):
        tally.add("one", "", Outcome.FILTERED, offset)
    tally.read.append((4, "m", "web", "track", "Order"))
    found = list(tally.encoded([Event(4), Event(5)]))
    assert len(found) > 1
    assert [[name for name, _ in headers] for _, headers in found] == [[RUN_HEADER], *[[]] * (len(found) - 1)]
    run = decode_run(found[0][1][0][1])
    assert list(run.offsets) == [4, 5]
    assert [run.table[kind] for kind in run.kinds] == [("web", "track", "Order"), UNREAD]
    assert unfold([Outcomes.decode(value) for value, _ in found]) == unfold(written(tally))


def test_a_run_without_outcomes_has_a_record():
    """Events that were rejected have no outcome, and the ledger learns that they were read."""
    tally = OutcomeBuffer(Stage.ROUTER, "events", 3, "v1")
    ((value, headers),) = tally.encoded([Event(4)])
    assert Outcomes.decode(value) == Outcomes(Stage.ROUTER, "events", 3, "v1", [], [])
    assert list(decode_run(dict(headers)[RUN_HEADER]).offsets) == [4]
    assert list(tally.encoded()) == []


def test_the_largest_records_with_headers_fit_into_kafka():
    """Reasons, spans and event names of the longest kind: no record is too large, and nothing is left out."""
    tally = OutcomeBuffer(Stage.ROUTER, "events", 0, "v1")
    count = 2 * EVENTS_PER_HEADER + 1
    for offset in range(count):
        tally.name("integration-with-a-long-name" * 3, "rule", Outcome.DEAD, 10**15 + 2 * offset, "bad", "\x00" * 600)
        tally.read.append((10**15 + 2 * offset, "m", "web", "track", f"{offset:05}" + "\x00" * 200))
    found = list(tally.encoded([Event(10**15 + 2 * offset) for offset in range(count)]))
    assert max(len(value) + length_of(headers) for value, headers in found) < MAX_RECORD_BYTES - HEADROOM
    runs = [decode_run(value) for _, headers in found for _, value in headers]
    assert sum(len(run.offsets) for run in runs) == count
    assert sum(len(Outcomes.decode(value).named) for value, _ in found) == count


def test_attempts_are_kept_unless_the_first_one_succeeded():
    """Deliveries at the first attempt with 2xx, or without HTTP, take no room; routers record no attempts."""
    buffer = OutcomeBuffer(Stage.FORWARDER, "events", 0, "v1")
    for offset, (outcome, attempts, status) in enumerate(
        [
            (Outcome.DELIVERED, 1, 204), (Outcome.DELIVERED, 1, None), (Outcome.DELIVERED, 2, 200),
            (Outcome.DELIVERED, 2, 200), (Outcome.DELIVERED, 1, 304), (Outcome.DEAD, 1, 422),
            (Outcome.EXPIRED, 0, None),
        ]
    ):  # fmt: skip
        buffer.add("ga4", "r", outcome, offset)
        buffer.attempt("ga4", "r", outcome, (offset,), attempts, status)
    (record,) = written(buffer)
    assert record.attempts == [
        ("ga4", "r", 2, 200, 2, 3), ("ga4", "r", 1, 304, 4, 4), ("ga4", "r", 1, 422, 5, 5), ("ga4", "r", 0, None, 6, 6),
    ]  # fmt: skip
    routed = OutcomeBuffer(Stage.ROUTER, "events", 0, "v1")
    routed.add("ga4", "r", "forwarded", 1)
    assert [record.attempts for record in written(routed)] == [None]
    assert b"attempts" not in next(routed.records()).encode()


def test_attempts_come_no_later_than_their_outcomes():
    """A reader that has read an outcome has its attempts, however many there are; records stay small enough."""
    buffer = OutcomeBuffer(Stage.FORWARDER, "events", 0, "v1")
    offsets = range(0, 60_000, 2)
    name = "n" * 64
    for offset in offsets:
        buffer.add(name, name, Outcome.DEAD, offset)
        buffer.attempt(name, name, Outcome.DEAD, (offset,), 3, 422)
    records = written(buffer)
    first = next(number for number, record in enumerate(records) if record.spans)
    before = [each.first for record in records[: first + 1] for each in record.attempts or ()]
    assert before == list(offsets)
    assert all(not record.attempts for record in records[first + 1 :])
    assert max(len(record.encode()) for record in buffer.records()) < MAX_RECORD_BYTES - HEADROOM
    assert unfold(records).total() == len(offsets)
