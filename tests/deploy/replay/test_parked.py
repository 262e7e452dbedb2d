import json
from pathlib import Path

import orjson
from click.testing import CliRunner

from deploy.cli.main import main
from streams.kafka.settings import Broker
from streams.records.delivery import DeliveryRecord
from streams.records.event import Origin
from streams.topics import Topics
from tests.deploy.replay.stage import Stage
from tests.support.ports import free_port


def test_dead_letters_are_listed_counted_and_chosen(stage: Stage):
    """By integration, reason and rule; each filter narrows; one is shown whole; a wrong place or time is wrong use."""
    for n in range(5):
        stage.die(n, reason="bad" if n % 2 else "payload")
    text = stage.run("dead", "list")
    assert "3  one" in text
    assert "payload" in text
    assert len(stage.listed("dead")) == 5
    assert {it["detail"] for it in stage.listed("dead", "--reason", "bad")} == {"detail 1", "detail 3"}
    assert {it["detail"] for it in stage.listed("dead", "--user", "u2")} == {"detail 2"}
    assert stage.listed("dead", "--integration", "two") == []
    assert stage.listed("dead", "--rule", "new") == []
    assert len(stage.listed("dead", "--since", "2020-01-01", "--rule", "old")) == 5
    assert stage.listed("dead", "--until", "2020-01-01T00:00Z") == []
    (place,) = [it["place"] for it in stage.listed("dead", "--user", "u4")]
    shown = json.loads(stage.run("dead", "show", place))
    assert shown["delivery"]["payload"] == {"total": 4, "by": "then"}
    stage.run("dead", "show", "2:99", code=1)
    stage.run("dead", "show", "there", code=2)
    stage.run("dead", "list", "--since", "yesterday", code=2)


def test_a_dead_letter_names_the_line_of_the_rule(stage: Stage):
    """The line is that of the missing or wrong field, else of the rule; None if the rule no longer exists."""
    file = str(stage.folder / "integrations" / "one.yaml")
    stage.die(0, reason="payload", detail="total: Input should be a number", rule="bought")
    stage.die(1, reason="status_404", detail="", rule="bought")
    stage.die(2, reason="payload", detail="total: Input should be a number", rule="gone")
    shown = [json.loads(stage.run("dead", "show", it["place"])) for it in stage.listed("dead")]
    assert {it["delivery"]["id"]: it["line"] for it in shown} == {"m0": f"{file}:6:59", "m1": f"{file}:6:5", "m2": None}


def test_a_replay_maps_the_events_by_todays_rules(stage: Stage):
    """Payload and rule are of today, the id and the event's coordinates the old ones; it is done once."""
    for n in range(4):
        stage.die(n, event=stage.event(n, event="Other") if n == 3 else None)
    assert json.loads(stage.run("dead", "replay", "--yes", "--json")) == {"replayed": 3, "dropped by today's rules": 1}
    forwarded = [(record.partition, record.key, DeliveryRecord.decode(record.value)) for record in stage.forwarded()]
    assert [(partition, key) for partition, key, _ in forwarded] == [(0, b"u0"), (0, b"u1"), (0, b"u2")]
    for n, (_, _, delivery) in enumerate(forwarded):
        assert (delivery.id, delivery.rule, delivery.payload) == (f"m{n}", "bought", {"total": n, "by": "today"})
        assert delivery.origin == Origin(stage.topics.events, 0, n)
    assert stage.listed("dead") == []
    stage.run("dead", "replay", "--yes")
    assert len(stage.forwarded()) == 3


def test_a_replay_as_it_was(stage: Stage):
    """With --as-was the old payload goes out again; one that has none is left, and the command says so."""
    stage.die(0)
    stage.die(1, payload={})
    assert json.loads(stage.run("dead", "replay", "--as-was", "--yes", "--json", code=1)) == {
        "replayed": 1,
        "without a payload": 1,
    }
    (record,) = stage.forwarded()
    assert DeliveryRecord.decode(record.value).payload == {"total": 0, "by": "then"}
    assert [it["detail"] for it in stage.listed("dead")] == ["detail 1"]


def test_an_event_that_kafka_no_longer_keeps_is_left(stage: Stage):
    """An event that Kafka has removed cannot be mapped with today's rules."""
    stage.die(7)
    report = json.loads(stage.run("dead", "replay", "--yes", "--json", code=1))
    assert report == {"Kafka has removed its event": 1}


def test_a_drop_asks_first(stage: Stage):
    """Without --yes it says how many, and does nothing at a no; dropped ones are not listed again."""
    stage.die(0)
    stage.die(1)
    result = CliRunner().invoke(main, ["dead", "drop", "--user", "u0", "--config", str(stage.folder)], input="n\n")
    assert result.exit_code == 1
    assert "Drop 1 dead letter?" in result.output
    assert len(stage.listed("dead")) == 2
    stage.run("dead", "drop", "--user", "u0", input="y\n")
    assert [it["detail"] for it in stage.listed("dead")] == ["detail 1"]
    assert stage.forwarded() == []


