"""Each procedure of deploy/docs/operations/, under load on a real Kafka; the oracle counts every event."""

import asyncio
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.faults.harness import CONCURRENCY, ITEMS, KEY, Stage
from tests.operations.steps import more, replace, restart_collector, run, start_all, stop, with_ledger
from tests.support import previous_release

pytestmark = [pytest.mark.anyio, pytest.mark.kafka, pytest.mark.operations]


async def test_rolling_restart(stage: Stage):
    """Restarting every process one after the other under load loses nothing, repeats nothing, and the books balance."""
    with_ledger(stage, "sample_per_second: 0}\nconsole: {port: 0")
    kinds = ["router", "router", "forwarder", "forwarder", "ledger", "console"]
    processes = await start_all(stage, *kinds)
    async with stage.load(batch=10):
        await more(stage)
        for kind, process in zip(kinds, processes, strict=True):
            await stop(process)
            await stage.start(kind).ready(180)
            await more(stage)
        await restart_collector(stage)
        await more(stage)
    await stage.verdict()
    # A request that was repeated while the collector restarted may be there twice; the second is a duplicate.
    assert "the books balance" in await run(stage, "audit")


async def test_upgrade_and_back(stage: Stage, tmp_path: Path):
    """The previous release and this one work in the same groups, forwarders first; the way back is the same.

    Readers are upgraded before writers, and on the way back writers go first.
    """
    previous = previous_release.check_out(tmp_path / "previous")
    forwarder = await stage.start("forwarder", code=previous).ready(180)
    router = await stage.start("router", code=previous).ready(180)
    await restart_collector(stage, previous)
    async with stage.load(batch=10):
        await more(stage)
        forwarder = await replace(stage, forwarder, "forwarder")
        router = await replace(stage, router, "router")
        await stop(stage.processes[4])
        stage.start("collector")
        await stage.serving()
        await more(stage)
        router = await replace(stage, router, "router", code=previous)
        forwarder = await replace(stage, forwarder, "forwarder", code=previous)
        await more(stage)
    # A worker that joins may repeat work that outlasts the rebalance: what was in flight, at each of the four.
    stage.bound = 4 * 2 * CONCURRENCY * ITEMS
    await stage.verdict()


async def test_a_rotated_write_key(stage: Stage):
    """Both keys are accepted while clients change theirs; then the old one is refused. No event is lost."""
    await stage.start("router").ready(180)
    await stage.start("forwarder").ready(180)
    source = stage.folder / "sources" / "web.yaml"
    text = source.read_text()
    new = "the-new-write-key"

    async def status(key: str) -> int:
        """The collector's response to a request with a key, 0 without one."""
        async with aiohttp.ClientSession(headers={"Authorization": aiohttp.encode_basic_auth(key, "")}) as session:
            with suppress(aiohttp.ClientError):
                (number,) = stage.take()
                url = f"http://127.0.0.1:{stage.port}/v1/batch"
                async with session.post(url, json={"batch": [stage.event(number)]}) as answer:
                    if answer.status == 200:
                        stage.accepted.add(number)
                    return answer.status
        return 0

    async def until_status(key: str, expected: int) -> None:
        async with asyncio.timeout(120):
            while await status(key) != expected:
                await asyncio.sleep(0.2)

    async with stage.load(batch=10):
        assert await status(new) == 401
        key_file = stage.folder / "new-key"
        key_file.write_text(new)
        source.write_text(text.replace("['${FAULTS_WRITE_KEY}']", f"['${{FAULTS_WRITE_KEY}}', '${{file:{key_file}}}']"))
        await until_status(new, 200)
        assert await status(KEY) == 200
        await more(stage)
    source.write_text(text.replace("['${FAULTS_WRITE_KEY}']", f"['${{file:{key_file}}}']"))
    await until_status(KEY, 401)
    assert await status(new) == 200
    # The verdict sends with the old key.
    source.write_text(text)
    await until_status(KEY, 200)
    await stage.verdict()


async def test_a_vendor_that_is_away(stage: Stage):
    """Events wait in Kafka while the vendor fails, also across a restart of its forwarder; all arrive afterwards."""
    away = True

    def answer(_: Any) -> web.StreamResponse:
        return web.json_response({}, status=503 if away else 200)

    stage.vendor.answer = answer
    await stage.start("router").ready(180)
    forwarder = await stage.start("forwarder").ready(180)
    async with stage.load(batch=10):
        await stage.until(lambda: "delivery is paused" in forwarder.log.read_text(), 180)
        await stop(forwarder)
        forwarder = await stage.start("forwarder").ready(180)
        await stage.until(lambda: len(stage.accepted) > 2000, 180)
        assert not stage.received
    away = False
    assert await stage.start("probe", "hook").end(0, 90) == 0
    await stage.until(lambda: set(stage.received) >= stage.accepted, 240)
    await stage.verdict()


async def test_the_ledger_is_rebuilt(stage: Stage):
    """A copy of the stopped ledger's folder is a backup; without one, the ledger is rebuilt from Kafka the same."""
    await stage.start("router").ready(180)
    await stage.start("forwarder").ready(180)
    port = with_ledger(stage)
    folder = stage.folder / "the-ledger"
    numbers = await stage.send(500)

    async def counted() -> int:
        """The number of delivered events, by the ledger."""
        url = f"http://127.0.0.1:{port}/counts?by=outcome"
        with suppress(aiohttp.ClientError):
            async with aiohttp.ClientSession() as session, session.get(url) as answer:
                rows = (await answer.json()).get("rows", [])
                return sum(row["count"] for row in rows if row["outcome"] == "delivered")
        return 0

    async def until_counted(number: int) -> None:
        async with asyncio.timeout(180):
            while await counted() != number:
                await asyncio.sleep(0.5)

    ledger = await stage.start("ledger").ready(180)
    await until_counted(len(numbers))
    await stop(ledger)
    shutil.copytree(folder, stage.folder / "backup")
    numbers += await stage.send(100)
    shutil.rmtree(folder)
    ledger = await stage.start("ledger").ready(180)
    await until_counted(len(numbers))
    await stop(ledger)
    shutil.rmtree(folder)
    (stage.folder / "backup").rename(folder)
    await stage.start("ledger").ready(180)
    await until_counted(len(numbers))
    await stage.verdict()
