"""What the headers of Turnout's records say, and which of them a reader refuses."""

import pytest

from streams.records.delivery import Retried
from streams.records.event import Origin, event_headers, replay_header
from streams.records.format import (
    DETAIL_HEADER,
    EVENT_VERSION,
    FROM_HEADER,
    HANDLED_HEADER,
    HANDLED_VERSION,
    REASON_HEADER,
    REJECTED_VERSION,
    RETRIED_VERSION,
    VERSION_HEADER,
    Headers,
    NewerFormatError,
    RecordError,
    check_version,
)
from streams.records.handled import Handled
from streams.records.rejected import QUARANTINED_REASON, Rejected, rejected_headers
from streams.topics import SUPPRESSED_END


def test_the_names_of_headers_are_a_format():
    """Records in Kafka, other producers and other versions rely on them."""
    assert event_headers("web") == [("turnout-source", b"web"), ("turnout-version", b"1")]
    assert replay_header(2, 17) == ("turnout-replay", b"2:17")
    assert Retried(3, 2.5, 1.25, "failing").headers() == [
        ("turnout-attempt", b"3"),
        ("turnout-due", b"2500"),
        ("turnout-since", b"1250"),
        ("turnout-reason", b"failing"),
        ("turnout-version", b"1"),
    ]
    assert rejected_headers("json", "why", "web", Origin("turnout.events", 2, 17)) == [
        ("turnout-reason", b"json"),
        ("turnout-detail", b"why"),
        ("turnout-source", b"web"),
        ("turnout-from", b'["turnout.events",2,17]'),
        ("turnout-version", b"1"),
    ]
    assert Handled("replayed", [3, 5]).headers() == [
        ("turnout-handled", b'["replayed",[3,5]]'),
        ("turnout-version", b"1"),
    ]
    assert (SUPPRESSED_END, QUARANTINED_REASON) == (b"end", "quarantined")


@pytest.mark.parametrize("headers", [[], [("other", b"2")], [(VERSION_HEADER, b"0")], event_headers("web")])
def test_known_formats_are_read(headers: Headers):
    """A record without a version is of the first."""
    check_version(headers)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        *[(value, NewerFormatError) for value in (b"%d" % (EVENT_VERSION + 1), b"10", b"9" * 5000)],
        *[(value, RecordError) for value in (b"", b"x", b"-1", b"1.0", b"\xff", None)],
    ],
)
def test_a_format_that_is_newer_or_unreadable_is_refused(value: bytes, error: type[RecordError]):
    """The format version is read from each record's header, whatever the header's position."""
    odd = [(VERSION_HEADER, value)]
    for read in (
        lambda: check_version([("other", b"1"), *odd]),
        lambda: Retried.decode([*Retried(1, 2.0, 1.0, "failing").headers()[:-1], *odd]),
        lambda: Rejected.decode(None, b"", [*rejected_headers("json", "", "web")[:-1], *odd]),
        lambda: Handled.decode([*Handled("replayed", [1]).headers()[:-1], *odd]),
    ):
        with pytest.raises(RecordError) as caught:
            read()
        assert type(caught.value) is error


def test_every_record_says_its_version():
    """A reader of a later version can tell the formats apart."""
    for headers, version in (
        (event_headers("web"), EVENT_VERSION),
        (Retried(1, 2.0, 1.0, "failing").headers(), RETRIED_VERSION),
        (rejected_headers("json", "", "web"), REJECTED_VERSION),
        (Handled("dropped", [1]).headers(), HANDLED_VERSION),
    ):
        assert (VERSION_HEADER, b"%d" % version) in headers


def test_what_was_handled_comes_back():
    """How, and which offsets; a record without the header is no such note, and a broken one is an error."""
    assert Handled.decode(Handled("replayed", (3, 5, 8)).headers()) == Handled("replayed", [3, 5, 8])
    assert Handled.decode(rejected_headers("json", "", "web")) is None
    for value in (b"", b"{", b"7", b"[]", b'["replayed"]'):
        with pytest.raises(RecordError):
            Handled.decode([(HANDLED_HEADER, value)])


def test_an_event_that_the_collector_refused_has_no_place():
    """It never was in a topic."""
    rejected = Rejected.decode(None, b"{", rejected_headers("json", "why", "web"))
    assert rejected == Rejected("json", "why", "web", None, None, b"{")


@pytest.mark.parametrize("name", [REASON_HEADER, DETAIL_HEADER, FROM_HEADER])
def test_a_rejected_record_that_lacks_a_header_is_an_error(name: str):
    """As is one whose header cannot be read."""
    headers = dict(rejected_headers("json", "why", "web"))
    with pytest.raises(RecordError):
        Rejected.decode(None, b"", [it for it in headers.items() if it[0] != name])
    with pytest.raises(RecordError):
        Rejected.decode(None, b"", list({**headers, name: b"\xff"}.items()))


def test_times_of_a_retry_are_kept_to_the_millisecond():
    """A retry is due neither earlier nor later for having been in Kafka."""
    retried = Retried.decode(Retried(2, 1700000000.0006, 1700000000.0004, "failing").headers())
    assert (retried.due, retried.since) == (1700000000.001, 1700000000.0)
