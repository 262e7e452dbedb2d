"""Each fault of a vendor on real Kafka, then the oracle's verdict: nothing lost, one outcome an offset."""

import asyncio
import itertools
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from statistics import quantiles

import pytest
from aiohttp import web

from streams.kafka.admin import create_topics
from streams.records.dead_letter import DeadLetter
from tests.faults.harness import ITEMS, Stage, staged
from tests.support import real_kafka
from tests.support.ports import free_port
from tests.support.reading import committed, read
from tests.support.receiver import Got, Receiver, receiving

pytestmark = [pytest.mark.anyio, pytest.mark.kafka, pytest.mark.fault]


@pytest.fixture
async def stage(kafka: real_kafka.Kafka, tmp_path: Path):
    async with staged(kafka, tmp_path / "stage") as stage:
        yield stage


@pytest.fixture
async def beside():
    """A vendor that works, beside the one that does not."""
    async with receiving() as receiver:
        yield receiver


async def flowing(stage: Stage, beyond: int = 0) -> None:
    await stage.until(lambda: len(stage.received) > beyond, 180)


def numbers(got: Got) -> list[int]:
    return [item["n"] for item in got.body]


class Latency:
    """How long events take from before they are sent to the vendor beside, in seconds."""

    def __init__(self, receiver: Receiver) -> None:
        self._sent: dict[int, float] = {}
        self._got: dict[int, float] = {}
        receiver.note = lambda got: self._got.update(dict.fromkeys(numbers(got), time.monotonic()))

    async def measure(self, stage: Stage, turns: int) -> float:
        """Return the 90th percentile over a number of small consecutive batches."""
        first = stage._sent
        for _ in range(turns):
            start = time.monotonic()
            sent = await stage.send(5)
            self._sent.update(dict.fromkeys(sent, start))
            await asyncio.sleep(0.1)
        await stage.until(lambda: set(self._sent) <= set(self._got), 180)
        return quantiles([self._got[n] - at for n, at in self._sent.items() if n >= first], n=10)[-1]


async def test_429_with_any_retry_after(kafka: real_kafka.Kafka, tmp_path: Path, beside: Receiver):
    """Seconds, a date, absurd or none: it is waited for, up to the bound; another vendor is not slowed."""
    at: list[float] = []

    def answer(got: Got) -> web.StreamResponse:
        at.append(time.monotonic())
        soon = format_datetime(datetime.now(UTC) + timedelta(seconds=1), usegmt=True)
        said = [
            {"Retry-After": "0.5"},
            {"Retry-After": soon},
            {"Retry-After": "999999999"},
            {"Retry-After": "soon"},
            {},
        ]
        if len(at) <= 10:
            return web.Response(status=429, headers=said[len(at) % 5])
        return web.json_response({})

    async with staged(kafka, tmp_path / "stage", others={"beside": beside}) as stage:
        stage.vendor.answer = answer
        latency = Latency(beside)
        stage.start("router")
        stage.start("forwarder")
        await stage.send(5)
        await stage.until(lambda: len(at) >= 1)
        assert await latency.measure(stage, 20) < 1
        await flowing(stage, 50)
        assert at[10] - at[0] < 30
        await stage.verdict()


async def test_a_slow_vendor_does_not_slow_another_in_its_process(
    kafka: real_kafka.Kafka, tmp_path: Path, beside: Receiver
):
    """While one takes two seconds an answer, with all its requests open, events reach the other as fast as before."""
    slow = False

    async def answer(got: Got) -> web.StreamResponse:
        await asyncio.sleep(2 if slow else 0)
        return web.json_response({})

    async with staged(kafka, tmp_path / "stage", others={"beside": beside}) as stage:
        stage.vendor.answer = answer
        latency = Latency(beside)
        stage.start("router")
        stage.start("forwarder")
        await stage.send(5)
        await flowing(stage, 4)
        alone = await latency.measure(stage, 30)
        slow = True
        together = await latency.measure(stage, 30)
        slow = False
        print(f"alone {alone * 1000:.0f} ms, together {together * 1000:.0f} ms")
        assert together < alone * 1.5 + 0.05
        await stage.verdict()


@pytest.mark.parametrize("status", [401, 403])
async def test_refused_credentials(stage: Stage, status: int):
    """Everything waits and one request probes; when they are mended all arrives, without a restart and without dead."""
    refuses, asked = True, 0

    def answer(got: Got) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        return web.Response(status=status if refuses else 200)

    stage.vendor.answer = answer
    stage.start("router")
    forwarder = stage.start("forwarder")
    await stage.send(500)
    await stage.until(lambda: asked >= 8)
    assert asked < 20
    assert forwarder.log.read_text().count("delivery is paused") == 1
    refuses = False
    await flowing(stage, 499)
    await stage.verdict()
    assert forwarder.log.read_text().count("delivery resumed") == 1
    assert not await read(stage.broker, stage.topics.dead, 4)


