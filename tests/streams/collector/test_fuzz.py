"""Ten thousand requests of any kind on a socket: none is answered 500, and what is answered 200 is in Kafka."""

import asyncio
import gzip
import json
import random
import zlib
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

import orjson
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from streams import events, lenient_json
from streams.collector import slices
from streams.collector.api import PATHS, Action, clean
from streams.collector.settings import SignatureSettings, SourceLimits
from streams.collector.signatures import make_verify
from streams.sources import Source, Sources
from streams.webhooks import Webhook
from tests.streams.collector import helpers
from tests.streams.collector.helpers import Kept, post, serving
from transforms import read_rules
from transforms.documents import Document

REQUESTS, AT_ONCE = 10_000, 25
STATUSES = {200, 204, 400, 401, 403, 404, 405, 408, 413, 415, 431}

HOOK, _ = read_rules(
    Document.parse(
        'match: all\nrules: [{name: a, map: {"@path": $.body}}, {name: b, map: {type: page, userId: u}}]', "hook.yaml"
    )
)
assert HOOK
SIGNED = make_verify(SignatureSettings(scheme="stripe", secret=SecretStr("s")))
SOURCES = Sources(
    [
        Source.of("web", ["web-key"], origins=["https://shop.example"]),
        Source.of("small", ["small-key"], limits=SourceLimits(event_bytes=1024, batch_events=3)),
        Source.of("off", ["off-key"], disabled=True),
        Source.of("hook", ["hook-key"], webhook=Webhook("/v1/webhook/hook", HOOK)),
        Source.of("signed", [], webhook=Webhook("/v1/webhook/signed", HOOK, SIGNED, "stripe-signature")),
    ]
)

EVENT = {"type": "track", "event": "E", "userId": "u"}
VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    2**53,
    1.5,
    "",
    "x",
    "\x00\u202e😀",
    "u" * 3000,
    [],
    [1],
    {},
    {"": {"$": [".", "[]"]}},
]
TEXTS = [
    *("{", "[", '"', "]", "}", ",", ":", "\\", "\\ud800", "\\u0000", "NaN", "1e999", "9" * 400, "-", "\ufeff", "\x00"),
    *("[" * 300, '{"a":' * 1100, "\t\n ", "null", '"batch"', '"writeKey"'),
]
KEYS = ["type", "event", "userId", "anonymousId", "messageId", "context", "integrations", "properties", "timestamp"]
NAMES = [*KEYS, "groupId", "previousId", "traits", "sentAt", "writeKey", "x"]


def bodies(dice: random.Random) -> Iterator[bytes]:
    """Bodies, most of them nearly right; drawing each from hypothesis would take longer than all else."""

    def pick(names: list[str], most: int) -> dict[str, Any]:
        return {name: dice.choice(VALUES) for name in dice.sample(names, dice.randint(0, most))}

    def event() -> Any:
        changes = pick(NAMES, 2) if dice.random() < 0.4 else {}
        return dice.choice([{**EVENT, "type": dice.choice(events.TYPES[:2]), **changes}] * 6 + VALUES[:2])

    while True:
        shared = pick(["context", "integrations", "sentAt", "writeKey"], 2) if dice.random() < 0.3 else {}
        batch: Any = [event() for _ in range(dice.randint(0, 5))]
        yield orjson.dumps(dice.choice([event(), {**shared, "batch": batch}, {**shared, "batch": batch}, batch]))
        yield orjson.dumps({**shared, "batch": dice.choice(VALUES)} if dice.random() < 0.5 else dice.choice(VALUES))
        yield orjson.dumps({**EVENT, **shared})


