import asyncio
import socket
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from streams.collector.server import Collector
from streams.collector.settings import CollectorSettings
from streams.sources.source import Source, Sources
from tests.streams.collector import helpers
from tests.streams.collector.helpers import Kept, exchange, head, post, read_answer, send, serving
from tests.support.reading import until

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("way")]

EVENT = {"type": "track", "event": "Signed Up", "userId": "u1"}
SECRET = {"type": "track", "event": "private-event", "userId": "private-user", "messageId": "private-id"}


@pytest.mark.parametrize("batch", [[EVENT], [{"type": "x"}]], ids=["an event", "a rejected event"])
async def test_the_answer_waits_for_the_confirmation(batch: list[Any]):
    """No answer comes before Kafka has confirmed the records, those of refused events included."""
    producer = Kept("hold")
    async with serving(producer) as collector:
        answer = asyncio.create_task(send(collector, "/v1/batch", {"batch": batch}))
        await until(lambda: bool(producer.waiting))
        assert not (await asyncio.wait({answer}, timeout=0.05))[0]
        producer.confirm()
        assert (await answer).status == 200


@pytest.mark.parametrize("mode", ["fail", "hold"])
async def test_without_a_confirmation_the_sender_is_told_to_come_again(mode: str):
    """When Kafka refuses, or says nothing in time, the answer is 503 with Retry-After."""
    async with serving(Kept(mode), confirm_timeout=0.1) as collector:
        answer = await send(collector, "/v1/batch", {"batch": [EVENT]})
    assert (answer.status, answer.json["code"]) == (503, "unconfirmed")
    assert int(answer.headers["retry-after"]) > 0


async def test_no_more_is_taken_when_too_much_waits():
    """At the bound of unconfirmed bytes a request is answered 503, and nothing of it is sent to Kafka."""
    producer = Kept()
    async with serving(producer, held_bytes=10_000) as collector:
        producer.unconfirmed = 10_000
        answer = await send(collector, "/v1/track", EVENT)
        assert (answer.status, answer.json["code"]) == (503, "overloaded")
        assert answer.headers["retry-after"]
        assert not producer.records
        producer.unconfirmed = 0
        assert (await send(collector, "/v1/track", EVENT)).status == 200


async def test_bodies_that_are_being_read_count_as_held():
    """Half a body leaves less room for others, until its connection is gone."""
    producer = Kept()
    async with serving(producer, held_bytes=10_000) as collector:
        _, writer = await asyncio.open_connection(*collector.address)
        writer.write(post("/v1/track", b" " * 20_000)[:-10_010])
        await until(lambda: collector.app.held.reading > 9_000)
        assert (await send(collector, "/v1/track", EVENT)).status == 503
        writer.close()
        await until(lambda: collector.app.held.reading == 0)
        assert (await send(collector, "/v1/track", EVENT)).status == 200


async def test_ready_follows_kafka():
    """/ready is 200 while Kafka responds, else 503; /health does not depend on Kafka."""
    producer = Kept()
    async with serving(producer) as collector:
        assert (await exchange(collector, head("GET", "/ready", {"host": "test"}))).status == 200
        producer.mode = "fail"
        answer = await exchange(collector, head("GET", "/ready", {"host": "test"}))
        assert (answer.status, answer.json["code"]) == (503, "not_ready")
        assert (await exchange(collector, head("GET", "/health", {"host": "test"}))).status == 200


async def test_the_sources_in_force_are_asked_each_time(monkeypatch: pytest.MonkeyPatch):
    """A write key counts from the moment that its source is there, and no longer than that."""
    async with serving(Kept()) as collector:
        monkeypatch.setattr(helpers, "SOURCES", Sources([Source.of("app", ["new-key"])]))
        assert (await send(collector, "/v1/track", EVENT, key="new-key")).status == 200
        assert (await send(collector, "/v1/track", EVENT)).status == 401


async def test_a_stop_answers_what_is_under_way():
    """A request whose events wait for Kafka at the stop gets its 200; new connections are refused."""
    producer = Kept("hold")
    async with serving(producer) as collector:
        reader, writer = await asyncio.open_connection(*collector.address)
        writer.write(post("/v1/track", orjson.dumps(EVENT)))
        await until(lambda: bool(producer.waiting))
        collector.stop()
        await until(lambda: not listens(collector))
        producer.confirm()
        answer = await read_answer(reader)
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        writer.close()


async def test_a_busy_port_is_one_clear_line():
    """The exit code is 1, and the log names the address and the reason."""
    async with serving(Kept()) as other:
        host, port = other.address
        settings = CollectorSettings(host=host, port=port)
        with capture_logs() as logs:
            assert await Collector(settings, lambda: helpers.SOURCES, helpers.TOPICS, Kept()).serve() == 1
    (line,) = logs
    assert (line["event"], line["log_level"], line["host"], line["port"]) == ("cannot listen", "error", host, port)
    assert line["reason"].startswith("Address already in use")


async def test_nothing_of_an_event_is_logged(caplog: pytest.LogCaptureFixture):
    """Whatever becomes of a request, at every level: no value of an event, and no write key."""

    class Broken(Kept):
        def append(self, *arguments: Any, **options: Any) -> None:
            raise RuntimeError(f"{arguments} {options}")

    caplog.set_level(0)
    with capture_logs() as logs:
        async with serving(Broken()) as collector:
            failed = await send(collector, "/v1/batch", {"batch": [SECRET]})
            assert (failed.status, failed.json["code"]) == (500, "internal")
            await send(collector, "/v1/track", SECRET, key="private-key")
            await send(collector, "/v1/batch", {"batch": [{**SECRET, "type": "private-type"}]})
            await exchange(collector, post("/v1/track", b"private-user"))
        async with serving(Kept("fail")) as collector:
            await send(collector, "/v1/batch", {"batch": [SECRET, {**SECRET, "timestamp": "private-time"}]})
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["request failed"] * 2
    assert "private" not in caplog.text + str(logs)


def listens(collector: Collector) -> bool:
    """Whether the collector takes connections."""
    with socket.socket() as probe:
        return probe.connect_ex(collector.address) == 0
