"""What browsers and mails send, over a socket: preflights, short paths, text/plain, beacons, settings, pixels."""

import asyncio
from base64 import b64encode, urlsafe_b64encode
from collections.abc import AsyncIterator
from urllib.parse import quote

import orjson
import pytest

from streams.collector import pixel
from streams.collector.server import Collector
from streams.sources.source import Source, Sources
from tests.streams.collector import helpers
from tests.streams.collector.helpers import Kept, exchange, head, post, send, serving

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("way")]

SHOP = "https://shop.example.com"
SOURCES = Sources(
    [
        Source.of("open", ["open-key"]),
        Source.of("shop", ["shop-key"], origins=[SHOP, "https://*.shop.example.com"]),
    ]
)
SHOP_ONLY = Sources([SOURCES.by_name("shop")])


@pytest.fixture
async def shop(monkeypatch: pytest.MonkeyPatch, producer: Kept) -> AsyncIterator[Collector]:
    """A collector whose one source names the origins that may send."""
    monkeypatch.setattr(helpers, "SOURCES", SHOP_ONLY)
    async with serving(producer) as collector:
        yield collector


@pytest.fixture
async def mixed(monkeypatch: pytest.MonkeyPatch, producer: Kept) -> AsyncIterator[Collector]:
    """Run a collector that also has a source for any origin."""
    monkeypatch.setattr(helpers, "SOURCES", SOURCES)
    async with serving(producer) as collector:
        yield collector


def preflight(path: str, origin: str) -> bytes:
    fields = {
        "host": "test",
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "anonymousid,authorization,content-type,x-retry-count",
    }
    return head("OPTIONS", path, fields)


@pytest.mark.parametrize("path", ["/v1/batch", "/v1/t"])
async def test_a_preflight_is_answered(path: str, shop: Collector):
    """A page of an allowed origin may send any requested headers, with credentials as from sendBeacon."""
    answer = await exchange(shop, preflight(path, SHOP))
    assert answer.status == 204
    assert answer.headers["access-control-allow-origin"] == SHOP
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert answer.headers["access-control-allow-methods"] == "POST, GET"
    assert answer.headers["access-control-allow-headers"] == "anonymousid,authorization,content-type,x-retry-count"
    assert answer.headers["vary"] == "Origin"


@pytest.mark.parametrize(
    ("origin", "admitted"),
    [
        (SHOP, True),
        ("https://a.shop.example.com", True),
        ("https://a.b.shop.example.com", True),
        ("http://shop.example.com", False),
        ("https://shop.example.com:8443", False),
        ("https://shop.example.com.evil.example", False),
        ("https://evil-shop.example.com", False),
        ("https://evil.example/.shop.example.com", False),
        ("null", False),
    ],
)
async def test_only_pages_of_the_sources_origins_may_send(origin: str, admitted: bool, shop: Collector, producer: Kept):
    """An origin that is not among the source's is refused in the preflight and with the event, and cannot read why."""
    asked = await exchange(shop, preflight("/v1/t", origin))
    assert asked.status == (204 if admitted else 403)
    sent = await exchange(shop, post("/v1/t", b'{"event":"E","userId":"u"}', {"origin": origin}, key="shop-key"))
    assert sent.status == (200 if admitted else 403)
    assert ("access-control-allow-origin" in sent.headers) == admitted
    assert len(producer.events()) == admitted


async def test_a_source_without_origins_admits_any(mixed: Collector, producer: Kept):
    """One source's choice binds no other; servers, which send no Origin, are not asked."""
    body = b'{"event":"E","userId":"u"}'
    other = {"origin": "https://other.example"}
    assert (await exchange(mixed, post("/v1/t", body, other, key="open-key"))).status == 200
    assert (await exchange(mixed, post("/v1/t", body, other, key="shop-key"))).status == 403
    assert (await exchange(mixed, post("/v1/t", body, key="shop-key"))).status == 200
    assert len(producer.events()) == 2


async def test_a_page_can_read_why_an_event_was_refused(shop: Collector):
    """Errors also have the headers that let an allowed page read them."""
    answer = await exchange(shop, post("/v1/t", b"{}", {"origin": SHOP}, key="wrong"))
    assert answer.status == 401
    assert answer.headers["access-control-allow-origin"] == SHOP


@pytest.mark.parametrize(
    ("path", "event"),
    [
        ("/v1/i", {"type": "identify"}),
        ("/v1/t", {"type": "track", "event": "E"}),
        ("/v1/p", {"type": "page"}),
        ("/v1/s", {"type": "screen"}),
        ("/v1/g", {"type": "group", "groupId": "g"}),
        ("/v1/a", {"type": "alias", "previousId": "p"}),
    ],
)
async def test_short_paths_and_text_plain(path: str, event: dict[str, str], collector: Collector, producer: Kept):
    """The browser client's short paths take its text/plain, with the write key in the body and no type."""
    body = {**event, "userId": "u", "writeKey": "web-key"}
    del body["type"]
    answer = await send(collector, path, body, headers={"content-type": "text/plain"}, key=None)
    assert (answer.status, answer.json) == (200, {"success": True})
    assert [taken["type"] for taken in producer.events()] == [event["type"]]


