"""Seventeen numbered kinds of bad input over a socket: the response, the accepted events and the routed ones."""

import asyncio
import gzip
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import orjson
import pytest

from streams.collector.server import Collector
from streams.kafka.offsets import OffsetTracker
from streams.kafka.settings import Broker
from streams.records.delivery import DeliveryRecord
from streams.records.outcomes import NOTED, Outcomes
from streams.records.rejected import Rejected
from streams.routing.dedupe import Windows
from streams.routing.router import Router
from streams.routing.ruleset import CurrentRules, Route, RuleSet
from streams.suppression.filter import SuppressedUsers
from streams.suppression.follower import SuppressionFollower
from streams.worker.guard import Guard
from tests.streams.collector.helpers import (
    SOURCES,
    TOPICS,
    Kept,
    Record,
    basic,
    exchange,
    head,
    post,
    read_answer,
    serving,
)
from transforms import read_rules
from transforms.documents import Document

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("way")]

EVENT = {"type": "track", "event": "Signed Up", "userId": "u1", "messageId": "m"}
GOOD = orjson.dumps(EVENT)


class Bad(NamedTuple):
    """A bad input: its number, the request, and the expected response.

    `rejected` are the codes of the events of a batch that are refused by name, `taken` how many events are taken.
    """

    number: int
    name: str
    request: bytes
    status: int
    code: str | None = None
    rejected: Sequence[str] = ()
    taken: int = 0


def event(**changes: Any) -> bytes:
    """An event with something wrong."""
    return orjson.dumps({**EVENT, **changes})


def text(inner: bytes) -> bytes:
    """Return an event with this raw JSON as a property."""
    return GOOD[:-1] + b',"properties":{"a":' + inner + b"}}"


def one(body: bytes, **headers: str) -> bytes:
    """A request with one event."""
    return post("/v1/track", body, {name.replace("_", "-"): value for name, value in headers.items()})


def batch(*bodies: bytes) -> bytes:
    """A request with these events."""
    return post("/v1/batch", b'{"batch":[' + b",".join(bodies) + b"]}")


def sized(size: int) -> bytes:
    """Return an event of this size in bytes."""
    return event(text="x" * (size - len(event(text=""))))


OVER = 4 * 1024 * 1024 + 1
CHUNKED = head("POST", "/v1/batch", {"host": "t", "transfer-encoding": "chunked", **basic("web-key")})
MANY_KEYS = {f"k{n}": n for n in range(10_001)}

