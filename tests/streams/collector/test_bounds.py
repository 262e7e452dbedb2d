import asyncio
import gzip
import tracemalloc
from typing import Any

import orjson
import pytest

from streams.collector.body import Body, HeldBytes, read_body
from streams.collector.errors import RequestError
from streams.collector.protocol import HEAD_BYTES
from streams.collector.server import Collector
from streams.records.format import MAX_RECORD_BYTES
from tests.streams.collector.helpers import TOPICS, Kept, basic, exchange, head, post, read_answer, send, serving

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("way")]

EVENT = {"type": "track", "event": "Signed Up", "userId": "u1"}
LIMIT = 4 * 1024 * 1024


async def test_a_body_over_the_limit_is_refused_by_its_head(collector: Collector):
    """A Content-Length over the limit is answered 413 before anything of the body was sent."""
    fields = {"host": "test", "content-length": str(LIMIT + 1), **basic("web-key")}
    answer = await exchange(collector, head("POST", "/v1/batch", fields))
    assert (answer.status, answer.json["code"]) == (413, "too_large")


async def test_a_body_without_length_is_refused_at_the_limit(collector: Collector, producer: Kept):
    """A chunked body is answered 413 as soon as it is over the limit, while it is still being sent."""
    fields = {"host": "test", "transfer-encoding": "chunked", **basic("web-key")}
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    answer = await exchange(collector, head("POST", "/v1/batch", fields), *[chunk] * (LIMIT // 0x10000 + 1))
    assert (answer.status, answer.json["code"]) == (413, "too_large")
    assert not producer.records


async def test_a_chunked_body_is_read(collector: Collector, producer: Kept):
    """A body may come in chunks, of any size."""
    fields = {"host": "test", "transfer-encoding": "chunked", **basic("web-key")}
    chunks = [b"1\r\n%c\r\n" % byte for byte in orjson.dumps(EVENT)]
    answer = await exchange(collector, head("POST", "/v1/track", fields), *chunks, b"0\r\n\r\n")
    assert answer.status == 200
    assert len(producer.events()) == 1


async def test_a_body_that_inflates_over_the_limit_takes_no_memory():
    """194 KB of gzip that inflate to 200 MB are refused with 413, at a few times the limit of memory."""
    bomb = gzip.compress(bytes(200 * 1024 * 1024), mtime=0)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": bomb, "more_body": False}

    held = HeldBytes(LIMIT, Kept())
    tracemalloc.start()
    try:
        with pytest.raises(RequestError) as refused:
            await read_body(Body({b"content-encoding": b"gzip"}, LIMIT, held), receive)
        assert tracemalloc.get_traced_memory()[1] < 3 * LIMIT
    finally:
        tracemalloc.stop()
    assert refused.value.status == 413


async def test_an_event_over_its_limit_is_refused_by_name(collector: Collector, producer: Kept):
    """Only a batch's event of 33 KB is refused; one of 32 KB minus the collector's additions is accepted."""
    full = {**EVENT, "messageId": "full", "text": ""}
    full["text"] = "x" * (32 * 1024 - len(orjson.dumps(full)))
    over = {**EVENT, "messageId": "over", "text": "x" * 33 * 1024}
    answer = await send(collector, "/v1/batch", {"sentAt": "2026-01-02T03:04:05.678Z", "batch": [full, over, EVENT]})
    assert answer.json == {
        "success": True,
        "rejected": [
            {"index": 1, "messageId": "over", "code": "too_large", "message": "the event exceeds 32768 bytes"}
        ],
    }
    assert [event["messageId"][:8] for event in producer.events()] == ["full", "turnout-"]
    assert producer.values(TOPICS.rejected) == [orjson.dumps(over)]


async def test_a_refused_event_that_no_record_can_hold_is_not_kept(collector: Collector, producer: Kept):
    """An event larger than a record may be is refused by name, and its neighbours are taken."""
    over = {**EVENT, "text": "x" * MAX_RECORD_BYTES}
    answer = await send(collector, "/v1/batch", {"batch": [over, EVENT]})
    assert [event["code"] for event in answer.json["rejected"]] == ["too_large"]
    assert len(producer.events()) == 1
    assert producer.values(TOPICS.rejected) == []


@pytest.mark.parametrize(("events", "status"), [(10_000, 200), (10_001, 400)])
async def test_a_batch_has_so_many_events_at_most(events: int, status: int, collector: Collector, producer: Kept):
    """10,000 events are taken, and of 10,001 none."""
    answer = await send(collector, "/v1/batch", {"batch": [EVENT] * events})
    assert answer.status == status
    assert len(producer.records) == (events if status == 200 else 0)
    if status == 400:
        assert answer.json["code"] == "too_many_events"


async def test_a_batch_may_not_grow_over_the_limit_by_its_context(collector: Collector, producer: Kept):
    """A context of 1 KB in each of 10,000 events would be 10 MB of records, and is refused."""
    body = {"context": {"text": "x" * 1024}, "batch": [EVENT] * 10_000}
    answer = await send(collector, "/v1/batch", body)
    assert (answer.status, answer.json["code"]) == (413, "too_large")
    assert not producer.records


@pytest.mark.parametrize("depth", [300, 1_500, 100_000])
async def test_an_event_nested_too_deeply_costs_only_itself(depth: int, collector: Collector, producer: Kept):
    """Alone it is answered 400; in a batch it is refused by name and kept, whether the parser reads it or not."""
    deep = orjson.dumps(EVENT)[:-1] + b',"properties":{"a":' + b"[" * depth + b"]" * depth + b"}}"
    alone = await exchange(collector, post("/v1/track", deep))
    assert (alone.status, set(alone.json)) == (400, {"code", "message"})
    assert not producer.records
    answer = await exchange(collector, post("/v1/batch", b'{"batch":[' + deep + b"," + orjson.dumps(EVENT) + b"]}"))
    assert [event["index"] for event in answer.json["rejected"]] == [0]
    assert len(producer.events()) == 1
    assert producer.values(TOPICS.rejected) == [deep]


async def test_what_is_not_http_gets_a_json_answer(collector: Collector):
    """Bytes that are no HTTP are answered 400."""
    answer = await exchange(collector, b"EHLO example.com\r\n\r\n")
    assert (answer.status, answer.json["code"]) == (400, "bad_request")


async def test_a_head_over_the_limit_is_refused(collector: Collector):
    """Headers without end are answered 431."""
    answer = await exchange(collector, b"POST /v1/track HTTP/1.1\r\nx: " + b"x" * (HEAD_BYTES + 1))
    assert (answer.status, answer.json["code"]) == (431, "head_too_large")


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(head("POST", "/v1/track", {"host": "test"})[:20], id="half a head"),
        pytest.param(post("/v1/track", orjson.dumps(EVENT))[:-1], id="half a body"),
        pytest.param(head("POST", "/v1/track", {"host": "t", "transfer-encoding": "chunked"}), id="no chunk"),
    ],
)
async def test_a_request_that_does_not_arrive_is_closed(sent: bytes):
    """A request that is not whole in time is answered 408, and its connection closed; byte by byte helps nothing."""
    async with serving(Kept(), read_timeout=0.2) as collector:
        reader, writer = await asyncio.open_connection(*collector.address)
        for byte in sent:
            writer.write(bytes([byte]))
        answer = await read_answer(reader)
        assert (answer.status, answer.json["code"]) == (408, "timeout")
        assert await reader.read() == b""
        writer.close()


