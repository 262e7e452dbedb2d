"""A router describes each run of events in headers that a reader decodes to the same facts."""

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_64_digest

from streams.kafka.producer import HEADROOM
from streams.records.format import MAX_RECORD_BYTES, NewerFormatError, RecordError
from streams.records.run_header import (
    EVENTS_PER_HEADER,
    NAME_CHARACTERS,
    NO_HASH,
    RUN_HEADER_VERSION,
    UNREAD,
    EventFacts,
    Kind,
    decode_run,
    encode_run,
    hash_id,
)


class Record(NamedTuple):
    """The parts of a consumer's record that a header describes."""

    offset: int
    key: bytes | None
    timestamp: int | None


EVENTS = st.lists(
    st.tuples(
        st.integers(1, 50),
        st.one_of(st.none(), st.binary(max_size=3)),
        st.one_of(st.none(), st.integers(-1, 2**45), st.integers(1_700_000_000_000, 1_700_000_200_000)),
        st.one_of(
            st.none(),
            st.tuples(
                st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5),
                st.sampled_from(["web", "ios"]),
                st.sampled_from(["track", "page"]),
                st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]), max_size=120)),
            ),
        ),
    ),
    min_size=1,
    max_size=30,
)


@given(st.integers(0, 2**43), EVENTS)
def test_a_decoded_header_has_what_was_encoded(start: int, events: list):
    """Offsets with gaps, hashes, kinds and minutes come back; events that were not decoded have neither id nor kind."""
    records, facts, offset = [], [], start
    for gap, key, timestamp, known in events:
        offset += gap
        records.append(Record(offset, key, timestamp))
        if known is not None:
            facts.append(EventFacts(offset, *known))
    (header,) = encode_run(records, facts)
    run = decode_run(header)
    assert list(run.offsets) == [record.offset for record in records]
    times = [max(0, record.timestamp or 0) for record in records]
    assert list(run.minutes) == [time // 60_000 for time in times]
    assert (run.first_ms, run.last_ms) == (min(times), max(times))
    by_offset = {fact.offset: fact for fact in facts}
    for index, record in enumerate(records):
        fact = by_offset.get(record.offset)
        its_hash = xxh3_64_digest(fact.message_id.encode()) if fact else NO_HASH
        assert run.ids[8 * index : 8 * index + 8] == its_hash
        assert run.users[8 * index : 8 * index + 8] == (xxh3_64_digest(record.key) if record.key else NO_HASH)
        kind = Kind(fact.source, fact.type, fact.name and fact.name[:NAME_CHARACTERS]) if fact else UNREAD
        assert run.table[run.kinds[index]] == kind


def test_more_than_256_kinds_take_two_bytes():
    """Each event of a run with 600 names has its own name."""
    records = [Record(offset, b"k", 5) for offset in range(600)]
    (header,) = encode_run(records, [EventFacts(offset, "m", "web", "track", f"n{offset}") for offset in range(600)])
    run = decode_run(header)
    assert [run.table[kind].name for kind in run.kinds] == [f"n{offset}" for offset in range(600)]


def test_a_header_of_one_kind_takes_17_bytes_per_event_at_most():
    """The common case has no index per event, and its hashes take 16 bytes."""
    records = [Record(offset, b"user", 1_700_000_000_000) for offset in range(500)]
    (header,) = encode_run(
        records, [EventFacts(offset, f"m{offset}", "web", "track", "Order") for offset in range(500)]
    )
    assert len(header) < 500 * 17


def test_a_long_run_has_several_headers_that_fit_into_records():
    """The largest headers, with names that need the most bytes, are below the limit of a record."""
    count = 2 * EVENTS_PER_HEADER + 1
    records = [Record(offset, b"k", 60_000 * offset) for offset in range(count)]
    facts = [EventFacts(offset, "m", "web", "track", f"{offset:05}" + "\x00" * 500) for offset in range(count)]
    headers = list(encode_run(records, facts))
    assert [len(decode_run(header).offsets) for header in headers] == [EVENTS_PER_HEADER, EVENTS_PER_HEADER, 1]
    assert max(map(len, headers)) < MAX_RECORD_BYTES - HEADROOM - 4096


def test_a_newer_layout_is_refused():
    """A reader does not guess at a layout from its future."""
    with pytest.raises(NewerFormatError, match="format 2"):
        decode_run(bytes([RUN_HEADER_VERSION + 1]))


@given(st.one_of(st.none(), st.binary(max_size=60)), st.integers(0, 400), st.integers(0, 255))
def test_a_broken_header_is_a_record_error(junk: bytes | None, at: int, byte: int):
    """Bytes that are not a header, or a header with one byte cut off or changed, never raise anything else."""
    records = [Record(offset, b"k", 60_000 * offset) for offset in range(5, 15)]
    (header,) = encode_run(records, [EventFacts(offset, "m", "web", "track", f"n{offset}") for offset in range(5, 15)])
    changed = header[: at % len(header)] + bytes([byte]) + header[at % len(header) + 1 :]
    for value in (junk, header[:-1], header[: at % len(header)], changed):
        try:
            decode_run(value)
        except RecordError:
            continue
        assert value not in (junk, header[:-1])


def test_an_empty_id_has_no_hash():
    """Text and its UTF-8 have the same hash; nothing has none."""
    assert hash_id("ü") == hash_id("ü".encode()) != NO_HASH
    assert hash_id("") == hash_id(None) == hash_id(b"") == NO_HASH
