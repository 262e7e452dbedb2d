"""`turnout why` on a real Kafka: what happened to an event, with and without a ledger."""

import asyncio
import shutil
from pathlib import Path

import pytest
from aiohttp import web

from deploy.config.configuration import read_configuration
from streams.kafka.settings import Broker
from tests.deploy.ledger.stage import running

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAULTS_WRITE_KEY", "a key for the users of tests")


async def test_the_story_of_an_event(broker: Broker, tmp_path: Path):
    """Each integration's outcome with its line; the vendor's answer and the command to send a dead letter again."""
    async with running(tmp_path, broker, ["router", "forwarder", "ledger"]) as stage:
        stage.send()
        stage.send(email="bad")
        await stage.routed()
        assert (await stage.run("audit")).exit_code == 0

        why = await stage.run("why", "m-1")
        lines = why.stdout.splitlines()
        assert why.exit_code == 0
        assert max(map(len, lines)) <= 80
        assert "\x1b" not in why.stdout
        assert lines[0] == "Order   m-1   user u-1   source web"
        assert lines[1].endswith(f" UTC   {stage.topics.events} 0:1")
        (event,) = (await stage.json("why", "m-1"))["events"]
        by_name = {entry["integration"]: entry for entry in event["integrations"]}
        (letter,) = by_name["crm"]["dead_letters"]
        assert (letter["status"], letter["attempts"], letter["answer"]["status"]) == (422, 1, 422)
        assert letter["request"]["url"].endswith("/crm")
        good = by_name["good"]["after_ms"]
        assert (by_name["crm"]["attempts"], by_name["crm"]["status"]) == (1, 422)
        assert lines[3:] == [
            'crm      dead       1 attempt, 422 "email: invalid \\u001b[31m"',
            "                    rule order, integrations/crm.yaml:5",
            "                    after a fix: turnout dead replay --id m-1",
            f"good     delivered  +{good} ms, 1 attempt",
            "                    rule order, integrations/good.yaml:5",
            "meta     consent    needs advertising; the event has no consent information",
            "                    integrations/meta.yaml:4",
            "slack    filtered   no rule matched",
            "                    big-order: properties.total > 500, but it is 59.9",
        ]
        assert by_name["crm"]["payload"] == {"email": "bad"}
        assert by_name["good"]["payload"] == {"id": "m-1"}

        # A ledger without its folder is built again from Kafka.
        await stage.stop("ledger")
        shutil.rmtree(stage.folder / "ledger")
        await stage.start("ledger")
        assert (await stage.run("audit")).exit_code == 0
        assert (await stage.run("why", "m-1")).stdout.splitlines() == lines

        # The rules that routed it explain it, whatever they are today.
        path = stage.folder / "integrations" / "slack.yaml"
        path.write_text(f"# another line\n{path.read_text()}".replace("500", "700"))
        (stage.folder / "integrations" / "meta.yaml").unlink()
        assert (await stage.run("why", "m-1")).stdout.splitlines() == lines
        (rules,) = event["rules"]
        await stage.forget_rules(rules)
        why = await stage.run("why", "m-1")
        said = " ".join(why.stdout.split())
        assert f"today's rules, {read_configuration(stage.folder).version}: the rules {rules} are not in Kafka." in said
        assert "properties.total > 700, but it is 59.9" in why.stdout
        assert "meta     consent    needs advertising\n" in why.stdout

        # Its dead letter is sent again by its id, and the story says so.
        stage.vendor.answer = lambda _: web.json_response({})
        replayed = await stage.run("dead", "replay", "--id", "m-1", "--yes")
        assert (replayed.exit_code, replayed.stdout.split()) == (0, ["1", "replayed"])
        await stage.routed()
        async with asyncio.timeout(120):
            while "crm      delivered" not in (why := await stage.run("why", "m-1")).stdout:
                await asyncio.sleep(0.1)
        assert "1 attempt, after it was dead" in why.stdout
        assert "dead replay" not in why.stdout

        # The same id again: both are shown, and the second was dropped.
        stage.sent = 1
        stage.send()
        await stage.routed()
        assert (await stage.run("audit")).exit_code == 0
        why = await stage.run("why", "m-1")
        assert why.stdout.startswith("This id came 2 times.\n")
        (second,) = [event for event in (await stage.json("why", "m-1"))["events"] if event["offset"] == 2]
        assert {entry["outcome"] for entry in second["integrations"]} == {"duplicate"}

        # A hash only finds candidates: a run that gives this event another id does not make it that event.
        await stage.claim(offset=0, message_id="m-77")
        async with asyncio.timeout(120):
            while not (await asyncio.to_thread(stage.ask, "/why?message_id=m-77"))["stories"]:
                await asyncio.sleep(0.1)
        assert (await stage.run("why", "m-77")).exit_code == 1

        listed = await stage.run("why", "--user", "u-0")
        assert (listed.exit_code, listed.stdout.splitlines()[0]) == (0, "Order   m-0   user u-0   source web")
        # Of an event that Kafka no longer has, it says what is left.
        await asyncio.to_thread(stage.delete_before, 2)
        why = await stage.run("why", "--at", "0:1")
        assert why.stdout.splitlines()[0] == "Order   source web"
        assert "Kafka no longer has this event. Expired:" in why.stdout
        assert "                    rule order, integrations/good.yaml:5" in why.stdout.splitlines()
        assert "slack    filtered" in why.stdout

        for sought in (["m-9"], ["--user", "nobody"], ["--at", "1:7"]):
            missing = await stage.run("why", *sought)
            assert (missing.exit_code, missing.stdout) == (1, "")
            assert missing.stderr.startswith("nothing is known about an event with the ")


async def test_without_a_ledger(broker: Broker, tmp_path: Path):
    """By its place an event is found without a ledger; by its id the command says how to start one."""
    async with running(tmp_path, broker, ["router", "forwarder"]) as stage:
        stage.send(email="bad")
        await stage.routed()
        (event,) = (await stage.json("why", "--at", f"{stage.topics.events}:0:0"))["events"]
        assert (event["message_id"], event["in_ledger"]) == ("m-0", False)
        outcomes = {entry["integration"]: entry["outcome"] for entry in event["integrations"]}
        assert outcomes == {"good": "delivered", "crm": "dead", "meta": "consent", "slack": "filtered"}
        (letter,) = next(entry for entry in event["integrations"] if entry["integration"] == "crm")["dead_letters"]
        assert letter["status"] == 422
        why = await stage.run("why", "--at", "0:0")
        assert (why.exit_code, "this story is from Kafka alone" in why.stderr) == (0, True)
        assert "turnout dead replay --id m-0" in why.stdout
        why = await stage.run("why", "m-0")
        assert (why.exit_code, why.stdout) == (1, "")
        assert f"turnout ledger --config {stage.folder}" in why.stderr