@pytest.mark.parametrize("status", [404, 501])
async def test_what_no_retry_mends(stage: Stage, status: int):
    """It is dead at once, with the status as its reason; later events arrive."""
    stage.vendor.answer = lambda _: web.Response(status=status)
    stage.start("router")
    stage.start("forwarder")
    sent = await stage.send(30)
    async with asyncio.timeout(180):
        while len(letters := await read(stage.broker, stage.topics.dead, 4)) < 30:
            await asyncio.sleep(0.2)
    assert {DeadLetter.decode(record.value).reason for record in letters} == {f"status_{status}"}
    stage.vendor.answer = lambda _: web.json_response({})
    findings = await stage.verdict()
    assert all(findings.of(f"m{n}", "hook") == {"dead"} for n in sent)


async def test_a_batch_that_is_too_large(stage: Stage):
    """413 splits until it passes, and every event arrives once."""
    stage.vendor.answer = lambda got: web.Response(status=413 if len(got.body) > 3 else 200)
    stage.start("router")
    stage.start("forwarder")
    await stage.send(200)
    await flowing(stage, 199)
    await stage.verdict()
    assert len(set(stage.received)) == len(stage.received) == 201


async def test_poison_in_batches_of_a_vendor_that_refuses_them_whole(stage: Stage):
    """Each poison is found and dead alone; all others arrive once."""
    poison = {7, 8, 150, 333}

    def answer(got: Got) -> web.StreamResponse:
        return web.Response(status=400 if poison & set(numbers(got)) else 200)

    stage.vendor.answer = answer
    stage.start("router")
    stage.start("forwarder")
    await stage.send(400)
    await flowing(stage, 395)
    findings = await stage.verdict()
    assert {n for n in range(400) if findings.of(f"m{n}", "hook") == {"dead"}} == poison
    assert len(set(stage.received)) == len(stage.received) == 397


async def test_a_vendor_that_nobody_can_connect_to_for_a_while(stage: Stage, tmp_path: Path):
    """Connections refused, and then silence after they are accepted: all arrives once the vendor is back."""
    port = int(stage.vendor.url.split(":")[2].split("/")[0])
    path = stage.folder / "integrations" / "hook.yaml"
    free = free_port()
    path.write_text(path.read_text().replace(f":{port}/", f":{free}/").replace("timeout: 5", "timeout: 1"))
    stage.start("router")
    forwarder = stage.start("forwarder")
    await stage.send(200)
    await stage.until(lambda: "no response" in forwarder.log.read_text())

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(hold, "127.0.0.1", free)
    await stage.until(lambda: "TimeoutError" in forwarder.log.read_text())
    silent.close()
    async with receiving(free) as vendor:
        vendor.note = stage.receive
        await flowing(stage, 199)
        await stage.verdict()
    assert forwarder.runs


async def test_an_answer_that_is_lost(stage: Stage):
    """What the vendor had processed comes again under the same id, and no more than that."""
    lost = itertools.count()

    async def answer(got: Got) -> web.StreamResponse:
        if next(lost) in (2, 5):
            stage.receive(got)
            stage.bound += len(got.body)
            await asyncio.sleep(6)
            return web.Response(status=504)  # nobody hears it; a 200 would count as received once more
        return web.json_response({})

    stage.vendor.answer = answer
    stage.start("router")
    stage.start("forwarder")
    for _ in range(10):
        await stage.send(ITEMS)
    await stage.until(lambda: len(set(stage.received)) == 10 * ITEMS, 180)
    await stage.verdict()
    assert len(stage.received) == len(set(stage.received)) + stage.bound


async def test_the_topic_of_dead_letters_is_away(stage: Stage):
    """Router and forwarder end with exit code 1, uncommitted; with the topic back, the bad delivery dies in order."""
    from kafka.admin import KafkaAdminClient

    stage.vendor.answer = lambda got: web.Response(status=400 if 13 in numbers(got) else 200)
    router = stage.start("router")
    forwarder = stage.start("forwarder", "hook")
    await stage.send(10)
    await flowing(stage, 9)
    admin = KafkaAdminClient(**stage.broker.client())
    await asyncio.to_thread(admin.delete_topics, [stage.topics.dead])
    admin.close()
    await stage.send(10)
    await stage.until(lambda: not forwarder.runs and not router.runs, 120)
    assert await forwarder.end(0) == await router.end(0) == 1
    group, forward = f"{stage.topics.prefix}.forwarder.hook", stage.topics.forward("hook")
    assert sum(filter(None, (await committed(stage.broker, group, forward, 4)).values())) < 20
    declared = [topic for topic in stage.topics.declared([]) if topic.name == stage.topics.dead]
    await asyncio.to_thread(create_topics, stage.broker, declared, 1)
    stage.bound += 20
    stage.start("router")
    stage.start("forwarder", "hook")
    findings = await stage.verdict()
    assert findings.of("m13", "hook") == {"dead"}
