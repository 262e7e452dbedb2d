"""What a source's file says of its senders: keys, kinds, limits, and whose word on an address is believed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import orjson
import pytest

from streams.collector.errors import RequestError
from streams.collector.server import Collector
from streams.collector.throttle import Throttle
from streams.sources.limits import SourceLimits
from streams.sources.source import Source, Sources
from streams.steps.kinds import Kinds
from tests.streams.collector import helpers
from tests.streams.collector.helpers import TOPICS, Kept, exchange, head, post, send, serving

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("way")]

EVENT = {"type": "track", "event": "Signed Up", "userId": "u1"}
SOURCES = Sources(
    [
        Source.of("web", ["web-key", "new-key"], disabled_keys=["old-key"]),
        Source.of("closed", ["closed-key"], disabled=True),
        Source.of("pages", ["pages-key"], kinds=Kinds(frozenset({"page", "identify"}))),
        Source.of("small", ["small-key"], limits=SourceLimits(event_bytes=1024, batch_events=2)),
        Source.of("slow", ["slow-1", "slow-2"], limits=SourceLimits(requests_per_second=0.01, burst=200)),
        Source.of("few", ["few-key"], limits=SourceLimits(events_per_second=0.01, burst=300)),
    ]
)


@pytest.fixture
async def collector(monkeypatch: pytest.MonkeyPatch, producer: Kept) -> AsyncIterator[Collector]:
    """A collector of these sources."""
    monkeypatch.setattr(helpers, "SOURCES", SOURCES)
    async with serving(producer) as collector:
        yield collector


@pytest.mark.parametrize(
    ("key", "status", "code"),
    [
        ("web-key", 200, None),
        ("new-key", 200, None),
        ("old-key", 401, "key_disabled"),
        ("closed-key", 404, "source_disabled"),
        ("other-key", 401, "unauthorized"),
    ],
)
@pytest.mark.parametrize("place", ["header", "body"])
async def test_a_key_is_valid_or_says_why_not(
    place: str, key: str, status: int, code: str | None, collector: Collector, producer: Kept
):
    """Several keys are valid at once; disabled keys, or keys of disabled sources, differ from unknown ones."""
    body = EVENT if place == "header" else {**EVENT, "writeKey": key}
    answer = await send(collector, "/v1/track", body, key=key if place == "header" else None)
    assert (answer.status, answer.json.get("code")) == (status, code)
    assert len(producer.events()) == (status == 200)


@pytest.mark.parametrize("key", ["old-key", "closed-key"])
async def test_a_browser_client_gets_no_settings_for_a_disabled_key(key: str, collector: Collector):
    """So that it sends nothing."""
    answer = await exchange(collector, head("GET", f"/v1/projects/{key}/settings", {"host": "test"}))
    assert answer.status == 404


async def test_a_source_takes_its_kinds_only(collector: Collector, producer: Kept):
    """Another kind is refused with 400 alone, and in a batch by name."""
    page = {"type": "page", "userId": "u1"}
    alone = await send(collector, "/v1/track", EVENT, key="pages-key")
    assert (alone.status, alone.json) == (
        400,
        {"code": "kind", "message": "type: the source does not accept track events"},
    )
    batch = await send(collector, "/v1/batch", {"batch": [page, EVENT, page]}, key="pages-key")
    assert [(it["index"], it["code"]) for it in batch.json["rejected"]] == [(1, "kind")]
    assert [event["type"] for event in producer.events()] == ["page", "page"]
    assert producer.values(TOPICS.rejected) == [orjson.dumps(EVENT)]


async def test_a_source_may_have_smaller_bounds(collector: Collector, producer: Kept):
    """Of the event's size and the batch's length, below the collector's own."""
    large = {**EVENT, "text": "x" * 2048}
    assert (await send(collector, "/v1/track", large)).status == 200
    refused = await send(collector, "/v1/track", large, key="small-key")
    assert refused.json == {"code": "too_large", "message": "the event exceeds 1024 bytes"}
    long = await send(collector, "/v1/batch", {"batch": [EVENT] * 3}, key="small-key")
    assert long.json == {"code": "too_many_events", "message": "batch: 3 events; the limit is 2"}
    assert len(producer.events()) == 1


async def test_each_key_has_so_many_requests(collector: Collector, producer: Kept):
    """Requests above the rate get 429 with Retry-After, and another key of the source is not affected."""
    answers = [await send(collector, "/v1/track", EVENT, key="slow-1") for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429]
    assert answers[3].json["code"] == "throttled"
    assert 0 < int(answers[3].headers["retry-after"]) <= 100
    assert (await send(collector, "/v1/track", EVENT, key="slow-2")).status == 200
    assert len(producer.events()) == 4


async def test_each_key_has_so_many_events(collector: Collector, producer: Kept):
    """A batch is accepted as a whole or not at all, and pixel requests also count."""
    assert (await send(collector, "/v1/batch", {"batch": [EVENT] * 5}, key="few-key")).status == 200
    refused = await send(collector, "/v1/batch", {"batch": [EVENT]}, key="few-key")
    assert (refused.status, refused.json["code"]) == (429, "throttled")
    assert 0 < int(refused.headers["retry-after"]) <= 200
    pixel = head("GET", "/v1/pixel/page?userId=u&writeKey=few-key", {"host": "test"})
    assert await status_of(collector, pixel) == 429
    assert len(producer.events()) == 5


