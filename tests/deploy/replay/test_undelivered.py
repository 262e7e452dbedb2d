"""`turnout replay --undelivered` with a router, a forwarder, a ledger, a real Kafka and a vendor."""

import asyncio
import subprocess
import sys
from collections import Counter
from pathlib import Path

import orjson
import pytest
from aiohttp import web

from deploy.replay.undelivered import KnownDeliveries
from streams.kafka.settings import Broker
from tests.deploy.ledger.stage import running
from tests.support.reading import until
from tests.support.receiver import Got

pytestmark = pytest.mark.anyio


async def replay(folder: Path, *options: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
    """Run the command as a process: it handles signals, which needs a main thread."""
    common = ("--undelivered", "--integration", "good", "--since", "2h", "--yes", "--rate", "0", "--json")
    command = [Path(sys.executable).parent / "turnout", "replay", *common, *options, "--config", folder]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == code, done.stderr
    return done


async def test_exactly_the_undelivered_events_are_sent(broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """10 events arrived, 10 were refused, and 3 wait for a vendor that is down: the replay sends the refused ones."""
    monkeypatch.setenv("FAULTS_WRITE_KEY", "a key for the users of tests")
    arrived: Counter[str] = Counter()
    async with running(tmp_path, broker, ["router", "forwarder", "ledger"]) as stage:
        refuses = is_down = False

        def answer(got: Got) -> web.Response:
            if got.path.endswith("/good"):
                if is_down or refuses:
                    return web.Response(status=503 if is_down else 422)
                arrived[got.body["id"]] += 1
            return web.json_response({})

        stage.vendor.answer = answer
        stage.send(10)
        await until(lambda: len(arrived) == 10)
        refuses = True
        stage.send(10)
        await stage.routed()
        is_down = True
        before = len(stage.vendor.got)
        stage.send(3)
        await until(lambda: len(stage.vendor.got) > before + 1)

        report = orjson.loads((await replay(tmp_path)).stdout)
        assert {(row["outcome"], row["reason"]): row["count"] for row in report["outcomes"]} == {
            ("forwarded", ""): 10,
            ("delivered", "delivered before"): 10,
            ("waiting", "it waits in Kafka for its forwarder"): 3,
        }
        # What was just sent again waits like the others.
        assert orjson.loads((await replay(tmp_path, "--dry-run")).stdout)["sent"] == 0

        refuses = is_down = False
        await stage.routed()
        assert arrived == Counter({f"m-{number}": 1 for number in range(23)})
        assert orjson.loads((await replay(tmp_path, "--dry-run")).stdout)["sent"] == 0

        await stage.stop("ledger")
        refused = await replay(tmp_path, code=1)
        assert "start one with: turnout ledger --config" in refused.stderr


def test_deliveries_by_rule():
    """Only with `match: all` a rule has deliveries of its own; other events are left out until they are known."""
    spans = {"read": [[0, 9]], "delivered": {"a": [[0, 5]], "b": [[4, 7]]}, "waiting": {"a": [[9, 9]]}}
    answer = [{"topic": "t", "partition": 0, **spans}]
    for by_rule, left in ((True, {("a", n) for n in range(6)} | {("b", n) for n in range(4, 8)}), (False, None)):
        known = KnownDeliveries(answer, by_rule=by_rule)
        found = {
            (rule, offset)
            for rule in "ab"
            for offset in range(9)
            if (reason := known.reason_to_leave("t", 0, offset, rule)) and reason[0] == "delivered"
        }
        assert found == (left or {(rule, n) for rule in "ab" for n in range(8)})
        assert known.reason_to_leave("t", 0, 9, "a") == ("waiting", "it waits in Kafka for its forwarder")
        for partition, offset in ((0, 10), (1, 0)):
            assert known.reason_to_leave("t", partition, offset, "a")