BAD = [
    Bad(1, "no write key", post("/v1/track", GOOD, key=None), 401, "unauthorized"),
    Bad(1, "a wrong write key", post("/v1/track", GOOD, key="web-kez"), 401, "unauthorized"),
    Bad(
        2,
        "a body over the limit by its length",
        head("POST", "/v1/batch", {"host": "t", "content-length": str(OVER), **basic("web-key")}),
        413,
        "too_large",
    ),
    Bad(2, "a chunked body over the limit", CHUNKED + b"%x\r\n" % OVER + b" " * OVER + b"\r\n", 413, "too_large"),
    Bad(3, "gzip that inflates to 200 MB", b"", 413, "too_large"),
    Bad(4, "gzip that is cut off", one(gzip.compress(GOOD)[:-9], content_encoding="gzip"), 400, "bad_encoding"),
    Bad(4, "a plain body called gzip", one(GOOD, content_encoding="gzip"), 400, "bad_encoding"),
    Bad(4, "an unknown encoding", one(GOOD, content_encoding="zstd"), 415, "unsupported_encoding"),
    Bad(6, "an event of 33 KB among good ones", batch(GOOD, sized(33 * 1024), GOOD), 200, None, ["too_large"], 2),
    Bad(6, "10,001 events", batch(*[GOOD] * 10_001), 400, "too_many_events"),
    Bad(6, "a batch that is no list", post("/v1/batch", b'{"batch":{}}'), 400, "no_batch"),
    Bad(6, "an empty batch", batch(), 200),
    Bad(7, "a wrong method", head("GET", "/v1/track", {"host": "t"}), 405, "method_not_allowed"),
    Bad(7, "an unknown path", post("/v1/tracks", GOOD), 404, "not_found"),
    Bad(8, "nesting of 1,500", one(text(b"[" * 1500 + b"]" * 1500)), 400, "json"),
    Bad(8, "nesting of 100,000", one(text(b"[" * 100_000 + b"]" * 100_000)), 400, "json"),
    Bad(8, "nesting among good ones", batch(text(b"[" * 1500 + b"]" * 1500), GOOD), 200, None, ["json"], 1),
    Bad(9, "NaN", one(text(b"NaN")), 400, "json"),
    Bad(9, "Infinity", one(text(b"-Infinity")), 400, "json"),
    Bad(9, "1e999", batch(text(b"1e999"), GOOD), 200, None, ["json"], 1),
    Bad(9, "an integer of 5,000 digits", one(text(b"9" * 5000)), 400, "json"),
    Bad(10, "duplicate keys", one(b'{"userId":"a",' + GOOD[1:]), 200, taken=1),
    Bad(10, "a lone surrogate", one(text(rb'"\ud800"')), 200, taken=1),
    Bad(10, "a lone surrogate among good ones", batch(text(rb'"\ud800"'), GOOD), 200, taken=2),
    Bad(10, "a lone surrogate beside NaN", batch(text(rb'"\ud800"'), text(b"NaN"), GOOD), 200, None, ["json"], 2),
    Bad(11, "NUL, bidi marks and emoji", one(event(event="\x00\u202e😀é")), 200, taken=1),
    Bad(11, "UTF-16", one(GOOD.decode().encode("utf-16")), 400, "json"),
    Bad(11, "a byte-order mark", one(b"\xef\xbb\xbf" + GOOD), 200, taken=1),
    Bad(11, "two byte-order marks", one(b"\xef\xbb\xbf" * 2 + GOOD), 400, "json"),
    Bad(11, "broken UTF-8 among good ones", batch(text(b'"\xc3"'), GOOD), 200, None, ["json"], 1),
    Bad(11, "broken UTF-8", one(text(b'"\xc3"')), 400, "json"),
    *[
        Bad(12, f"{junk} instead of an object", one(junk.encode()), 400, "not_an_object")
        for junk in ('["x"]', '"x"', "1")
    ],
    Bad(12, "null instead of an object", one(b"null"), 400, "not_an_object"),
    Bad(12, "junk in a batch", batch(b"null", b"1", b'"x"', b"[[]]", GOOD), 200, None, ["not_an_object"] * 4, 1),
    Bad(13, "an unknown type", one(event(type="tracked")), 400, "type"),
    Bad(13, "no event name", one(event(event=None)), 400, "string_type"),
    Bad(13, "no user", one(event(userId=None)), 400, "no_user"),
    Bad(14, "a time in 1970", one(event(timestamp="1970-01-01T00:00:00Z")), 200, taken=1),
    Bad(14, "a time in 2999", one(event(timestamp="2999-01-01T00:00:00Z")), 200, taken=1),
    Bad(14, "a time without zone", one(event(timestamp="2026-01-02T03:04:05")), 200, taken=1),
    Bad(14, "a time that is none", one(event(timestamp="yesterday")), 200, taken=1),
    Bad(14, "sent before it happened", one(event(originalTimestamp="2026-01-02", sentAt="2026-01-01")), 200, taken=1),
    Bad(15, "no messageId, but a time", batch(*[event(messageId=None, timestamp="2026-01-02")] * 2), 200, taken=2),
    Bad(15, "no messageId", batch(*[event(messageId=None)] * 2, event(messageId=None, n=1)), 200, taken=3),
    Bad(15, "a repeated messageId", batch(event(n=1), event(n=2)), 200, taken=2),
    Bad(16, "properties that are an empty list", one(event(properties=[])), 200, taken=1),
    Bad(16, "properties that are a list", one(event(properties=[1])), 400, "dict_type"),
    Bad(16, "properties that are text", batch(event(properties="{}"), GOOD), 200, None, ["dict_type"], 1),
    Bad(16, "10,001 properties", one(event(properties=MANY_KEYS)), 400, "too_large"),
    Bad(16, "odd names of properties", one(event(properties={"a.b": 1, "$": 2, "[]": 3, "": 4})), 200, taken=1),
    Bad(17, "integrations: all but one", one(event(integrations={"All": False, "two": True})), 200, taken=1),
    Bad(17, "integrations of wrong types", one(event(integrations={"All": "false", "one": 0})), 200, taken=1),
    Bad(17, "integrations that are a list", one(event(integrations=["one"])), 400, "dict_type"),
]