BODIES = st.sampled_from(list(islice(bodies(random.Random(1)), 3000)))
BROKEN = st.builds(
    lambda body, at, text, cut: body[: at % (len(body) + 1)] + text + body[at % (len(body) + 1) + cut :],
    BODIES,
    st.integers(0, 400),
    st.one_of(st.sampled_from(TEXTS).map(str.encode), st.binary(max_size=4)),
    st.integers(0, 3),
)
ENCODERS = {
    "gzip": lambda body: gzip.compress(body, 1, mtime=0),
    "deflate": zlib.compress,
    "identity": lambda body: body,
    "br": lambda body: body,
    "half": lambda body: gzip.compress(body, 1, mtime=0)[:-5],
}
ODD = ["", "x", "é\x7f", "null", "\t", "https://shop.example", "https://evil.example", "=" * 70, "u" * 9000]
HEADER_NAMES = [
    *("content-type", "origin", "anonymousid", "x-forwarded-for", "user-agent", "accept", "stripe-signature"),
    *("expect", "cookie", "x-retry-count", "access-control-request-headers", "sec-gpc", "if-none-match", "range"),
]
HEADER_VALUES = [*ODD, "text/plain", "application/x-www-form-urlencoded", "10.0.0.1, x", "t=1,v1=aa", "bytes=0-1"]
HEADERS = st.lists(st.tuples(st.sampled_from(HEADER_NAMES), st.sampled_from(HEADER_VALUES)), max_size=2).map(dict)
AUTHORIZATION = st.one_of(
    st.sampled_from(
        ["web-key", "web-key", "web-key", "web-key", "small-key", "off-key", "hook-key", "wrong", "ü", "\x00"]
    ).map(lambda key: "Basic " + b64encode(f"{key}:".encode()).decode()),
    st.sampled_from(["", "Basic", "Basic !!", "basic " + "A" * 99, "Bearer web-key", "Basic d2Vi\x7f", *ODD]),
    st.none(),
)
DATA = b64encode(orjson.dumps({**EVENT, "writeKey": "web-key"})).decode()
PIXELS = [
    f"/v1/pixel/track?writeKey=web-key&{data}{more}"
    for data in ("userId=u&event=e", f"data={DATA}", "data=e30", "data=%%")
    for more in ("", "&properties.a.b=1", "&event.x=1&event=2", "&context.=1", "&x=%ff", "&a" * 300, "&userId.x=1")
]
OTHERS = ["/", "/health", "/ready", "/v1", "/v1/batch/", "//v1/batch", "*", "/%2e%2e/", "/%ff", "/v1/webhook/x"]
SETTINGS = [f"/v1/projects/{key}/settings" for key in ("web-key", "off-key", "x", "%F0%9F", "%00", "a%2Fb")]
PATHS_BY_ACTION = {action: [path for path in PATHS if PATHS[path].action is action] for action in Action}
TARGETS = st.sampled_from(
    [*PATHS_BY_ACTION[Action.EVENT], *PATHS_BY_ACTION[Action.BATCH] * 2, *PATHS_BY_ACTION[Action.METRICS]] * 2
    + [*PIXELS, *OTHERS, *SETTINGS, *["/v1/webhook/hook", "/v1/webhook/signed"] * 4]
)
METHODS = st.sampled_from(["POST"] * 12 + ["GET", "HEAD", "PUT", "OPTIONS", "DELETE", "TRACE"])


class Request(NamedTuple):
    """One request: how it goes over the wire, and the JSON in it."""

    method: str
    target: str
    body: bytes
    wire: bytes


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """Requests, most of them nearly right."""
    method, target = draw(METHODS), draw(TARGETS)
    body = draw(st.one_of(BODIES, BODIES, BROKEN))
    encoding = draw(st.sampled_from([*ENCODERS, *["identity"] * 12]))
    sent = ENCODERS[encoding](body)
    headers = {"host": "test", **draw(HEADERS)}
    if encoding != "identity" or draw(st.booleans()):
        headers["content-encoding"] = {"half": "gzip"}.get(encoding, encoding)
    authorization = draw(AUTHORIZATION)
    if authorization is not None:
        headers["authorization"] = authorization
    size = draw(st.sampled_from([None, None, 1, 7, 1000]))
    if size is None:
        headers["content-length"] = str(len(sent))
    else:
        headers["transfer-encoding"] = "chunked"
        parts = [sent[at : at + size] for at in range(0, len(sent), size)] if len(sent) < 900 * size else [sent]
        sent = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts if part) + b"0\r\n\r\n"
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return Request(method, target, body, "\r\n".join(lines).encode("latin-1", "replace") + sent)


