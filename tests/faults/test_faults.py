"""Each fault on real Kafka, then the oracle's verdict: nothing lost, one outcome an offset, duplicates bounded."""

import asyncio
import signal
import time
from pathlib import Path

import orjson
import pytest
from aiohttp import web
from kafka.admin import KafkaAdminClient
from multidict import CIMultiDict

from streams.kafka.settings import Broker
from streams.kafka.topic_watch import CONFIRM_SECONDS, WATCH_SECONDS
from tests.faults import books
from tests.faults.harness import ITEMS, KEY, Process, Stage, staged
from tests.support import real_kafka
from tests.support.reading import committed
from tests.support.receiver import Got

pytestmark = [pytest.mark.anyio, pytest.mark.kafka, pytest.mark.fault]

FORWARDER_COMMIT = 0.2


@pytest.fixture
async def stage(kafka: real_kafka.Kafka, tmp_path: Path):
    async with staged(kafka, tmp_path / "stage") as stage:
        yield stage


async def flowing(stage: Stage, beyond: int = 0) -> None:
    await stage.until(lambda: len(stage.received) > beyond, 180)


async def kill_router(stage: Stage, router: Process) -> None:
    at = time.time()
    await router.end(signal.SIGKILL)
    await stage.allow_for_rerouting(at)


async def test_kill_of_the_router_in_the_middle_of_load(stage: Stage):
    """A kill -9 of a router loses nothing, and repeats no more than since its last commit."""
    router = stage.start("router")
    stage.start("forwarder")
    async with stage.load():
        for _ in range(3):
            await flowing(stage, len(stage.received) + 1000)
            await kill_router(stage, router)
            router = await stage.start("router").ready()
    await stage.verdict()


async def test_workers_that_start_together_on_new_topics(stage: Stage):
    """Three routers and three forwarders that join at the same time, before any commit and under load, lose nothing."""
    async with stage.load():
        await stage.until(lambda: len(stage.accepted) > 1000)
        workers = [stage.start(kind) for kind in ("router", "forwarder") * 3]
        for worker in workers:
            await worker.ready(120)
        await flowing(stage, len(stage.received) + 1000)
        # Work that outlasts a rebalance is repeated: at most everything that arrived while they joined.
        stage.bound = len(stage.accepted)
    await stage.verdict()


async def test_kill_of_a_forwarder_in_the_middle_of_load(stage: Stage, monkeypatch: pytest.MonkeyPatch):
    """A kill -9 of a forwarder loses nothing, and repeats only deliveries since its last commit and in flight.

    The console's Flow then shows what `turnout counts` prints.
    """
    stage.start("router")
    forwarder = stage.start("forwarder", "hook")
    async with stage.load():
        for _ in range(3):
            await flowing(stage, len(stage.received) + 1000)
            stage.allow_for_kill(FORWARDER_COMMIT)
            await forwarder.end(signal.SIGKILL)
            forwarder = stage.start("forwarder", "hook")
    await stage.verdict()
    monkeypatch.setenv("FAULTS_WRITE_KEY", KEY)
    await asyncio.to_thread(books.compare_flow, stage.folder)


async def test_kill_of_the_collector_in_the_middle_of_load(stage: Stage):
    """A kill -9 of the collector loses nothing that it answered 200 for; what clients repeat is delivered once."""
    stage.start("router")
    stage.start("forwarder")
    async with stage.load():
        for _ in range(3):
            await flowing(stage, len(stage.received) + 500)
            await stage.processes[1].end(signal.SIGKILL)
            stage.processes[1] = stage.start("collector")
            await stage.serving()
    await stage.verdict()


async def test_sigterm_while_the_vendor_hangs(stage: Stage):
    """A forwarder that waits for an answer leaves within its grace, exit code 0, and what hung comes again."""
    hanging = asyncio.Event()
    released = asyncio.Event()

    async def hang(got: Got) -> web.StreamResponse:
        if len(stage.received) > 500 and not released.is_set():
            hanging.set()
            await asyncio.sleep(30)
        return web.json_response({})

    stage.vendor.answer = hang
    stage.start("router")
    forwarder = stage.start("forwarder")
    async with stage.load():
        await hanging.wait()
        stage.allow_for_kill(FORWARDER_COMMIT)
        assert await forwarder.end(signal.SIGTERM, seconds=12) == 0
        released.set()
        stage.start("forwarder")
    await stage.verdict()


