"""Everything but request bodies over a raw socket: heads, trailers, pipelined requests."""

import asyncio

import orjson
import pytest

from streams.collector.protocol import HEAD_BYTES
from streams.collector.server import Collector
from tests.streams.collector.helpers import (
    TOPICS,
    Answer,
    Kept,
    basic,
    exchange,
    head,
    post,
    read_answer,
    send,
    serving,
)

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("way")]

EVENT = {"type": "track", "event": "Signed Up", "userId": "u1"}
BODY = orjson.dumps(EVENT)
REQUEST = post("/v1/track", BODY)


async def converse(collector: Collector, *pieces: bytes) -> list[Answer]:
    """Send these pieces on one connection, each once the answers to the ones before were read; return all answers."""
    reader, writer = await asyncio.open_connection(*collector.address)
    for piece in pieces:
        writer.write(piece)
    answers = []
    async with asyncio.timeout(60):
        while True:
            try:
                answers.append(await read_answer(reader))
            except asyncio.IncompleteReadError:
                writer.close()
                return answers


def chunked(headers: dict[str, str], trailers: dict[str, str]) -> bytes:
    """Return a request whose body comes in one chunk, with trailers."""
    fields = {"host": "test", "transfer-encoding": "chunked", **headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in trailers.items()).encode()
    return head("POST", "/v1/track", fields) + b"%x\r\n%b\r\n0\r\n%b\r\n" % (len(BODY), BODY, lines)


@pytest.mark.parametrize("whole", [True, False], ids=["in one piece", "byte by byte"])
async def test_trailers_are_ignored(whole: bool, collector: Collector, producer: Kept):
    """A write key, a trace or an encoding after the body counts for nothing, and overrides no header."""
    trailers = {**basic("web-key"), "x-turnout-trace": "trailer", "content-encoding": "gzip", "expect": "100-continue"}
    request = chunked({"trailer": "authorization"}, trailers)
    pieces = [request] if whole else [bytes([byte]) for byte in request]
    assert (await exchange(collector, *pieces)).status == 401
    request = chunked(basic("wrong"), trailers)
    pieces = [request] if whole else [bytes([byte]) for byte in request]
    assert (await exchange(collector, *pieces)).status == 401
    assert not producer.records


async def test_a_request_with_trailers_is_taken(collector: Collector, producer: Kept):
    """Trailers refuse nothing either, and the next request on the connection is read."""
    request = chunked({**basic("web-key"), "x-turnout-trace": "head"}, {"x-turnout-trace": "trailer", "digest": "x"})
    reader, writer = await asyncio.open_connection(*collector.address)
    for _ in range(2):
        writer.write(request)
        assert (await read_answer(reader)).status == 200
    writer.close()
    assert [dict(record.headers)["turnout-trace"] for record in producer.records] == [b"head"] * 2


async def test_trailers_without_end_are_refused():
    """Trailers have the bound of a head, and are refused as one."""
    async with serving(Kept()) as collector:
        reader, writer = await asyncio.open_connection(*collector.address)
        writer.write(chunked(basic("web-key"), {})[:-2])
        answer = asyncio.create_task(read_answer(reader))
        while not answer.done():
            writer.write(b"x: " + b"x" * 4096 + b"\r\n")
            await asyncio.wait({answer}, timeout=0.001)
        assert ((await answer).status, (await answer).json["code"]) == (431, "head_too_large")
        writer.close()


