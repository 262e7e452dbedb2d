"""The ledger takes any record of its topics: invalid ones are skipped, and newer formats end it."""

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.ledger.intake import LATEST_MS, RecordIntake
from streams.ledger.sqlite_store import SqliteStore
from streams.records.format import NewerFormatError
from streams.records.outcomes import OutcomeInterval, Outcomes, Stage
from streams.records.run_header import RUN_HEADER, encode_run
from tests.streams.ledger.making import START_MS, TOPICS, EventRecord, Records, counts_of, feed
from tests.support import fuzzing
from tests.support.local_producer import LocalRecord

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=3)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 2**63), TEXT, st.floats(allow_nan=False)),
    lambda inner: st.one_of(st.lists(inner, max_size=6), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=8,
)
VALID: dict[str, dict[str, Any]] = {
    TOPICS.outcomes: {
        "v": 1,
        "stage": "router",
        "from": ["t.events", 0],
        "rules": "v",
        "spans": [["a", "", "filtered", [1, [3, 4]], "d"]],
        "named": [["a", "", "filtered", 1, "r", "d"]],
    },
    TOPICS.dead: {
        "v": 1,
        "integration": "a",
        "delivery": {"from": ["t.events", 0, 1], "rule": "r", "payload": {}},
        "reason": "r",
        "detail": "d",
        "attempts": 1,
        "died": "t",
        "request": None,
        "answer": {"status": 400, "body": ""},
    },
    TOPICS.rejected: {"messageId": "m", "userId": "u"},
}


def damaged(draw: st.DrawFn, value: Any) -> Any:
    """Replace one part of a JSON value by another."""
    if isinstance(value, dict) and value and draw(st.booleans()):
        name = draw(st.sampled_from(sorted(value)))
        return {**value, name: damaged(draw, value[name])}
    if isinstance(value, list) and value and draw(st.booleans()):
        at = draw(st.integers(0, len(value) - 1))
        return [*value[:at], damaged(draw, value[at]), *value[at + 1 :]]
    return draw(JSON)


@st.composite
def records(draw: st.DrawFn) -> list[LocalRecord]:
    made = []
    for offset in range(draw(st.integers(1, 8))):
        topic = draw(st.sampled_from(sorted(VALID)))
        value = draw(
            st.one_of(st.none(), st.binary(max_size=9), st.just(VALID[topic]).map(lambda it: damaged(draw, it)))
        )
        names = st.sampled_from([RUN_HEADER, "turnout-from", "turnout-reason", "turnout-handled", "turnout-version"])
        headers = draw(
            st.lists(st.tuples(names, st.one_of(st.none(), st.binary(max_size=9), st.just(b"1"))), max_size=4)
        )
        encoded = value if isinstance(value, bytes | None) else orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
        made.append(LocalRecord(topic, 0, offset, START_MS, None, encoded, tuple(headers)))
    return made


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory):
    store = SqliteStore(tmp_path_factory.mktemp("ledger"), b"key", 7)
    yield store
    store.close()


@settings(max_examples=fuzzing.examples(60))
@given(records())
def test_no_record_ends_the_ledger(store: SqliteStore, records: list[LocalRecord]):
    """Whatever is in a topic, it is taken or skipped, and the offsets move on."""
    intake = RecordIntake(TOPICS)
    for record in records:
        try:
            intake.take(record)
        except NewerFormatError:
            intake.skip_to((record.topic, 0), record.offset + 1)
    ends = {record.topic: record.offset + 1 for record in records}
    store.write(intake.finish())
    stored = store.offsets()
    assert {topic: stored[topic, 0] for topic in ends} == ends


def test_a_newer_format_ends_the_ledger():
    """Skipping records of a newer writer would leave books that never balance."""
    value = orjson.dumps({**VALID[TOPICS.outcomes], "v": 2})
    with pytest.raises(NewerFormatError):
        RecordIntake(TOPICS).take(LocalRecord(TOPICS.outcomes, 0, 0, START_MS, None, value, ()))


def test_outcomes_beside_an_invalid_run_header_are_taken():
    """The events count as not read, which the audit reports, and their outcomes are there."""
    intake = RecordIntake(TOPICS)
    value = orjson.dumps(VALID[TOPICS.outcomes])
    intake.take(LocalRecord(TOPICS.outcomes, 0, 0, START_MS, None, value, ((RUN_HEADER, b"\1\xff"),)))
    batch = intake.finish()
    assert (len(batch.outcomes), batch.runs, batch.offsets) == (1, [], {(TOPICS.outcomes, 0): 1})


@pytest.mark.parametrize("time", [None, -1, 0, START_MS + LATEST_MS + 60_000, 2**60])
def test_an_incredible_time_counts_at_the_time_of_the_outcome(tmp_path, time: int | None):
    """Other producers may set any time of a record; counts stay within the time that the ledger keeps."""
    (header,) = encode_run([EventRecord(3, b"u", time)], [(3, "m", "web", "track", "Order")])
    made = Records()
    value = Outcomes(Stage.ROUTER, TOPICS.events, 0, "v1", [OutcomeInterval("a", "", "filtered", 3, 3)]).encode()
    made.add(TOPICS.outcomes, 0, value, [(RUN_HEADER, header)])
    store = SqliteStore(tmp_path, None, 7)
    feed(store, made.made)
    assert {moment for moment, _, _ in counts_of(store)} == {START_MS // 60_000 * 60}
    store.close()
