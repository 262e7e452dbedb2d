"""Faults of vendors that the simulator plays, on real Kafka: counted by idempotency key, then the oracle's verdict."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from deploy.simulator.faults import Fault
from deploy.simulator.server import Simulator
from tests.faults.harness import Process, Stage, staged
from tests.support import real_kafka
from tests.support.simulating import serving

pytestmark = [pytest.mark.anyio, pytest.mark.kafka, pytest.mark.fault]

HOOK = """
integration: NAME
forwarder: webhook
settings: {url: 'URL/hook'}
delivery: {timeout: 2, linger: 0.02, backoff_min: 0.05, backoff_max: 1, concurrency: 8, breaker_failures: 1000}
otherwise: {n: $.properties.n}
"""
MIXPANEL = """
integration: NAME
forwarder: mixpanel
preset: mixpanel
settings: {token: '${FAULTS_WRITE_KEY}', endpoint: 'URL'}
delivery: {timeout: 2, linger: 0.02, backoff_min: 0.05, backoff_max: 1}
"""
MEGABYTES = 2**20
UNSAID = ("lost", "truncated", "slow")
"""What goes wrong after the vendor has taken a delivery, and keeps it from saying so."""


@pytest.fixture
async def stage(kafka: real_kafka.Kafka, tmp_path: Path):
    async with staged(kafka, tmp_path / "stage") as stage:
        yield stage


async def add(stage: Stage, name: str, text: str, url: str) -> Path:
    """An integration beside those of the stage, with its topics."""
    path = stage.folder / "integrations" / f"{name}.yaml"
    path.write_text(text.replace("NAME", name).replace("URL", url))
    assert await stage.start("topics", "--create").end(0) == 0
    stage.integrations.append(name)
    return path


async def counts(url: str, vendor: str) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session, session.get(f"{url}/_counts") as answer:
        return (await answer.json()).get(vendor, {"keys": 0})


async def taken(url: str, vendor: str, keys: int) -> dict[str, Any]:
    """Wait until the vendor has accepted a number of deliveries, and no received one is missing."""
    async with asyncio.timeout(180):
        while (found := await counts(url, vendor))["keys"] < keys or found["missing"]:
            await asyncio.sleep(0.1)
    return found


def peak(process: Process) -> int:
    """The most memory that a process has had, in bytes."""
    status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


async def test_answers_that_go_wrong_on_their_way(stage: Stage):
    """Nothing is lost; only deliveries whose acceptance could not be confirmed are repeated, with the same key.

    Answers without end or inflating without end are judged by their status, in bounded memory.
    """
    wrong = {"reset": 3, "silent": 2, "lost": 3, "truncated": 3, "slow": 2, "huge": 2, "bomb": 2}
    script = [Fault(wrong=name, times=times) for name, times in wrong.items()]
    with serving(Simulator(script=[*script, Fault(status=500)])) as url:
        await add(stage, "simulated", HOOK, url)
        stage.start("router")
        await stage.send(20)
        forwarder = await stage.start("forwarder").ready()
        before = peak(forwarder)
        for _ in range(4):
            await stage.send(20)
        findings = await stage.verdict()
        found = await counts(url, "webhook")
        assert (found["keys"], found["missing"]) == (101, [])
        assert sum(found["repeated"].values()) - len(found["repeated"]) == sum(wrong[name] for name in UNSAID)
        assert all(findings.of(f"m{n}", "simulated") == {"delivered"} for n in range(100))
        assert peak(forwarder) < before + 200 * MEGABYTES


async def test_errors_item_by_item(stage: Stage):
    """What the vendor lists as bad is dead alone, through an outage too; every other is taken once."""
    script = [Fault(status=503, times=3), Fault(poison="Poison", times=None)]
    with serving(Simulator(script=script)) as url:
        await add(stage, "mixpanel", MIXPANEL, url)
        stage.start("router")
        stage.start("forwarder")
        good = await stage.send(60)
        bad = await stage.send(3, event="Poison")
        good += await stage.send(60)
        async with asyncio.timeout(180):
            while (await counts(url, "mixpanel"))["keys"] < len(good):
                await asyncio.sleep(0.1)
        findings = await stage.verdict()
        found = await counts(url, "mixpanel")
        assert (found["keys"], found["repeated"], len(found["missing"])) == (len(good) + 1, {}, len(bad))
        assert all(findings.of(f"m{n}", "mixpanel") == {"dead"} for n in bad)
        assert all(findings.of(f"m{n}", "mixpanel") == {"delivered"} for n in good)


async def test_a_certificate_that_ends(stage: Stage):
    """Nothing goes out until the vendor's TLS is right again; then all arrives once."""
    with serving(Simulator(), expired=True) as wrong, serving(Simulator()) as right:
        path = await add(stage, "simulated", HOOK.replace("1000", "3"), wrong)
        stage.start("router")
        forwarder = stage.start("forwarder")
        await stage.send(50)
        await stage.until(lambda: "delivery is paused" in forwarder.log.read_text())
        path.write_text(path.read_text().replace(wrong, right))
        found = await taken(right, "webhook", 50)
        await stage.verdict()
        assert (found["deliveries"], found["repeated"]) == (50, {})
