"""Requests of any kind on a socket: none is answered 500, and the records of all that are answered 200 are in Kafka."""

import asyncio
import gzip
import json
import random
import re
import zlib
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from contextlib import asynccontextmanager, suppress
from itertools import islice
from typing import Any, NamedTuple

import orjson
import pytest
from pydantic import SecretStr

from streams import events
from streams.collector import json_slices
from streams.collector.api import PATHS, Action, clean
from streams.collector.settings import SignatureSettings
from streams.collector.signatures import make_verify
from streams.parsing import lenient_json
from streams.sources.limits import SourceLimits
from streams.sources.source import Source, Sources
from streams.sources.webhooks import WebhookEndpoint
from tests.streams.collector import helpers
from tests.streams.collector.helpers import Kept, Record, post, serving
from tests.support import fuzzing
from transforms import read_rules
from transforms.documents import Document

REQUESTS = fuzzing.examples(3000)
SEED = fuzzing.seed()
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
        Source.of("hook", ["hook-key"], webhook=WebhookEndpoint("/v1/webhook/hook", HOOK)),
        Source.of("signed", [], webhook=WebhookEndpoint("/v1/webhook/signed", HOOK, SIGNED, "stripe-signature")),
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
    """Make bodies, most of them nearly right."""

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


BODIES = list(islice(bodies(random.Random(SEED)), 3000))


def break_body(body: bytes, dice: random.Random) -> bytes:
    """Put text or bytes into a body, often in the place of a few others."""
    at = dice.randint(0, 400) % (len(body) + 1)
    text = dice.choice(TEXTS).encode() if dice.random() < 0.5 else dice.randbytes(dice.randint(0, 4))
    return body[:at] + text + body[at + dice.randint(0, 3) :]


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
WRITE_KEYS = [*["web-key"] * 14, "small-key", "off-key", "hook-key", "wrong", "ü", "\x00"]
CREDENTIALS = [
    *["Basic " + b64encode(f"{key}:".encode()).decode() for key in WRITE_KEYS * 2],
    *("", "Basic", "Basic !!", "basic " + "A" * 99, "Bearer web-key", "Basic d2Vi\x7f", *ODD),
    *[None] * 8,
]
DATA = b64encode(orjson.dumps({**EVENT, "writeKey": "web-key"})).decode()
PIXELS = [
    f"/v1/pixel/track?writeKey=web-key&{data}{more}"
    for data in ("userId=u&event=e", f"data={DATA}", "data=e30", "data=%%")
    for more in ("", "&properties.a.b=1", "&event.x=1&event=2", "&context.=1", "&x=%ff", "&a" * 300, "&userId.x=1")
]
OTHERS = ["/", "/health", "/ready", "/v1", "/v1/batch/", "//v1/batch", "*", "/%2e%2e/", "/%ff", "/v1/webhook/x"]
SETTINGS = [f"/v1/projects/{key}/settings" for key in ("web-key", "off-key", "x", "%F0%9F", "%00", "a%2Fb")]
FETCHED = {*PIXELS, *SETTINGS}
PATHS_BY_ACTION = {action: [path for path in PATHS if PATHS[path].action is action] for action in Action}
TARGETS = [
    *[*PATHS_BY_ACTION[Action.EVENT], *PATHS_BY_ACTION[Action.BATCH] * 2, *PATHS_BY_ACTION[Action.METRICS]] * 2,
    *PIXELS,
    *OTHERS,
    *SETTINGS,
    *["/v1/webhook/hook", "/v1/webhook/signed"] * 4,
]
METHODS = [*["POST"] * 12, "GET", "HEAD", "PUT", "OPTIONS", "DELETE", "TRACE"]


class Request(NamedTuple):
    """One request: the bytes sent, and the JSON in them."""

    method: str
    target: str
    body: bytes
    wire: bytes