@pytest.mark.parametrize("bad", BAD, ids=[f"{bad.number:02} {bad.name}" for bad in BAD])
async def test_bad_input(bad: Bad, collector: Collector, producer: Kept):
    """The response is as expected, with code and message if refused, and exactly the accepted events are written."""
    request = bad.request or one(gzip.compress(bytes(200 * 1024 * 1024), 1, mtime=0), content_encoding="gzip")
    answer = await exchange(collector, request)
    assert answer.status == bad.status
    if bad.code:
        assert (answer.json["code"], set(answer.json)) == (bad.code, {"code", "message"})
    else:
        assert [each["code"] for each in answer.json.get("rejected", [])] == list(bad.rejected)
    assert len(producer.events()) == bad.taken
    assert len(producer.values(TOPICS.rejected)) == len(bad.rejected)


async def test_bad_input_05_one_byte_at_a_time():
    """A request that comes too slowly is answered 408 and closed, however steadily it comes."""
    async with serving(Kept(), read_timeout=0.3) as collector:
        reader, writer = await asyncio.open_connection(*collector.address)
        answer = asyncio.create_task(read_answer(reader))
        for byte in one(GOOD):
            if answer.done():
                break
            writer.write(bytes([byte]))
            await asyncio.wait({answer}, timeout=0.02)
        assert (await answer).status == 408
        writer.close()


def test_every_kind_has_a_test():
    """From 1 to 17; the fifth needs time, and so a test of its own."""
    assert {bad.number for bad in BAD} | {5} == set(range(1, 18))


class Nobody(SuppressionFollower):
    """Nobody is suppressed, and no broker is asked."""

    async def catch_up(self) -> None:
        """Know all."""


class Routed(NamedTuple):
    """A router's results: payloads by integration, rejected records, and notes."""

    payloads: dict[str, list[Any]]
    rejected: list[Rejected]
    notes: list[tuple[int, str, str]]


def fail_test(error: Exception) -> None:
    raise AssertionError(error)


async def route(records: Sequence[Record]) -> Routed:
    """Take records through a router without a broker: `one` and `two` get whole events."""
    rules, mistakes = read_rules(Document.parse("otherwise: {event: $, dotted: \"$.properties['a.b']\"}", "all.yaml"))
    assert rules, mistakes
    routes = [Route(name, TOPICS.forward(name), rules.apply) for name in ("one", "two")]
    made = Kept()
    broker = Broker()
    follower = Nobody(broker, TOPICS.suppressed, SuppressedUsers(), "t")
    router = Router(
        CurrentRules(RuleSet("v", SOURCES, routes)),
        TOPICS,
        made,
        Windows(broker, 100, "t", TOPICS),
        follower,
        Guard("router", fail_test),
        lambda: 0.0,
    )
    lines = [
        SimpleNamespace(
            topic=TOPICS.events, partition=0, offset=n, timestamp=0, key=it.key, value=it.value, headers=it.headers
        )
        for n, it in enumerate(records)
    ]
    await router.work(OffsetTracker().open((TOPICS.events, 0), lines))
    payloads = {
        it.integration: [DeliveryRecord.decode(value).payload for value in made.values(it.topic)] for it in routes
    }
    rejected = [Rejected.decode(it.key, it.value, it.headers) for it in made.records if it.topic == TOPICS.rejected]
    outcomes = [Outcomes.decode(value) for value in made.values(TOPICS.outcomes)]
    noted = [each for it in outcomes for each in it.named if each.outcome == NOTED]
    return Routed(payloads, rejected, [(each.offset, each.reason, each.detail) for each in noted])


