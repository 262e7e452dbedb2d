"""`turnout audit` and `turnout counts` with a router whose committed offset is moved."""

from pathlib import Path

import pytest

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
