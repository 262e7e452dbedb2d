"""`turnout explain`: the outcomes of an event with reasons, and an integration's file with its preset merged in."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from rich.cells import cell_len

from deploy.cli.main import main
from deploy.dryrun.merged import merge
from forwarders import registry
from tests.support import golden
from transforms import read_rules
from transforms.documents import Document

EXAMPLE = Path("deploy/example").resolve()
ORDER = {
    "type": "track",
    "event": "Order Completed",
    "userId": "u-1",
    "messageId": "m-1",
    "timestamp": "2026-01-02T03:04:05.000Z",
    "properties": {"order_id": "o-1", "total": "much", "products": [{"sku": "s-1"}]},
}


@pytest.fixture
def example(tmp_path, monkeypatch):
    """A copy of the example's folder, which is the current one."""
    folder = shutil.copytree(EXAMPLE, tmp_path / "example")
    monkeypatch.chdir(folder)
    return folder


def run(*arguments, event=ORDER):
    result = CliRunner().invoke(main, ["explain", *arguments], input=json.dumps(event))
    return result.exit_code, result.output


def explained(*arguments, event=ORDER):
    code, output = run("--event", "-", "--json", *arguments, event=event)
    assert code == 0, output
    data = json.loads(output)
    return {each["integration"]: each for each in data["integrations"]}


def test_fields_say_where_they_come_from(example):
    """Each field has its directive, its line, and the event's paths with their values."""
    (delivery,) = explained("webhook")["webhook"]["deliveries"]
    fields = {each["field"]: each for each in delivery["fields"]}
    assert fields["user"] == {
        "field": "user",
        "value": "u-1",
        "directive": "@default",
        "where": "integrations/webhook.yaml:14",
        "reads": [{"path": "$.userId", "value": "u-1"}],
        "failed": False,
    }
    assert fields["lines[0].sku"]["reads"] == [{"path": "$.sku", "value": "s-1"}]
    assert fields["kind"]["directive"] is None
    assert "value" not in fields["email"]


def test_a_cast_that_failed_is_marked(example):
    """A value that could not be cast is left out of the payload, and the field says that it failed."""
    (delivery,) = explained("webhook")["webhook"]["deliveries"]
    failed = [each for each in delivery["fields"] if each["failed"]]
    assert [(each["field"], each["reads"]) for each in failed] == [
        ("total", [{"path": "$.properties.total", "value": "much"}])
    ]
    assert "total" not in delivery["payload"]


@pytest.mark.parametrize(
    ("field", "properties"),
    [
        ({"@integer": "$.properties.x"}, {"x": 1e21}),
        ({"@integer": {"@sum": "$.properties.x"}}, {"x": [1e308, 1e308]}),
        ({"@sum": "$.properties.x"}, {"x": [2**64 - 1, 1]}),
        ({"@number": "$.properties.x"}, {"x": "1e999"}),
        ({"@hash": {"value": "$.properties.x", "normalize": "zip"}}, {"x": "n/a"}),
        ({"@hash": {"value": "$.properties.x", "normalize": "phone"}}, {"x": "0151 2345"}),
    ],
)
def test_what_no_payload_can_hold_is_marked(example, field, properties):
    """An unusable value is left out and the delivery continues, as at run time; the field is marked as failed."""
    rules = {"rules": [{"name": "r", "map": {"a": field, "b": 1}}]}
    hook = {"integration": "hook", "forwarder": "webhook", "settings": {"url": "https://a.example/"}, **rules}
    Path("integrations/hook.yaml").write_text(json.dumps(hook))
    (delivery,) = explained("hook", event={**ORDER, "properties": properties})["hook"]["deliveries"]
    assert (delivery["outcome"], delivery["payload"]) == ("forwarded", {"b": 1})
    assert [each["field"] for each in delivery["fields"] if each["failed"]] == ["a"]


def test_a_default_after_a_cast_that_failed_is_no_failure(example):
    """A field whose value a later choice of @default gave is not marked."""
    text = Path("integrations/webhook.yaml").read_text()
    chosen = '{"@default": [{"@number": $.properties.total}, 5]}'
    Path("integrations/webhook.yaml").write_text(text.replace('{"@number": $.properties.total}', chosen))
    (delivery,) = explained("webhook")["webhook"]["deliveries"]
    assert delivery["payload"]["total"] == 5
    assert not any(each["failed"] for each in delivery["fields"])


