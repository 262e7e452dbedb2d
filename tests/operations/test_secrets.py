"""Secrets are rotated as in deploy/docs/operations/secrets.md; the write key's test is in test_procedures.py."""

from pathlib import Path

import pytest
from aiohttp import web

from tests.faults.harness import Stage, staged
from tests.operations.steps import audited, more, restart_collector, start_all, stop, with_ledger
from tests.support import real_kafka
from tests.support.ports import free_port
from tests.support.receiver import Got

pytestmark = [pytest.mark.anyio, pytest.mark.kafka, pytest.mark.operations]

PASSWORDS = """
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller},LOGIN://127.0.0.1:{login}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},LOGIN://127.0.0.1:{login}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,LOGIN:SASL_PLAINTEXT
listener.name.login.sasl.enabled.mechanisms=PLAIN
listener.name.login.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
  user_old="old password" user_new="new password";
"""


async def test_a_vendor_ends_the_old_token_first(stage: Stage):
    """The integration pauses without loss; after a restart with the new token, everything that waited arrives."""
    valid = "old"
    token = stage.folder / "token"
    token.write_text(valid)
    integration = stage.folder / "integrations" / "hook.yaml"
    auth = f"auth: {{type: bearer, token: '${{file:{token}}}'}}, batch_size"
    integration.write_text(integration.read_text().replace("batch_size", auth))

    def answer(got: Got) -> web.StreamResponse:
        return web.Response(status=200 if got.headers["Authorization"] == f"Bearer {valid}" else 401)

    stage.vendor.answer = answer
    await stage.start("router").ready(180)
    forwarder = await stage.start("forwarder").ready(180)
    async with stage.load(batch=10):
        await more(stage)
        valid = "new"
        await stage.until(lambda: "rejects the credentials" in forwarder.log.read_text())
        token.write_text(valid)
        await stop(forwarder)
        await stage.start("forwarder").ready(180)
        await more(stage)
    await stage.verdict()


async def test_the_ledger_token_changes(stage: Stage):
    """Commands with the new token are refused until the ledger is restarted with it; the ledger loses nothing."""
    token = stage.folder / "token"
    token.write_text("old token")
    with_ledger(stage, f"token: '${{file:{token}}}'")
    ledger, *_ = await start_all(stage, "ledger", "router", "forwarder")
    await stage.send(100)
    await stage.until(lambda: set(stage.received) >= stage.accepted)
    await audited(stage, "100 events")
    token.write_text("new token")
    refused = stage.start("audit")
    assert await refused.end(0, 90) == 1
    assert "token" in refused.log.read_text()
    await stop(ledger)
    await stage.start("ledger").ready(180)
    await audited(stage, "100 events")


async def test_the_password_of_kafka_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Processes are restarted with a second user of Kafka one after the other, under load, and nothing is lost."""
    login = free_port()
    with real_kafka.running(tmp_path / "kafka", PASSWORDS, login=login) as kafka:
        for name, value in {"BOOTSTRAP": f"127.0.0.1:{login}", "SECURITY": "SASL_PLAINTEXT"}.items():
            monkeypatch.setenv(f"TURNOUT_BROKER__{name}", value)

        def log_in(user: str) -> None:
            monkeypatch.setenv("TURNOUT_BROKER__USERNAME", user)
            monkeypatch.setenv("TURNOUT_BROKER__PASSWORD", f"{user} password")

        log_in("old")
        async with staged(kafka, tmp_path / "stage") as stage:
            router, forwarder = await start_all(stage, "router", "forwarder")
            async with stage.load(batch=10):
                await more(stage)
                log_in("new")
                for process, kind in ((forwarder, "forwarder"), (router, "router")):
                    await stop(process)
                    await stage.start(kind).ready(180)
                    await more(stage)
                await restart_collector(stage)
                await more(stage)
            await stage.verdict()