class Client:
    """A connection that is opened again when the collector closes it."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._writer: asyncio.StreamWriter | None = None

    async def exchange(self, request: Request) -> tuple[int, bytes]:
        """Send a request; returns the answer's status and body."""
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(*self._address)
        self._writer.write(request.wire)
        async with asyncio.timeout(20):
            line, *fields = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
            headers = dict(field.split(": ", 1) for field in fields if field)
            status = int(line.split()[1])
            silent = request.method == "HEAD" or status == 204
            body = b"" if silent else await self._reader.readexactly(int(headers["content-length"]))
        # What of a body was not read would run into the next request.
        if headers.get("connection") == "close" or status >= 400:
            self.close()
        return status, body

    def close(self) -> None:
        """Forget the connection."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def expected_records(request: Request) -> int:
    """How many records a request that is answered 200 must have led to."""
    path = request.target.partition("?")[0]
    body = lenient_json.without_mark(request.body)
    if path.startswith("/v1/webhook/"):
        return sum(map(records_of_delivery, slices.elements(body) if body.strip().startswith(b"[") else [body]))
    target = PATHS.get(clean(path))
    if target is None or target.action is Action.METRICS or request.method not in ("POST", "GET"):
        return 0
    return len(slices.elements(slices.members(body)["batch"])) if target.action is Action.BATCH else 1


def records_of_delivery(delivery: bytes) -> int:
    """Count the records of a webhook's delivery: one per rule if it is an object, one if it is refused as a whole."""
    try:
        return 1 + isinstance(lenient_json.loads(delivery), dict)
    except ValueError:
        return 1


def test_no_request_is_answered_500_and_none_is_lost(monkeypatch: pytest.MonkeyPatch):
    """An answer is one of those that are documented; what is answered 200 has all its records, anything else none."""
    monkeypatch.setattr(helpers, "SOURCES", SOURCES)
    producer = Kept()
    seen: Counter[int] = Counter()

    async def send(some: list[Request], address: tuple[str, int]) -> None:
        client = Client(address)
        for request in some:
            producer.records.clear()
            status, body = await client.exchange(request)
            seen[status] += 1
            assert status in STATUSES, request
            if status >= 400 and body and "/pixel/" not in request.target:
                assert json.loads(body).keys() == {"code", "message"}, request
            assert len(producer.records) == (expected_records(request) if status == 200 else 0), (request, body)
        client.close()

    @settings(
        max_examples=REQUESTS // AT_ONCE,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(st.lists(requests(), min_size=AT_ONCE, max_size=AT_ONCE))
    def fuzz(some: list[Request]) -> None:
        runner.run(send(some, collector.address))

    with asyncio.Runner() as runner:
        server = serving(producer)
        collector = runner.run(server.__aenter__())
        fuzz()
        runner.run(server.__aexit__(None, None, None))
    assert seen.total() >= REQUESTS
    assert {200, 400, 401, 404, 405, 415} <= seen.keys()
    assert seen[200] > REQUESTS / 20


def test_bytes_that_are_hardly_http_do_no_harm(monkeypatch: pytest.MonkeyPatch):
    """A request with bytes put in or taken out anywhere, its head too, is answered or left, never with a 500."""
    monkeypatch.setattr(helpers, "SOURCES", SOURCES)
    whole = post("/v1/batch", b'{"batch":[' + orjson.dumps(EVENT) + b"]}", {"origin": "https://shop.example"})

    async def send(wire: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(*collector.address)
        writer.write(wire)
        writer.write_eof()
        async with asyncio.timeout(20):
            answer = await reader.read()
        writer.close()
        return answer

    @settings(max_examples=500, suppress_health_check=list(HealthCheck), database=None)
    @given(st.integers(0, len(whole)), st.integers(0, 20), st.binary(max_size=8))
    def fuzz(at: int, cut: int, put: bytes) -> None:
        answer = runner.run(send(whole[:at] + put + whole[at + cut :]))
        assert not answer or answer[9:12] in [str(status).encode() for status in STATUSES]

    with asyncio.Runner() as runner:
        server = serving(Kept())
        collector = runner.run(server.__aenter__())
        fuzz()
        runner.run(server.__aexit__(None, None, None))
