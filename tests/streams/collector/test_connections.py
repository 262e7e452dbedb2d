"""The order of requests on a connection, clients that disconnect or do not read, and timeouts."""

import asyncio

import orjson
import pytest
from uvicorn.server import ServerState

from streams.collector.protocol import Deadline
from streams.collector.server import Collector
from streams.collector.settings import CollectorSettings
from tests.streams.collector.helpers import SOURCES, TOPICS, Kept, head, post, read_answer, send, serving
from tests.support.reading import until

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("way")]

EVENT = {"type": "track", "event": "Signed Up", "userId": "u1"}
BODY = orjson.dumps(EVENT)
REQUEST = post("/v1/track", BODY)
HEALTH = head("GET", "/health", {"host": "test"})


async def test_pipelined_requests_are_answered_in_order(collector: Collector, producer: Kept):
    """Events, errors and requests through ASGI get their answers in the order of the requests."""
    reader, writer = await asyncio.open_connection(*collector.address)
    kinds = {b"200": REQUEST, b"400": post("/v1/track", b"{}"), b"401": post("/v1/track", BODY, key="x"), b"404": b""}
    order = [list(kinds)[number * number % 4] for number in range(200)]
    unknown = head("GET", "/unknown", {"host": "test"})
    writer.write(b"".join(kinds[kind] or unknown for kind in order) + HEALTH)
    answers = [await read_answer(reader) for _ in range(201)]
    writer.close()
    assert [b"%d" % answer.status for answer in answers] == [*order, b"200"]
    assert answers[-1].json == {"status": "up"}
    assert len(producer.records) == order.count(b"200")


async def test_many_rejected_requests_wait_for_one_that_is_not_confirmed():
    """A pipeline of any length is answered when Kafka confirms its first request."""
    async with serving(producer := Kept("hold")) as collector:
        reader, writer = await asyncio.open_connection(*collector.address)
        writer.write(REQUEST + post("/v1/track", b"{}") * 1000)
        await until(lambda: bool(producer.waiting))
        producer.confirm()
        assert [(await read_answer(reader)).status for _ in range(1001)] == [200, *[400] * 1000]
        writer.close()


@pytest.mark.parametrize(
    ("version", "headers", "closes"),
    [("1.1", {}, False), ("1.1", {"connection": "close"}, True), ("1.0", {}, True)],
    ids=["1.1", "close", "1.0"],
)
async def test_a_connection_is_closed_as_http_says(
    version: str, headers: dict[str, str], closes: bool, collector: Collector
):
    """It stays open by default, and is closed after `Connection: close` and in HTTP/1.0."""
    reader, writer = await asyncio.open_connection(*collector.address)
    writer.write(post("/v1/track", BODY, headers).replace(b"HTTP/1.1", b"HTTP/" + version.encode()))
    answer = await read_answer(reader)
    assert answer.status == 200
    assert answer.headers.get("connection") == ("close" if closes else None)
    if closes:
        assert await reader.read() == b""
    else:
        writer.write(REQUEST)
        assert (await read_answer(reader)).status == 200
    writer.close()


async def test_a_client_that_waits_for_100_continue_gets_it(collector: Collector):
    """It is sent before the body, once the write key is accepted, and not if the request is rejected."""
    reader, writer = await asyncio.open_connection(*collector.address)
    request = post("/v1/track", BODY, {"expect": "100-continue"})
    writer.write(request[: -len(BODY)])
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(BODY)
    assert (await read_answer(reader)).status == 200
    writer.write(post("/v1/track", BODY, {"expect": "100-continue"}, key="wrong")[: -len(BODY)])
    assert (await read_answer(reader)).status == 401
    writer.close()


async def test_the_events_of_a_client_that_leaves_are_kept():
    """Once a request is complete, its events are taken, whether or not the client waits for the answer."""
    async with serving(producer := Kept("hold")) as collector:
        _, writer = await asyncio.open_connection(*collector.address)
        writer.write(REQUEST)
        await until(lambda: bool(producer.waiting))
        writer.transport.abort()
        # Another connection is closed after this one.
        assert (await send(collector, "/v1/batch", {"batch": []})).status == 200
        producer.confirm()
        assert len(producer.events()) == 1
        assert collector.app.held.reading == 0


class Wire(asyncio.Transport):
    """A transport that keeps written bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        """Deliver nothing in any case."""

    resume_reading = pause_reading

    def close(self) -> None:
        """Forget nothing."""


async def test_no_more_is_taken_from_a_client_that_does_not_read_its_answers(producer: Kept):
    """While answers wait for the client, its next requests wait, and then all are answered."""
    settings = CollectorSettings(host="127.0.0.1", port=0)
    config = Collector(settings, lambda: SOURCES, TOPICS, producer)._config()
    config.load()
    protocol = config.http_protocol_class(config=config, server_state=ServerState(), app_state={})
    protocol.connection_made(wire := Wire())
    protocol.pause_writing()
    protocol.data_received(REQUEST * 3)
    await until(lambda: len(wire.written) == 1)
    protocol.data_received(REQUEST)
    assert len(producer.records) == 1
    protocol.resume_writing()
    await until(lambda: len(wire.written) == 4)
    assert len(producer.records) == 4
    protocol.connection_lost(None)


@pytest.mark.parametrize("path", ["/v1/track", "/v1/batch"])
async def test_a_body_in_pieces_is_released_once_it_is_answered(path: str, collector: Collector):
    """No bytes stay counted as held after an answer of any kind."""
    for body in (BODY, b'{"batch":[]}', b"{", b"x" * 10_000):
        reader, writer = await asyncio.open_connection(*collector.address)
        for byte in post(path, body):
            writer.write(bytes([byte]))
        await read_answer(reader)
        writer.close()
        assert collector.app.held.reading == 0


@pytest.mark.parametrize("spelling", ["/v1/track", "//v1/track/", "/v1/tr%61ck"])
async def test_a_path_is_taken_in_any_spelling(spelling: str, collector: Collector, producer: Kept):
    """A path with more slashes or an escape is the same path."""
    assert (await send(collector, spelling, EVENT)).status == 200
    assert len(producer.events()) == 1


async def test_a_write_key_in_the_query_counts_only_without_one_in_the_headers(collector: Collector, producer: Kept):
    """A beacon's key is read from the query string; a wrong key in the headers is not replaced by it."""
    assert (await send(collector, "/v1/track?writeKey=web-key", EVENT, key=None)).status == 200
    assert (await send(collector, "/v1/track?writeKey=wrong", EVENT, key=None)).status == 401
    assert (await send(collector, "/v1/track?writeKey=web-key", EVENT, key="wrong")).status == 401
    assert len(producer.records) == 1


async def test_a_deadline_that_is_started_again_expires_later():
    """Only the last start counts, and a stopped deadline does not expire."""
    expired: list[str] = []
    loop = asyncio.get_running_loop()
    again = Deadline(loop, 0.05, lambda: expired.append("again"))
    stopped = Deadline(loop, 0.05, lambda: expired.append("stopped"))
    again.start()
    stopped.start()
    stopped.stop()
    first = loop.time()
    while loop.time() < first + 0.1:
        again.start()
        await asyncio.sleep(0)
    assert not expired
    await until(lambda: bool(expired))
    assert expired == ["again"]
    assert not again.runs