def make_request(dice: random.Random) -> Request:
    """Make a request, most often nearly right."""
    method, target = dice.choice(METHODS), dice.choice(TARGETS)
    if method == "POST" and target in FETCHED and dice.random() < 0.8:
        method = "GET"
    body = dice.choice(BODIES)
    if dice.random() < 1 / 3:
        body = break_body(body, dice)
    encoding = dice.choice([*ENCODERS, *["identity"] * 12])
    sent = ENCODERS[encoding](body)
    headers = {"host": "test"}
    for _ in range(dice.choice([0, 0, 1, 2])):
        headers[dice.choice(HEADER_NAMES)] = dice.choice(HEADER_VALUES)
    if encoding != "identity" or dice.random() < 0.5:
        headers["content-encoding"] = {"half": "gzip"}.get(encoding, encoding)
    authorization = dice.choice(CREDENTIALS)
    if authorization is not None:
        headers["authorization"] = authorization
    size = dice.choice([None, None, 1, 7, 1000])
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
        async with asyncio.timeout(120):
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


TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{},:]|[^ \t\r\n"\[\]{},:]+', re.DOTALL)


def count_batch(body: bytes) -> int:
    """Count the items of a body's `batch` by its brackets, strings and commas alone.

    An item that is not JSON, as one with NaN or bytes that are not UTF-8, is one record, and no parser takes its body.
    """
    tokens = TOKEN.findall(body)
    depth, name, count = 0, b"", 0
    for token, following in zip(tokens, [*tokens[1:], b""], strict=True):
        if depth == 1 and following == b":":
            name = token
        in_batch = name == b'"batch"'
        if token in (b"[", b"{"):
            if depth == 1 and in_batch:
                count = 0 if following == b"]" else 1
            depth += 1
        elif token in (b"]", b"}"):
            depth -= 1
        elif token == b"," and depth == 2 and in_batch:
            count += 1
    return count


def expected_records(request: Request) -> int:
    """How many records a request that is answered 200 must have led to."""
    path = request.target.partition("?")[0]
    body = lenient_json.without_mark(request.body)
    if path.startswith("/v1/webhook/"):
        return sum(map(records_of_delivery, json_slices.elements(body) if body.strip().startswith(b"[") else [body]))
    target = PATHS.get(clean(path))
    if target is None or target.action is Action.METRICS or request.method not in ("POST", "GET"):
        return 0
    return count_batch(body) if target.action is Action.BATCH else 1


def records_of_delivery(delivery: bytes) -> int:
    """Count the records of a webhook's delivery: one per rule if it is an object, one if it is refused as a whole."""
    try:
        return 1 + isinstance(lenient_json.loads(delivery), dict)
    except ValueError:
        return 1


@pytest.mark.parametrize(
    ("body", "count"),
    [
        (b'{"batch":[]}', 0),
        (b'{"batch":[{"batch":[1,2]},"],",[3,[4]]],"context":{"batch":[5,6,7]}}', 3),
        (b'{"batch":[1],"batch":[{"a":"\xff"},NaN]}', 2),
    ],
)
def test_the_items_of_a_batch_are_counted(body: bytes, count: int):
    """The count is of the last batch at the top, whatever its items are."""
    assert count_batch(body) == count


@asynccontextmanager
async def collecting(monkeypatch: pytest.MonkeyPatch, producer: Kept):
    """Run a collector with the sources of this file."""
    monkeypatch.setattr(helpers, "SOURCES", SOURCES)
    async with serving(producer) as collector:
        yield collector.address


@pytest.mark.anyio
@pytest.mark.usefixtures("way")
async def test_no_request_is_answered_500_and_none_is_lost(monkeypatch: pytest.MonkeyPatch):
    """Every answer is a documented one; a request that is answered 200 leads to all its records, any other to none."""
    producer = Kept()
    seen: Counter[int] = Counter()
    dice = random.Random(SEED)
    async with collecting(monkeypatch, producer) as address:
        client = Client(address)
        for _ in range(REQUESTS):
            request = make_request(dice)
            producer.records.clear()
            status, body = await client.exchange(request)
            seen[status] += 1
            assert status in STATUSES, (SEED, request)
            if status >= 400 and body and "/pixel/" not in request.target:
                assert json.loads(body).keys() == {"code", "message"}, (SEED, request)
            expected = expected_records(request) if status == 200 else 0
            assert len(producer.records) == expected, (SEED, request, body)
        client.close()
    assert {200, 400, 401, 404, 405, 415} <= seen.keys()
    assert seen[200] > REQUESTS / 20


@pytest.mark.anyio
@pytest.mark.usefixtures("way")
async def test_bytes_that_are_hardly_http_do_no_harm(monkeypatch: pytest.MonkeyPatch):
    """A request with bytes inserted or removed anywhere, also in its head, is answered or closed, never with a 500."""
    whole = post("/v1/batch", b'{"batch":[' + orjson.dumps(EVENT) + b"]}", {"origin": "https://shop.example"})
    dice = random.Random(SEED)
    answered = 0
    async with collecting(monkeypatch, Kept()) as address:
        for _ in range(REQUESTS // 6):
            at = dice.randint(0, len(whole))
            wire = whole[:at] + dice.randbytes(dice.randint(0, 8)) + whole[at + dice.randint(0, 20) :]
            reader, writer = await asyncio.open_connection(*address)
            writer.write(wire)
            writer.write_eof()
            async with asyncio.timeout(120):
                answer = await reader.read()
            writer.close()
            answered += bool(answer)
            assert not answer or answer[9:12] in [str(status).encode() for status in STATUSES], (SEED, wire)
    assert answered > REQUESTS / 20


GENERATED = re.compile(rb'"(receivedAt":"[^"]+|messageId":"turnout-[0-9a-f]{32})"')
DATE = re.compile(rb"\r\ndate: [^\r]+")


def comparable_records(producer: Kept) -> list[Record]:
    """Return a producer's records without what differs by time or chance."""
    return [record._replace(value=GENERATED.sub(b"", record.value or b"")) for record in producer.records]


async def converse(address: tuple[str, int], wire: bytes, size: int) -> bytes:
    """Send bytes in pieces of a size, and return all answers without their date.

    After invalid HTTP the collector closes the connection. Unread answers are lost if bytes arrive then.
    """
    reader, writer = await asyncio.open_connection(*address)
    for at in range(0, len(wire), size):
        writer.write(wire[at : at + size])
    answers = b""
    async with asyncio.timeout(120):
        with suppress(ConnectionResetError):
            while part := await reader.read(1 << 16):
                answers += part
    writer.close()
    return DATE.sub(b"", answers)


@pytest.mark.anyio
async def test_events_get_the_same_answers_directly_and_through_asgi(monkeypatch: pytest.MonkeyPatch):
    """Requests of all kinds, also one behind another and in pieces, get the same bytes and lead to the same records."""
    ways = Kept(), Kept()
    dice = random.Random(SEED)
    statuses: Counter[bytes] = Counter()
    lost = 0
    monkeypatch.setattr(helpers, "DIRECT", True)
    async with collecting(monkeypatch, ways[0]) as direct:
        monkeypatch.setattr(helpers, "DIRECT", False)
        async with collecting(monkeypatch, ways[1]) as asgi:
            for _ in range(REQUESTS // 4):
                requests = [make_request(dice).wire for _ in range(dice.choice([1, 1, 2, 3]))]
                last = b"GET /health HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n"
                # In a body, how much garbage is read before the answer depends on when ASGI runs.
                wire = b"".join([*requests, dice.choice([b"", b"", b"", b"EHLO\r\n"]), last])
                size = dice.choice([1 << 20, 1 << 20, 1000, 30])
                answers = [await converse(address, wire, size) for address in (direct, asgi)]
                if b"connection: close" in min(answers, key=len):
                    assert answers[0] == answers[1], (SEED, size, wire)
                else:
                    assert max(answers, key=len).startswith(min(answers, key=len)), (SEED, size, wire)
                    lost += 1
                assert comparable_records(ways[0]) == comparable_records(ways[1]), (SEED, size, wire)
                statuses.update(re.findall(rb"HTTP/1.1 (\d+)", answers[0]))
                for producer in ways:
                    producer.records.clear()
    assert {b"200", b"400", b"401", b"403", b"404", b"405", b"415"} <= statuses.keys()
    assert lost < REQUESTS / 40
