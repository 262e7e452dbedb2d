import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.ledger.outcome_buffer import OutcomeBuffer
from streams.records.dead_letter import DeadLetter
from streams.records.delivery import DeliveryRecord, Retried
from streams.records.event import Origin
from streams.records.format import MAX_RECORD_BYTES, NewerFormatError, RecordError
from streams.records.outcomes import Outcome, OutcomeInterval, Outcomes, Stage, intervals
from streams.records.rejected import Rejected, rejected_headers
from streams.records.size import HEADROOM
from streams.topics import Topics

CASES = Path(__file__).parents[2] / "cases" / "records" / "v1"
READERS = {"delivery": DeliveryRecord, "outcomes": Outcomes, "dead": DeadLetter}


@pytest.mark.parametrize("path", sorted(CASES.glob("*.json")), ids=lambda path: path.stem)
def test_version_1_is_read_and_written_as_on_the_first_day(path: Path):
    """A record of version 1, kept as a file, decodes, and encodes to the same bytes."""
    value = path.read_bytes().rstrip(b"\n")
    assert READERS[path.stem.split("-")[0]].decode(value).encode() == value


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_a_newer_format_is_refused_with_a_clear_error(reader):
    """A reader does not guess at a format from its future."""
    with pytest.raises(NewerFormatError, match="format 2, but this version of Turnout reads up to 1"):
        reader.decode(b'{"v":2}')


@pytest.mark.parametrize("value", [None, b"", b"[]", b"{", b"{}", b'{"v":1}', b'{"v":"1"}'])
@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_what_is_no_record_is_an_error_and_no_crash(reader, value: bytes | None):
    """Anything that cannot be a record raises RecordError."""
    with pytest.raises(RecordError):
        reader.decode(value)


def test_a_rejected_record_keeps_its_value_and_says_where_from():
    """Reason, source and coordinates come back from the headers, the value byte for byte."""
    origin = Origin("turnout.events", 2, 17)
    headers = rejected_headers("json", "not JSON", "web", origin)
    assert Rejected.decode(b"k", b"\xff{", headers) == Rejected("json", "not JSON", "web", origin, b"k", b"\xff{")


def test_a_prefix_begins_every_topic():
    """Two environments on one Kafka share no topic."""
    names = [topic.name.removeprefix("staging.") for topic in Topics(prefix="staging").declared(["ga4"])]
    common = ["events", "rejected", "outcomes", "dead", "suppressed", "status", "control", "rulesets"]
    assert names == [*common, "forward.ga4", "forward.ga4.retry"]


def test_a_retried_delivery_says_how_often_since_when_and_why():
    """Headers are decoded as encoded, times to the millisecond; a missing header is an error."""
    retried = Retried(3, 1700000000.123, 1699999000.0, "failing")
    assert Retried.decode(retried.headers()) == retried
    with pytest.raises(RecordError):
        Retried.decode(retried.headers()[1:])


@given(st.sets(st.integers(0, 300)))
def test_intervals_cover_exactly_their_offsets(offsets: set[int]):
    """Intervals hold each offset once, and nothing else, and no two of them touch."""
    found = list(intervals(sorted(offsets)))
    assert {offset for first, last in found for offset in range(first, last + 1)} == offsets
    assert all(after - last > 1 for (_, last), (after, _) in pairwise(found))


@given(
    st.lists(
        st.builds(
            lambda integration, rule, outcome, first, length: OutcomeInterval(
                integration, rule, outcome, first, first + length
            ),
            st.sampled_from(["ga4", "meta"]),
            st.sampled_from(["", "purchase"]),
            st.sampled_from(["delivered", "forwarded", "dead"]),
            st.integers(0, 2**40),
            st.integers(0, 5),
        )
    )
)
def test_outcomes_come_back_as_they_were_written(spans: list[OutcomeInterval]):
    """Encoding groups spans, and loses or invents none."""
    record = Outcomes(Stage.ROUTER, "turnout.events", 3, "abc", spans)
    assert sorted(Outcomes.decode(record.encode()).spans) == sorted(spans)
    assert json.loads(record.encode())["v"] == 1


def test_any_number_of_reasons_fits_into_records():
    """Reasons are split over records as intervals are, and long details are cut."""
    tally = OutcomeBuffer(Stage.ROUTER, "t.events", 0, "v")
    for integration in range(20):
        for offset in range(500):
            tally.name(f"integration{integration}", "rule", Outcome.DEAD, offset, "quarantined", "\x00" * 5000)
    records = list(tally.records())
    assert max(len(record.encode()) for record in records) < MAX_RECORD_BYTES - HEADROOM
    assert sum(len(record.named) for record in records) == 10_000