async def taken(name: str, collector: Collector, producer: Kept) -> Routed:
    """Return the router's results for the events that the collector accepts from a bad input."""
    (bad,) = [bad for bad in BAD if bad.name == name]
    assert (await exchange(collector, bad.request)).status == 200
    return await route([record for record in producer.records if record.topic == TOPICS.events])


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("duplicate keys", "userId", "u1"),
        ("NUL, bidi marks and emoji", "event", "\x00\u202e😀é"),
        ("a time in 1970", "timestamp", "1970-01-01T00:00:00.000Z"),
        ("a time in 2999", "timestamp", "2999-01-01T00:00:00.000Z"),
        ("a time without zone", "timestamp", "2026-01-02T03:04:05.000Z"),
        ("a lone surrogate", "properties", {"a": "\ufffd"}),
        ("properties that are an empty list", "properties", {}),
        ("a time that is none", "timestamp", "1970-01-01T00:00:00.000Z"),
        ("odd names of properties", "properties", {"a.b": 1, "$": 2, "[]": 3, "": 4}),
    ],
)
async def test_what_is_odd_and_no_mistake_is_routed(
    name: str, field: str, value: Any, collector: Collector, producer: Kept
):
    """10, 11, 14, 16: in its normal form; without a time, at that of its record, which is 1970 here."""
    routed = await taken(name, collector, producer)
    assert [payload["event"][field] for payload in routed.payloads["one"]] == [value]
    assert not routed.rejected


async def test_odd_names_are_reached_literally(collector: Collector, producer: Kept):
    """16: a dot in a name does not separate path steps."""
    routed = await taken("odd names of properties", collector, producer)
    assert [payload["dotted"] for payload in routed.payloads["one"]] == [1]


async def test_without_message_id_only_events_with_a_time_can_be_repeats(collector: Collector, producer: Kept):
    """15: equal events without a time are two, with a time one; a given messageId is routed once."""
    routed = await taken("no messageId", collector, producer)
    assert [payload["event"].get("n") for payload in routed.payloads["one"]] == [None, None, 1]
    producer.records.clear()
    routed = await taken("no messageId, but a time", collector, producer)
    assert len(routed.payloads["one"]) == 1
    producer.records.clear()
    routed = await taken("a repeated messageId", collector, producer)
    assert [payload["event"]["n"] for payload in routed.payloads["one"]] == [1]


@pytest.mark.parametrize(
    ("name", "counts"),
    [("integrations: all but one", {"one": 0, "two": 1}), ("integrations of wrong types", {"one": 0, "two": 0})],
)
async def test_opt_outs_are_honoured(name: str, counts: dict[str, int], collector: Collector, producer: Kept):
    """17: by the integration's name, else by All, in any type that a client may write them in."""
    routed = await taken(name, collector, producer)
    assert {integration: len(payloads) for integration, payloads in routed.payloads.items()} == counts


async def test_records_of_other_producers_are_routed_or_kept():
    """12: a tombstone is skipped, a null key is routed, and an invalid event is kept unchanged."""
    headers = [("turnout-source", b"web")]
    junk = [b"[1]", b'"x"', b"1", b"null", b"", b'{"type":"page"}', text(b"NaN")]
    values = [None, GOOD, *junk]
    routed = await route([Record(TOPICS.events, 0, None, value, headers) for value in values])
    assert len(routed.payloads["one"]) == 1
    assert [each.value for each in routed.rejected] == junk