@pytest.mark.parametrize("ordered", [False, True])
async def test_orderly_stops_and_joins_repeat_nothing(stage: Stage, ordered: bool):
    """SIGTERM and a join under load, with events that always fail: each good event is delivered exactly once."""
    file = stage.folder / "integrations/hook.yaml"
    # Everything that waits behind the failing event must fit into memory, or it is a dead letter.
    changed = f"concurrency: 4, retry_delay: 1, ordered: {str(ordered).lower()}, fetched_bytes: {2**27}"
    file.write_text(file.read_text().replace("concurrency: 4", changed))

    def refuse_some(got: Got) -> web.Response:
        # In order, a failing event holds its user's later ones, so only one fails.
        return web.Response(
            status=500 if any(item["n"] % (10**9 if ordered else 300) == 7 for item in got.body) else 200
        )

    stage.vendor.answer = refuse_some
    stage.start("router")
    forwarder = await stage.start("forwarder").ready()
    # Slow enough for the offsets that are finished to fit into the commit's metadata, also on a busy machine.
    async with stage.load(batch=5, pause=0.1):
        for _ in range(3):
            await flowing(stage, len(stage.received) + 300)
            assert await forwarder.end(signal.SIGTERM, seconds=15) == 0
            forwarder = await stage.start("forwarder").ready()
        await flowing(stage, len(stage.received) + 300)
        joined = await stage.start("forwarder").ready()
        await flowing(stage, len(stage.received) + 300)
        assert await joined.end(signal.SIGTERM, seconds=15) == 0
    stage.vendor.answer = lambda _: web.json_response({})
    await stage.until(lambda: set(stage.received) >= stage.accepted)
    assert stage.bound == 0
    await stage.verdict()


@pytest.mark.parametrize("kind", ["router", "forwarder"])
async def test_a_deleted_topic_ends_a_worker_with_its_name(stage: Stage, kind: str):
    """A worker one of whose topics was deleted exits with 1 and names it."""
    worker = await stage.start(kind).ready()
    await stage.send(20)
    name = stage.topics.outcomes
    admin = KafkaAdminClient(**stage.broker.client())
    try:
        await asyncio.sleep(WATCH_SECONDS)  # it must have looked once
        await asyncio.to_thread(admin.delete_topics, [name])
    finally:
        admin.close()
    await stage.until(lambda: not worker.runs, WATCH_SECONDS + CONFIRM_SECONDS + 60)
    assert await worker.end(0) == 1
    assert f"topic {name} was deleted" in worker.log.read_text()


async def test_workers_that_join_and_leave_every_five_seconds(stage: Stage):
    """A minute of joins, SIGTERM and kill -9 of routers and forwarders loses nothing and does not stop progress."""
    stage.start("router")
    stage.start("forwarder")
    async with stage.load(batch=20):
        for turn in range(8):
            kind = ("router", "forwarder")[turn % 2]
            joined = await stage.start(kind).ready()
            await asyncio.sleep(5)
            if turn % 4 < 2:
                # A clean leave repeats nothing, but the join may, where work outlasted the rebalance.
                assert await joined.end(signal.SIGTERM, seconds=15) == 0
            elif kind == "router":
                await kill_router(stage, joined)
            else:
                stage.allow_for_kill(FORWARDER_COMMIT)
                await joined.end(signal.SIGKILL)
            await flowing(stage, len(stage.received))
    await stage.verdict()


async def test_a_second_worker_joins_an_idle_one(stage: Stage):
    """Routers and forwarders that have nothing to do share their partitions with one that joins, and nothing hangs."""
    stage.start("router")
    stage.start("forwarder")
    await stage.send(100)
    await flowing(stage, 99)
    stage.start("router")
    stage.start("forwarder")
    for _ in range(10):
        before = len(stage.received)
        await stage.send(100)
        await stage.until(lambda before=before: len(stage.received) >= before + 100, 180)
    await stage.verdict()
    assert all(process.runs for process in stage.processes[1:])


async def test_the_broker_is_killed_and_comes_back_with_its_data(tmp_path: Path):
    """A kill -9 of Kafka itself: no process ends, the collector answers 503 or waits, and all flows on afterwards."""
    with real_kafka.running(tmp_path / "kafka") as kafka:
        async with staged(kafka, tmp_path / "stage") as stage:
            stage.start("router")
            stage.start("forwarder")
            async with stage.load(batch=20):
                await flowing(stage, 500)
                # Commits wait for the broker too, so all since the last one may come again.
                stage.allow_for_kill(FORWARDER_COMMIT)
                at = time.time()
                await asyncio.to_thread(kafka.kill)
                await asyncio.sleep(8)
                await asyncio.to_thread(kafka.start)
                await stage.allow_for_rerouting(at)
                await flowing(stage, len(stage.received) + 500)
            await stage.verdict()
            assert all(process.runs for process in stage.processes[1:])


async def test_a_vendor_that_answers_500_for_a_while(stage: Stage):
    """Every delivery waits for the vendor and arrives once."""
    failing = asyncio.Event()
    failed = 0

    def answer(got: Got) -> web.StreamResponse:
        nonlocal failed
        failed += failing.is_set()
        return web.Response(status=500 if failing.is_set() else 200)

    stage.vendor.answer = answer
    stage.start("router")
    stage.start("forwarder")
    async with stage.load():
        await flowing(stage, 500)
        failing.set()
        await stage.until(lambda: failed > 8)
        failing.clear()
    await stage.verdict()