async def test_a_connection_that_says_nothing_is_closed():
    """Nothing is answered where nothing was asked."""
    async with serving(Kept(), read_timeout=0.2) as collector:
        reader, writer = await asyncio.open_connection(*collector.address)
        assert await asyncio.wait_for(reader.read(), 120) == b""
        writer.close()


async def test_a_refused_body_is_not_read_for_ever():
    """After the 413 the connection is closed when the rest of the body does not come, without a second answer."""
    async with serving(Kept(), read_timeout=3) as collector:
        reader, writer = await asyncio.open_connection(*collector.address)
        writer.write(head("POST", "/v1/batch", {"host": "test", "content-length": str(LIMIT + 1), **basic("web-key")}))
        assert (await read_answer(reader)).status == 413
        writer.write(b"x")
        assert await asyncio.wait_for(reader.read(), 120) == b""
        writer.close()


async def test_a_connection_takes_one_request_after_another():
    """The time that a request has begins with it, not with its connection."""
    async with serving(Kept(), read_timeout=5) as collector:
        reader, writer = await asyncio.open_connection(*collector.address)
        request = post("/v1/track", orjson.dumps(EVENT))
        for _ in range(3):
            writer.write(request[:50])
            await asyncio.sleep(2)
            writer.write(request[50:])
            assert (await read_answer(reader)).status == 200
        writer.close()