def test_rejected_events_go_back_mended_by_a_rule_file(stage: Stage):
    """They keep their messageId or get the one they would have had; still invalid events are left unchanged."""
    nameless = {"type": "track", "userId": "u", "messageId": "m1", "properties": {"n": 1}}
    idless = {"type": "track", "userId": "u", "properties": {"n": 2}}
    stage.reject(orjson.dumps(nameless), "missing")
    stage.reject(orjson.dumps(idless), "missing")
    stage.reject(b"{", "json")
    assert [it["reason"] for it in stage.listed("rejected")] == ["missing", "missing", "json"]
    (place,) = [it["place"] for it in stage.listed("rejected", "--reason", "json")]
    assert json.loads(stage.run("rejected", "show", place))["event"] == "{"
    rules = stage.folder / "mend.yaml"
    rules.write_text("rules: [{name: name, when: 'type = \"track\"', map: {event: Bought}}]\n")
    report = json.loads(stage.run("rejected", "replay", "--rules", str(rules), "--yes", "--json", code=1))
    assert report == {"replayed": 2, "still rejected (json)": 1}
    first, second = (orjson.loads(record.value) for record in stage.events())
    assert first == {**nameless, "event": "Bought"}
    assert second.pop("messageId").startswith("turnout-")
    assert second == {**idless, "event": "Bought"}
    assert [it["reason"] for it in stage.listed("rejected")] == ["json"]


def test_a_repair_that_is_no_rule_file_is_a_mistake_with_its_line(stage: Stage):
    """It is refused before anything is sent."""
    stage.reject(b"{}", "type")
    rules = stage.folder / "mend.yaml"
    rules.write_text("rules: [{name: name, wen: x}]\n")
    stage.run("rejected", "replay", "--rules", str(rules), "--yes", code=2)
    assert stage.events() == []


def test_a_broker_that_does_not_answer_is_one_line(tmp_path: Path):
    """Exit code 1, and no traceback."""
    stage = Stage(tmp_path, Broker(bootstrap=f"127.0.0.1:{free_port()}"), Topics(prefix="none", partitions=3))
    result = CliRunner().invoke(main, ["dead", "list", "--config", str(stage.folder)])
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1


def test_quarantined_events_go_back_when_the_plan_lets_them_pass(stage: Stage):
    """Events that the plan still quarantines are left; valid or repaired ones are sent, marked as sent again."""
    (stage.folder / "plans").mkdir()
    (stage.folder / "sources/web.yaml").write_text("source: web\nplan: shop\n")

    def plan(required: str) -> None:
        text = f"on_violation: quarantine\nevents: [{{event: Bought, properties: {{required: [{required}]}}}}]\n"
        (stage.folder / "plans/shop.yaml").write_text(f"plan: shop\n{text}")

    plan("total, currency")
    stage.reject(orjson.dumps(stage.event(1)), "quarantined")
    report = json.loads(stage.run("rejected", "replay", "--yes", "--json", code=1))
    assert report == {"still rejected (quarantined)": 1}
    plan("total")
    (place,) = [it["place"] for it in stage.listed("rejected")]
    assert json.loads(stage.run("rejected", "replay", "--yes", "--json")) == {"replayed": 1}
    (record,) = stage.events()
    assert orjson.loads(record.value) == stage.event(1)
    assert dict(record.headers)["turnout-replay"] == place.encode()
    assert stage.listed("rejected") == []


def test_a_webhooks_delivery_is_mapped_again(stage: Stage):
    """Requests are mapped by the source's current rules, possibly to several events; unmappable ones are left."""
    delivery = b'{"headers":{"x-kind":"paid"},"body":{"id":"d1","user":{"id":"u1"}}}'
    hook = stage.folder / "sources/hook.yaml"
    rule = "{{name: {0}, map: {{type: {1}, messageId: $.body.id, userId: {2}, event: Paid}}}}"

    def write(user: str) -> None:
        rules = f"{rule.format('what', 'track', user)}, {rule.format('who', 'identify', user)}"
        hook.write_text(f"source: hook\nwrite_keys: ['${{KEY}}']\nwebhook: {{}}\nmatch: all\nrules: [{rules}]\n")

    write("$.body.user")
    stage.reject(delivery, "no_user", "hook", by_collector=True)
    report = json.loads(stage.run("rejected", "replay", "--yes", "--json", code=1))
    assert report == {"still rejected (string_type)": 1}
    write("$.body.user.id")
    assert json.loads(stage.run("rejected", "replay", "--yes", "--json")) == {"replayed": 1}
    events = [orjson.loads(record.value) for record in stage.events()]
    assert [(it["type"], it["userId"], it["messageId"]) for it in events] == [
        ("track", "u1", "d1:what"),
        ("identify", "u1", "d1:who"),
    ]
    assert stage.listed("rejected") == []