@pytest.mark.parametrize("rate", [0.4, 0.7, 3, 1000])
def test_retry_after_is_never_too_short(rate: float):
    """Retry-After has whole seconds and is rounded up: a client that waits for them is let in."""
    now = 0.0
    throttle = Throttle(lambda: now)
    allowance = throttle.find(b"k", Source.of("s", ["k"], limits=SourceLimits(requests_per_second=rate, burst=1)))

    def take_all() -> None:
        while True:
            allowance.take_request()

    for _ in range(5):
        with pytest.raises(RequestError) as refused:
            take_all()
        now += int(dict(refused.value.headers)[b"retry-after"])
        allowance.take_request()


def test_a_rate_is_kept_on_average():
    """Over 100 seconds a key gets through its burst and the rate, whatever the size of its batches."""
    now = 0.0
    source = Source.of("s", ["k"], limits=SourceLimits(events_per_second=50, burst=2))
    throttle = Throttle(lambda: now)
    taken = 0
    for _ in range(1000):
        now += 0.1
        with suppress(RequestError):
            throttle.find(b"k", source).take_events(30)
            taken += 30
    assert 100 * 50 <= taken <= 100 * 50 + 100 + 30


def test_new_limits_are_in_force_at_once():
    """Unchanged limits keep their usage on a reload."""
    throttle = Throttle(lambda: 0.0)
    old = Source.of("s", ["k"], limits=SourceLimits(requests_per_second=1, burst=1))
    first = throttle.find(b"k", old)
    assert throttle.find(b"k", Source.of("s", ["k"], limits=old.limits)) is first
    assert throttle.find(b"k", Source.of("s", ["k"])) is not first


@pytest.mark.parametrize(
    ("trusted", "forwarded", "address"),
    [
        ((), "203.0.113.7", "127.0.0.1"),
        (("10.0.0.0/8",), "203.0.113.7", "127.0.0.1"),
        (("127.0.0.0/8",), "203.0.113.7", "203.0.113.7"),
        (("127.0.0.0/8", "10.0.0.0/8"), "6.6.6.6, 203.0.113.7, 10.1.2.3", "203.0.113.7"),
        (("127.0.0.0/8",), "private-name", None),
        (("127.0.0.0/8",), '"[2001:db8::1]:443"', "2001:db8::1"),
    ],
)
async def test_only_trusted_proxies_are_believed(trusted: tuple[str, ...], forwarded: str, address: str | None):
    """A browser's event gets the address right of which all are trusted, and none if that is unreadable."""
    fields = {"origin": "https://shop.example.com", "x-forwarded-for": forwarded}
    async with serving(producer := Kept(), trusted_proxies=trusted) as collector:
        assert (await exchange(collector, post("/v1/t", orjson.dumps(EVENT), fields))).status == 200
    assert [event.get("context") for event in producer.events()] == [{"ip": address} if address else None]


async def test_several_forwarded_headers_are_one_list():
    """The last untrusted hop counts, in whichever header it is, also for a pixel's event."""
    fields = {"host": "test", "origin": "https://x.example", "Forwarded": 'for=6.6.6.6, for="[2001:db8::7]:4711"'}
    pixel = head("GET", "/v1/pixel/track?writeKey=web-key&userId=u&event=e", {**fields, "connection": "close"})
    async with serving(producer := Kept(), trusted_proxies=("127.0.0.1", "10.0.0.0/8")) as collector:
        for request in (post("/v1/t", orjson.dumps(EVENT), fields), pixel):
            reader, writer = await asyncio.open_connection(*collector.address)
            writer.write(request.replace(b"\r\n\r\n", b"\r\nforwarded: proto=https;for=10.0.0.1\r\n\r\n", 1))
            assert (await reader.readline()).split()[1] == b"200"
            writer.close()
    assert [event["context"]["ip"] for event in producer.events()] == ["2001:db8::7"] * 2


async def test_several_headers_of_proxies_are_one_list():
    """A proxy may append a header instead of an entry."""
    request = post("/v1/t", orjson.dumps(EVENT), {"origin": "https://x.example", "x-forwarded-for": "203.0.113.7"})
    request = request.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n", 1)
    async with serving(producer := Kept(), trusted_proxies=("127.0.0.1", "10.0.0.0/8")) as collector:
        assert (await exchange(collector, request)).status == 200
    assert [event["context"] for event in producer.events()] == [{"ip": "203.0.113.7"}]


@pytest.mark.parametrize(
    ("event", "batch", "context"),
    [
        ({}, {}, {"ip": "127.0.0.1"}),
        ({"context": {"a": 1}}, {}, {"ip": "127.0.0.1", "a": 1}),
        ({"context": {"ip": "203.0.113.7"}}, {}, {"ip": "203.0.113.7"}),
        ({"context": {"ip": None}}, {}, {"ip": None}),
        ({}, {"context": {"ip": "203.0.113.7"}}, {"ip": "203.0.113.7"}),
    ],
)
async def test_what_a_browser_says_of_its_address_stays(
    event: dict[str, Any], batch: dict[str, Any], context: dict[str, Any], collector: Collector, producer: Kept
):
    """Also that it says none: null."""
    body = orjson.dumps({"batch": [{**EVENT, **event}], **batch})
    assert (await exchange(collector, post("/v1/batch", body, {"origin": "https://x.example"}))).status == 200
    assert [event["context"] for event in producer.events()] == [context]


async def test_a_servers_events_get_no_address(collector: Collector, producer: Kept):
    """It would be the server's, and not the user's."""
    assert (await exchange(collector, post("/v1/track", orjson.dumps(EVENT)))).status == 200
    assert "context" not in producer.events()[0]


async def status_of(collector: Collector, request: bytes) -> int:
    """Return the status for a request whose body is invalid JSON."""
    reader, writer = await asyncio.open_connection(*collector.address)
    writer.write(request)
    line = await asyncio.wait_for(reader.readline(), 120)
    writer.close()
    return int(line.split()[1])