def test_a_whole_number_beyond_64_bits_is_read_as_the_router_reads_it(example):
    """The event's JSON text counts, not what Python would make of it."""
    rules = {"rules": [{"name": "r", "map": {"a": "$.properties.x"}}]}
    hook = {"integration": "hook", "forwarder": "webhook", "settings": {"url": "https://a.example/"}, **rules}
    Path("integrations/hook.yaml").write_text(json.dumps(hook))
    (delivery,) = explained("hook", event={**ORDER, "properties": {"x": 2**70}})["hook"]["deliveries"]
    assert (delivery["outcome"], delivery["payload"]) == ("forwarded", {"a": 2.0**70})


def test_rules_that_did_not_match_say_why(example):
    """Each tried rule lists the false parts of its condition with the event's values."""
    account = explained("webhook", event={**ORDER, "event": "Signed Up"})["webhook"]
    assert [(each["name"], each["matched"]) for each in account["rules"]] == [("purchase", False), ("sign-up", True)]
    assert account["rules"][0]["untrue"] == [{"test": 'event = "Order Completed"', "value": "Signed Up"}]
    assert account["rules"][0]["condition"] == 'type = "track" and event = "Order Completed"'


def test_the_request_is_shown_without_secrets(example, monkeypatch):
    """The request is that of `preview`, with stars for each secret, set or not."""
    monkeypatch.setenv("WEBHOOK_TOKEN", "s3cret")
    (delivery,) = explained("webhook")["webhook"]["deliveries"]
    assert delivery["request"]["headers"]["Authorization"] == "Bearer ***"
    assert delivery["request"]["body"] == delivery["payload"]


def test_steps_before_the_rules(example):
    """Opt-out, consent, sample and source each are a step, and the first that stops the event is its outcome."""
    path = Path("integrations/ga4.yaml")
    path.write_text(path.read_text() + "consent: {all: [ads], assume: granted}\nsample: {rate: 0}\n")
    account = explained("ga4", "--source", "web", event={**ORDER, "integrations": {"All": True}})["ga4"]
    assert [(each["step"], each["passed"]) for each in account["steps"]] == [
        ("source", True),
        ("opt-out", True),
        ("consent", True),
        ("sample", False),
    ]
    assert [each["outcome"] for each in account["deliveries"]] == ["sampled"]
    assert account["rules"] == []


def test_consent_says_what_is_lacking(example):
    """Consent follows turnout.yaml and the source's default, which precedes the integration's."""
    for name, text in {
        "integrations/ga4.yaml": "consent: {all: [ads, stats], assume: granted}\n",
        "turnout.yaml": "consent: {gpc_denies: [ads]}\n",
        "sources/server.yaml": "consent: {assume: denied}\n",
    }.items():
        with Path(name).open("a") as file:
            file.write(text)
    event = {**ORDER, "context": {"consent": {"globalPrivacyControl": True}}}
    for source, detail in {
        "web": "all of ads, stats: ads not granted; without information granted",
        "server": "all of ads, stats: ads and stats not granted; without information denied",
    }.items():
        (step,) = [
            it for it in explained("ga4", "--source", source, event=event)["ga4"]["steps"] if it["step"] == "consent"
        ]
        assert (step["passed"], step["detail"]) == (False, detail)


def test_the_source_decides(example):
    """An event of another source is filtered, and one whose source is not known is taken to be the right one."""
    assert explained("--source", "server")["ga4"]["deliveries"][0]["outcome"] == "filtered"
    assert explained("--source", "web")["ga4"]["deliveries"][0]["outcome"] == "forwarded"
    assert explained(event={**ORDER, "writeKey": "no such"})["ga4"]["deliveries"][0]["outcome"] == "forwarded"


def test_draining_takes_nothing(example):
    """An integration that is draining makes nothing of an event, and says so."""
    path = Path("integrations/webhook.yaml")
    path.write_text(path.read_text() + "state: draining\n")
    account = explained("webhook")["webhook"]
    (delivery,) = account["deliveries"]
    assert (delivery["outcome"], delivery["payload"]) == ("draining", None)
    assert [step["detail"] for step in account["steps"]] == ["draining: no new events are forwarded"]


def test_what_is_no_event(example):
    """For an event that the router would reject, the reason is printed and the exit code is 1."""
    code, output = run("--event", "-", "--source", "web", event={"type": "track", "userId": "u"})
    assert code == 1
    assert output == "✗ validation: event: is missing (missing)\n"