async def test_the_short_path_of_batches_and_that_of_the_clients_own_metrics(collector: Collector, producer: Kept):
    """/v1/b accepts a batch; /v1/m responds to anyone, and stores nothing."""
    batch = {"batch": [{"type": "page", "userId": "u"}], "writeKey": "web-key"}
    assert (await send(collector, "/v1/b", batch, key=None)).status == 200
    assert (await send(collector, "/v1/m", {"series": []}, key=None)).status == 200
    assert [event["type"] for event in producer.events()] == ["page"]


@pytest.mark.parametrize("given", ["a-1", b64encode(b"a-1").decode()])
async def test_the_header_of_the_anonymous_id(given: str, collector: Collector, producer: Kept):
    """What RudderStack's browser client says in a header holds for events that name nobody, and for no others."""
    batch = [{"type": "page"}, {"type": "page", "userId": "u"}, {"type": "page", "anonymousId": "own"}]
    await send(collector, "/v1/batch", {"batch": batch}, headers={"anonymousid": given})
    await send(collector, "/v1/page", {}, headers={"anonymousid": given})
    assert [(event.get("anonymousId"), event.get("userId")) for event in producer.events()] == [
        ("a-1", None),
        (None, "u"),
        ("own", None),
        ("a-1", None),
    ]


async def test_the_settings_of_the_browser_client(mixed: Collector):
    """They send the client back to the host and scheme that it asked, with the key that it showed."""
    fields = {"host": "events.example.com", "x-forwarded-proto": "https", "origin": SHOP}
    answer = await exchange(mixed, head("GET", "/v1/projects/shop-key/settings", fields))
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == SHOP
    assert answer.headers["cache-control"] == "private, max-age=120"
    settings = answer.json["integrations"]["Segment.io"]
    assert (settings["apiKey"], settings["apiHost"], settings["protocol"]) == (
        "shop-key",
        "events.example.com/v1",
        "https",
    )
    wrong = await exchange(mixed, head("GET", "/v1/projects/wrong/settings", fields))
    assert (wrong.status, wrong.json["code"]) == (404, "unauthorized")
    foreign = await exchange(mixed, head("GET", "/v1/projects/shop-key/settings", fields | {"origin": "https://x.y"}))
    assert foreign.status == 403


async def fetch(collector: Collector, target: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    """A picture as a mail program fetches it."""
    reader, writer = await asyncio.open_connection(*collector.address)
    writer.write(head(method, target, {"host": "test", "user-agent": "Mail/1.0", "connection": "close"}))
    raw = await reader.read()
    writer.close()
    top, _, body = raw.partition(b"\r\n\r\n")
    line, *fields = top.decode().lower().split("\r\n")
    return int(line.split()[1]), dict(field.split(": ", 1) for field in fields), body


async def test_a_pixel_takes_an_event_and_is_a_picture(collector: Collector, producer: Kept):
    """Its parameters are the event's fields, with dots for nested ones; responses are not cached."""
    target = "/v1/pixel/track?writeKey=web-key&userId=u&event=Mail+Opened&properties.mail.id=7&properties.x=%C3%A9"
    status, headers, body = await fetch(collector, target)
    assert (status, headers["content-type"], headers["cache-control"]) == (200, "image/gif", "no-store")
    assert body == pixel.GIF
    assert body.startswith(b"GIF89a\x01\x00\x01\x00")
    (event,) = producer.events()
    event.pop("receivedAt")
    assert event.pop("messageId").startswith("turnout-")
    assert event == {
        "type": "track",
        "event": "Mail Opened",
        "userId": "u",
        "properties": {"mail": {"id": "7"}, "x": "é"},
        "context": {"ip": "127.0.0.1", "userAgent": "Mail/1.0"},
    }


@pytest.mark.parametrize("encode", [b64encode, urlsafe_b64encode])
async def test_a_pixel_takes_the_events_json(encode, collector: Collector, producer: Kept):
    """In base64, of either alphabet, with its padding or without, as Segment's pixel has it."""
    event = {"writeKey": "web-key", "userId": "u??>>", "properties": {"n": 1}}
    data = encode(orjson.dumps(event)).decode()
    for text in (data, data.rstrip("=")):
        assert (await fetch(collector, f"/v1/pixel/page?data={quote(text)}"))[0] == 200
    assert [(event["userId"], event["properties"]) for event in producer.events()] == [("u??>>", {"n": 1})] * 2


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("writeKey=wrong&userId=u&event=E", 401),
        ("userId=u&event=E", 401),
        ("writeKey=web-key&event=E", 400),
        ("writeKey=web-key&userId=u", 400),
        ("data=%7B", 400),
        ("data=W10=", 400),
        ("writeKey=web-key&userId=%ff&event=E", 400),
        ("writeKey=web-key&userId=u&event=E&properties=1&properties.a=2", 400),
        ("writeKey=web-key&userId=u&event=E&properties.a.b=1&properties.a=2", 400),
        ("&".join(["writeKey=web-key&userId=u&event=E", *(f"p{n}=1" for n in range(300))]), 400),
    ],
)
async def test_a_pixel_that_is_refused_is_a_picture_all_the_same(
    query: str, status: int, collector: Collector, producer: Kept
):
    """The status says that nothing was taken, and no reader of the mail sees a broken picture."""
    answered, _, body = await fetch(collector, f"/v1/pixel/track?{query}")
    assert (answered, body) == (status, pixel.GIF)
    assert producer.records == []
