"""`turnout audit` and `turnout counts` with a router whose committed offset is moved."""

import asyncio
from pathlib import Path

import pytest

from streams.kafka.admin import create_topics
from streams.kafka.settings import Broker
from tests.deploy.ledger.stage import running

pytestmark = pytest.mark.anyio

EVERYTHING = ("counts", "--by", "source,type,event,integration,rule,outcome,reason")


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAULTS_WRITE_KEY", "a key for the users of tests")


async def test_an_offset_that_moves(broker: Broker, tmp_path: Path):
    """Back by 500: the counts stay as they were. Forward by 10: the audit exits with 1 and names exactly these 10."""
    async with running(tmp_path, broker, ["router", "forwarder", "ledger"]) as stage:
        stage.send(600)
        await stage.routed()
        audit = await stage.run("audit")
        assert (audit.exit_code, audit.stdout.splitlines()[0]) == (0, "600 events read by routers")
        assert audit.stdout.endswith("the books balance\n")
        before = await stage.json(*EVERYTHING)
        assert before["accepted"] == 600
        assert {(row["integration"], row["outcome"]): row["count"] for row in before["rows"]} == {
            ("good", "delivered"): 600, ("crm", "delivered"): 600, ("meta", "consent"): 600, ("slack", "filtered"): 600,
        }  # fmt: skip

        await stage.stop("router")
        assert await stage.move_router(-500) == 600
        await stage.start("router")
        await stage.routed()
        assert (await stage.run("audit")).exit_code == 0
        after = await stage.json(*EVERYTHING)
        assert after["rows"] == before["rows"]
        assert after["accepted"] == 600

        await stage.stop("router")
        stage.send(30)
        first = await stage.move_router(10)
        await stage.start("router")
        await stage.routed()
        audit = await stage.run("audit")
        topic = stage.topics.events
        assert audit.exit_code == 1
        assert audit.stdout.partition("the books do not balance:\n")[2].splitlines() == [
            f"  {topic}:0:{first}-{first + 9}  lost", "", f"show one: turnout why --at {topic}:0:{first}",
        ]  # fmt: skip
        report = await stage.json("audit")
        assert report["problems"] == {"lost": 10}
        (finding,) = report["findings"]
        assert (finding["partition"], finding["first"], finding["last"]) == (0, first, first + 9)
        why = await stage.run("why", "--at", f"0:{first}")
        assert (why.exit_code, "no outcome is recorded yet" in why.stdout) == (0, True)


LATE = """integration: late
forwarder: webhook
settings: {{url: '{url}/late'}}
match: all
rules:
  - {{name: order, when: 'event = "Order"', map: {{id: $.messageId}}}}
  - {{name: every, when: 'type = "track"', map: {{id: $.messageId}}}}
"""


@pytest.mark.fault
async def test_books_of_every_kind_balance(broker: Broker, tmp_path: Path):
    """Aborted transactions, repeats, invalid events, a draining integration, and a later one with several rules."""
    async with running(tmp_path, broker, ["router", "forwarder", "ledger"]) as stage:
        stage.send(5)
        await stage.send_in_transaction([b"{", b"{"], commit=False)
        await stage.send_in_transaction([b"{", b"1", b"{}"], commit=True)
        stage.sent = 3
        stage.send(4)
        await stage.routed()

        create_topics(broker, stage.topics.of_integrations(["late"]), replication=1, timeout=60)
        (stage.folder / "integrations" / "late.yaml").write_text(LATE.format(url=stage.vendor.url))
        with (stage.folder / "integrations" / "crm.yaml").open("a") as file:
            file.write("state: draining\n")

        async def counts() -> dict[tuple[str, str, str], int]:
            rows = (await stage.json("counts", "--by", "integration,rule,outcome"))["rows"]
            return {(row["integration"], row["rule"], row["outcome"]): row["count"] for row in rows}

        async with asyncio.timeout(120):
            while ("crm", "", "draining") not in await counts():
                stage.send()
                await stage.routed()
        stage.send(3)
        await stage.routed()
        async with asyncio.timeout(120):
            while (report := await stage.json("audit"))["in_flight"]:
                await asyncio.sleep(0.2)
        assert (report["balanced"], report["findings"], report["rejected"]) == (True, [], 3)
        found = await counts()
        drained = found["crm", "", "draining"]
        accepted = stage.sent + 2
        assert drained >= 4
        assert found == {
            ("good", "order", "delivered"): stage.sent, ("good", "", "duplicate"): 2,
            ("crm", "order", "delivered"): stage.sent - drained, ("crm", "", "duplicate"): 2,
            ("crm", "", "draining"): drained,
            ("meta", "", "consent"): stage.sent, ("meta", "", "duplicate"): 2,
            ("slack", "", "filtered"): stage.sent, ("slack", "", "duplicate"): 2,
            ("", "", "rejected"): 3, ("late", "order", "delivered"): drained, ("late", "every", "delivered"): drained,
        }  # fmt: skip
        lines = {line["integration"]: line["accepted"] for line in report["lines"] if line["source"] == "web"}
        assert lines == {"good": accepted, "crm": accepted, "meta": accepted, "slack": accepted, "late": drained}

        why = await stage.run("why", f"m-{stage.sent - 1}")
        assert "crm      draining   the integration is draining and takes no new events\n" in why.stdout
        assert "                    integrations/crm.yaml:8\n" in why.stdout