def test_for_people(example, monkeypatch):
    """On the terminal the explanation has outcome, rule and line, fields and the request, on a page or two."""
    monkeypatch.setenv("WEBHOOK_URL", "http://127.0.0.1:8099/hooks/sales")
    code, output = run("--event", "-", "--source", "web")
    assert code == 0
    lines = [line.split() for line in output.splitlines()]
    assert ["→", "forwarded", "by", "purchase", "webhook.yaml:10"] in lines
    assert ["total:", "left", "out", "webhook.yaml:19"] in lines
    assert ["←", "@number", "$.properties.total", "=", '"much"', "failed"] in lines
    assert ["user:", '"u-1"', "←", "@default", "$.userId", "webhook.yaml:14"] in lines
    assert "POST http://127.0.0.1:8099/hooks/sales" in output
    assert len(output.splitlines()) < 100


@pytest.mark.parametrize("columns", [80, 130])
def test_an_explanation_fits_its_columns_and_cuts_no_name(example, monkeypatch, columns):
    """Whatever the event holds, each line fits; a field's name and its file and line are on it whole."""
    monkeypatch.setenv("COLUMNS", str(columns))
    names = {f"a_field_with_a_name_that_takes_many_columns_{n}": "$.properties.order_id" for n in range(3)}
    rules = [{"name": "r", "map": {**names, "text": "{{properties.coupon}} " * 20}}]
    hook = {"integration": "hook", "forwarder": "webhook", "settings": {"url": "https://a.example/"}, "rules": rules}
    Path("integrations/hook.yaml").write_text(json.dumps(hook, indent=1))
    event = {**ORDER, "properties": {"order_id": "名前 " * 50, "coupon": "X" * 300}}
    for arguments in (["--source", "web"], [], ["--source", "server"]):
        code, output = run("--event", "-", *arguments, event=event)
        assert code == 0
        assert max(map(cell_len, output.splitlines())) <= min(columns, 100)
        assert all(f"    {name}: " in output for name in names)
        assert output.count("hook.yaml:") >= len(names) + 1


def test_a_narrow_terminal_gets_longer_lines(example, monkeypatch):
    """No terminal is too narrow for an explanation."""
    monkeypatch.setenv("COLUMNS", "3")
    code, output = run("--event", "-", "--source", "web")
    assert code == 0
    assert "webhook.yaml:14" in output


def test_without_a_source_the_likely_one_is_taken(example):
    """The write key decides, then the default, then the only source; output and JSON name the source and the reason."""
    Path("turnout.yaml").write_text("")
    for event, name, reason in (
        ({**ORDER, "writeKey": "web"}, "web", "its name is the event's write key"),
        ({**ORDER, "writeKey": "none"}, None, "it may come from server, web"),
        (ORDER, None, "it may come from server, web"),
    ):
        code, output = run("--event", "-", event=event)
        assert code == 0
        assert reason in " ".join(output.split("\n\n")[0].split())
        assert ("✓ plan: " in output) == (name == "web")
        code, output = run("--event", "-", "--json", event=event)
        assert json.loads(output)["likely_source"] == {"name": name, "reason": reason}
    code, output = run("ga4", "--event", "-", "--json")
    assert json.loads(output)["likely_source"] == {"name": "web", "reason": "it is the only source of ga4"}
    Path("sources/server.yaml").unlink()
    code, output = run("--event", "-")
    assert output.startswith("No --source given: explained as an event of web, since it is the only source.\n\n")
    assert "✓ plan: " in output
    assert "✓ enrich.identity, enrich.timestamp, " in output


def test_with_a_source_none_is_looked_for(example):
    """The explanation begins with the event's steps, and --json says nothing of a likely source."""
    assert run("--event", "-", "--source", "web")[1].startswith("✓ validation: ")
    assert "likely_source" not in json.loads(run("--event", "-", "--source", "web", "--json")[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["webhok", "--event", "-"], "no integration is called 'webhok' (did you mean 'webhook'?)"),
        (["--source", "wep", "--event", "-"], "no source is called 'wep' (did you mean 'web'?)"),
        (["--event", "none.json"], "cannot read none.json: No such file or directory"),
        (["--event", "-", "--header", "x"], "--header 'x': write NAME=VALUE"),
        ([], "name an integration, or give an --event"),
    ],
)
def test_wrong_use(example, arguments, message):
    """What cannot be explained is wrong use: one line, exit code 2."""
    code, output = run(*arguments)
    assert code == 2
    assert message in output


@pytest.mark.parametrize("text", [b"", b"event: x", b"[" * 100_000, b'"\xe9"'])
def test_what_is_not_json_is_rejected(example, text):
    """As the router rejects it, with the same reason."""
    Path("odd.json").write_bytes(text)
    code, output = run("--event", "odd.json")
    assert code == 1
    assert "✗ validation: not JSON" in output
    assert json.loads(run("--event", "odd.json", "--json")[1])["rejected"]["reason"] == "json"