@pytest.mark.parametrize("parts", [1, 2, 40])
@pytest.mark.parametrize("place", ["header", "headers", "path"])
async def test_a_head_over_the_limit_is_refused(place: str, parts: int, collector: Collector, producer: Kept):
    """A complete head over the limit is answered 431, however it is cut, and its connection closed."""
    long = "x" * (HEAD_BYTES - 100)
    request = {
        "header": post("/v1/track", BODY, {"x-long": long + "x" * 100}),
        "headers": post("/v1/track", BODY, {f"x-{n}": "x" * 100 for n in range(HEAD_BYTES // 100)}),
        "path": post(f"/v1/track?x={long}{'x' * 100}", BODY),
    }[place]
    size = len(request) // parts + 1
    pieces = [request[at : at + size] for at in range(0, len(request), size)]
    (answer,) = await converse(collector, *pieces)
    assert (answer.status, answer.json["code"]) == (431, "head_too_large")
    assert not producer.records


async def test_a_head_within_the_limit_is_read_behind_a_large_request(collector: Collector, producer: Kept):
    """What precedes a head in its piece does not count for it, and neither does the body behind it."""
    large = post("/v1/batch", b'{"batch":[' + b",".join([BODY] * 4000) + b"]}", {"x-long": "x" * (HEAD_BYTES - 300)})
    reader, writer = await asyncio.open_connection(*collector.address)
    writer.write(large * 3 + REQUEST)
    assert [(await read_answer(reader)).status for _ in range(4)] == [200] * 4
    writer.close()
    assert len(producer.events()) == 12_001


GARBAGE = {
    "garbage": (b"EHLO example.com\r\n\r\n", 400),
    "binary": (b"\x16\x03\x01\x02\x00", 400),
    "an invalid header": (b"POST /v1/track HTTP/1.1\r\nhost test\r\n\r\n", 400),
    "two lengths": (head("POST", "/v1/track", {"content-length": "1", "Content-Length": "2"}), 400),
    "a head over the limit": (post("/v1/track", BODY, {"x": "x" * HEAD_BYTES}), 431),
}


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("requests", [1, 3])
async def test_valid_requests_before_garbage_get_their_answers(
    requests: int, garbage: str, collector: Collector, producer: Kept
):
    """Each pipelined request is answered in order, then the garbage, and the connection is closed."""
    wire, status = GARBAGE[garbage]
    answers = await converse(collector, REQUEST * requests + wire)
    assert [answer.status for answer in answers] == [200] * requests + [status]
    assert set(answers[-1].json) == {"code", "message"}
    assert len(producer.values(TOPICS.events)) == requests


async def test_garbage_waits_for_kafka_to_confirm_the_requests_before_it():
    """The answers come when they are due, however long the garbage has been there."""
    async with serving(producer := Kept("hold")) as collector:
        reader, writer = await asyncio.open_connection(*collector.address)
        writer.write(REQUEST)
        async with asyncio.timeout(60):
            while not producer.waiting:
                await asyncio.sleep(0.01)
        writer.write(b"EHLO example.com\r\n\r\n")
        writer.write(REQUEST)
        # By the time another connection is answered, the collector has read the garbage.
        assert (await send(collector, "/v1/batch", {"batch": []})).status == 200
        producer.confirm()
        assert [(await read_answer(reader)).status for _ in range(2)] == [200, 400]
        assert await reader.read() == b""
        writer.close()
        assert len(producer.events()) == 1


async def test_a_request_that_stays_incomplete_lets_those_before_it_be_answered():
    """A time-out in the second request of a connection does not take the first one's answer."""
    async with serving(producer := Kept("hold"), read_timeout=0.3) as collector:
        reader, writer = await asyncio.open_connection(*collector.address)
        writer.write(REQUEST + REQUEST[:-1])
        # What began later has timed out, so this has.
        assert (await exchange(collector, REQUEST[:-1])).status == 408
        producer.confirm()
        assert [(await read_answer(reader)).status for _ in range(2)] == [200, 408]
        assert await reader.read() == b""
        writer.close()
        assert len(producer.events()) == 1


@pytest.mark.parametrize("size", [1, 7, 1000, 1_000_000])
async def test_an_offer_of_http_2_is_declined(size: int, collector: Collector, producer: Kept):
    """A request with `Upgrade: h2c`, as Java's HttpClient sends it, is read like any other, and the next ones too."""
    offer = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAARAAAAAAAIAAAAA"}
    requests = 1200 if size > 1000 else 2
    sent = post("/v1/track", BODY, offer) * requests + post("/v1/track", BODY)
    reader, writer = await asyncio.open_connection(*collector.address)
    for at in range(0, len(sent), size):
        writer.write(sent[at : at + size])
    assert {(await read_answer(reader)).status for _ in range(requests + 1)} == {200}
    writer.close()
    assert len(producer.events()) == requests + 1


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("abc-123", b"abc-123"),
        ("A" * 64, b"A" * 64),
        ("0af7651916cd43dd8448eb211c80319c", b"0af7651916cd43dd8448eb211c80319c"),
        ("A" * 65, None),
        ("", None),
        ("a b", None),
        ("a_b", None),
        ("é", None),
        ("a,b", None),
        ("a;b=1", None),
    ],
)
async def test_the_trace_of_a_request_is_in_its_records(
    given: str, kept: bytes | None, collector: Collector, producer: Kept
):
    """Events, single and in a batch, and refused ones have the header `turnout-trace` if X-Turnout-Trace is valid."""
    headers = {"X-Turnout-Trace": given}
    assert (await send(collector, "/v1/track", EVENT, headers=headers)).status == 200
    assert (await send(collector, "/v1/batch", {"batch": [EVENT, 1]}, headers=headers)).status == 200
    pixel = head("GET", "/v1/pixel/track?writeKey=web-key&userId=u&event=e", {"host": "test", **headers})
    reader, writer = await asyncio.open_connection(*collector.address)
    writer.write(pixel)
    assert (await reader.readline()).split()[1] == b"200"
    writer.close()
    assert [record.topic for record in producer.records] == [*[TOPICS.events] * 2, TOPICS.rejected, TOPICS.events]
    assert [dict(record.headers).get("turnout-trace") for record in producer.records] == [kept] * 4