async def test_a_vendor_that_hangs_longer_than_kafka_waits_for_a_member(kafka: real_kafka.Kafka, tmp_path: Path):
    """A vendor that is silent for longer than the session time-out costs time, and no membership."""
    async with staged(kafka, tmp_path / "stage", timeout=12) as stage:
        hung = 0

        async def hang(got: Got) -> web.StreamResponse:
            nonlocal hung
            if len(stage.received) >= 200 and hung < 4:
                hung += 1
                await asyncio.sleep(stage.broker.session_timeout + 4)
            return web.json_response({})

        stage.vendor.answer = hang
        stage.start("router")
        stage.start("forwarder")
        async with stage.load(batch=20):
            await stage.until(lambda: hung >= 4)
            await flowing(stage, len(stage.received) + 200)
        await stage.verdict()


async def test_one_event_whose_mapping_fails(stage: Stage):
    """It is a dead letter; its neighbours in the same batch arrive."""
    stage.start("router")
    stage.start("forwarder")
    await stage.send(20)
    (broken,) = await stage.send(1, event="Raise")
    (skipped,) = await stage.send(1, event="Skip")
    await stage.send(20)
    findings = await stage.verdict()
    assert findings.of(f"m{broken}", "hook") == {"dead"}
    assert findings.of(f"m{skipped}", "hook") == {"filtered"}
    assert len(set(stage.received)) == 41


async def test_a_record_over_the_size_limit(stage: Stage):
    """A delivery that no record can hold is a dead letter, and holds up nobody."""
    stage.start("router")
    stage.start("forwarder")
    await stage.send(20)
    big = stage.event(0, event="Blow", messageId="big")
    big["properties"] = {"big": "x" * 900_000}
    await stage.write(orjson.dumps(big))
    await stage.send(20)
    findings = await stage.verdict()
    assert findings.of("big", "hook") == {"dead"}


async def test_broken_json_a_null_key_and_a_tombstone_in_the_events_topic(stage: Stage):
    """Invalid events are rejected or counted, a null key is routed, and neighbouring events arrive."""
    stage.start("router")
    stage.start("forwarder")
    await stage.send(20)
    await stage.write(b'{"type":')
    await stage.write(None)
    (keyless, skipped) = stage.take(2)
    await stage.write(orjson.dumps(stage.event(keyless)), key=None, headers=[])
    await stage.write(orjson.dumps(stage.event(skipped, event="Skip")), key=None, headers=[])
    await stage.send(20)
    findings = await stage.verdict()
    assert len(findings.rejected) == 1
    assert findings.of(f"m{skipped}", "hook") == {"filtered"}
    assert keyless in stage.received
    group = f"{stage.topics.prefix}.router"
    async with asyncio.timeout(180):
        while sum(filter(None, (await _committed(stage.broker, group, stage.topics.events)).values())) < 45:
            await asyncio.sleep(0.2)


async def _committed(broker: Broker, group: str, topic: str) -> dict[int, int | None]:
    return await committed(broker, group, topic, 4)


async def test_new_settings_while_events_flow(stage: Stage):
    """A forwarder whose file changes starts that integration again alone: nothing is lost, and nothing comes twice."""
    stage.start("router")
    forwarder = await stage.start("forwarder").ready()
    async with stage.load(batch=20):
        await flowing(stage, 500)
        file = stage.folder / "integrations" / "hook.yaml"
        file.write_text(file.read_text().replace("concurrency: 4", "concurrency: 3"))
        await stage.until(lambda: "started delivering" in forwarder.log.read_text())
        await flowing(stage, len(stage.received) + 500)
    await stage.verdict()
    assert forwarder.runs


async def test_an_event_without_id_keeps_its_key_when_the_router_is_killed_before_it_commits(stage: Stage):
    """Another producer's event without messageId and time is routed twice, and the vendor sees one idempotency key."""
    file = stage.folder / "integrations/hook.yaml"
    file.write_text(file.read_text().replace(f"batch_size: {ITEMS}", "batch_size: 1"))
    got: list[tuple[int, str, str]] = []
    stage.vendor.note = lambda request: got.append(
        (request.body["n"], request.body["id"], CIMultiDict(request.headers)["idempotency-key"])
    )
    stage.start("forwarder")
    group = f"{stage.topics.prefix}.router"
    for n in range(5):
        router = await stage.start("router").ready()
        await stage.write(orjson.dumps({"type": "track", "event": "Test", "userId": "u", "properties": {"n": n}}))
        await stage.until(lambda n=n: any(each[0] == n for each in got))
        await router.end(signal.SIGKILL)
        if ((await _committed(stage.broker, group, stage.topics.events))[1] or 0) <= n:
            break
    else:
        pytest.fail("the router committed before it could be killed")
    await stage.start("router").ready()
    await stage.until(lambda: sum(each[0] == n for each in got) > 1)
    assert len({each[1:] for each in got if each[0] == n}) == 1
    assert len({each[2] for each in got}) == n + 1