def test_merged_file_names_the_origin_of_each_line(example):
    """The merged file has the preset's rules, with the file's own before them, and the origin beside each line."""
    code, output = run("ga4")
    assert code == 0
    origins = {text.rstrip(): origin for text, origin in (line.rsplit("  # ", 1) for line in output.splitlines())}
    assert origins["    drop: true"] == "integrations/ga4.yaml:17"
    assert origins['    when: type = "page"'].startswith("preset ga4:")


@pytest.mark.parametrize("name", golden.NAMES)
def test_merged_file_means_the_same(name):
    """Read back without the preset, the merged file has the very rules of the file with its preset."""
    own = {
        "integration": "one", "forwarder": name, "preset": name, "settings": {},
        "map": {"extra": {"@default": ["$.a", 1]}, "user_data": {"@remove": True}},
        "rules": [{"name": "own", "when": 'event = "Own"', "map": {"a": ["$.b", {"c": "{{d}}"}]}}],
    }  # fmt: skip
    document = Document.parse(json.dumps(own), "one.yaml")
    preset = registry.find(name).preset()
    rules, mistakes = read_rules(document, preset=Document.parse(preset.read_bytes(), "preset.yaml"))
    assert not mistakes
    text = "\n".join(line.text for line in merge(SimpleNamespace(document=document, rules=rules)))
    again, mistakes = read_rules(Document.parse(text, "merged.yaml"))
    assert not mistakes
    assert [(rule.name, rule.condition, rule.shape) for rule in again.rules] == [
        (rule.name, rule.condition, rule.shape) for rule in rules.rules
    ]


def test_the_rules_of_the_source(example):
    """What the source's rules did is a step of its own, and the integrations get the mended event."""
    with Path("sources/server.yaml").open("a") as file:
        file.write('rules: [{when: event = "done", map: {event: Order Completed}}, {drop: true}]\n')
    event = json.dumps({**ORDER, "event": "done"})
    output = CliRunner().invoke(main, ["explain", "--event", "-", "--source", "server", "--json"], input=event).output
    data = json.loads(output)
    (step,) = [step for step in data["steps"] if step["step"] == "repair"]
    assert step["passed"]
    assert step["fields"] == [{"field": "event", "before": "done", "after": "Order Completed"}]
    assert data["integrations"][2]["deliveries"][0]["rule"] == "purchase"
    code, output = run("--event", "-", "--source", "server", event={**ORDER, "event": "other"})
    assert "✗ repair: filtered: the source's rules drop it" in output
    assert output.count("→ filtered: the source's rules drop it") == 3
    assert code == 0


def test_the_plan_of_the_source(example):
    """The plan is a step with the violations' paths and no values; removed values are shown as changes."""
    traits = {"email": "Ann", "name": "Ann"}
    code, output = run("--event", "-", "--source", "web", event={"type": "identify", "userId": "u", "traits": traits})
    assert "✓ plan: plan: shop: identify: $.traits.email format" in output
    assert "    traits.email: " in output
    assert code == 0
    plan = Path("plans/shop.yaml")
    plan.write_text(plan.read_text().replace("unplanned_events: warn", "unplanned_events: quarantine"))
    code, output = run("--event", "-", "--source", "web", event={**ORDER, "event": "other"})
    assert "✗ plan: quarantined: plan: shop: track: unplanned_event" in output
    assert code == 0


def test_the_enrichments_of_the_source(example):
    """What each enrichment added is a step of its own, and a bot's event goes no further."""
    event = {**ORDER, "context": {"ip": "203.0.113.7", "userAgent": "Mozilla/5.0 (Windows NT 10.0) Firefox/143.0"}}
    code, output = run("--event", "-", "--source", "web", "--json", event=event)
    assert code == 0
    steps = {each["step"]: each for each in json.loads(output)["steps"]}
    assert steps["enrich.ip"]["fields"] == [{"field": "context.ip", "before": "203.0.113.7", "after": "203.0.113.0"}]
    assert steps["enrich.user_agent"]["detail"] == "see below"
    assert steps["enrich.campaign"]["detail"] == "nothing to change"
    code, output = run("--event", "-", "--source", "web", event={**ORDER, "context": {"userAgent": "Googlebot/2.1"}})
    assert code == 0
    assert "✗ enrich.bot: filtered: bot" in output
