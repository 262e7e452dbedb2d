"""`turnout test`: the tests in rule files and beside them."""

import json
import shutil
import textwrap
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy.cli.main import main
from deploy.config.yaml_edit import replace_value
from transforms.documents import Document

HOOK = """
integration: hook
forwarder: webhook
sources: [web]
consent: {all: [ads], assume: granted}
settings: {url: 'https://hooks.example/in', auth: {type: bearer, token: '${HOOK_TOKEN}'}}
rules:
  - name: purchase
    when: type = "track" and event = "Order Completed"
    map: {total: {"@number": $.properties.total}, lines: {"@each": [$.properties.lines, {sku: {"@string": $.sku}}]}}
  - name: sign-up
    when: type = "track" and event = "Signed Up"
    map: {user: $.userId}
  - {name: noise, when: event = "Heartbeat", drop: true}
"""
PURCHASE = "{type: track, event: Order Completed, userId: u, messageId: m, properties: {total: '9.50'}}"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A configuration folder with an integration, `hook`, that has no tests yet; it is the current folder."""
    for name, text in {
        "turnout.yaml": "prefix: t\n",
        "sources/web.yaml": "source: web\n",
        "sources/server.yaml": "source: server\n",
        "integrations/hook.yaml": HOOK,
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text.lstrip())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOOK_TOKEN", "s3cret")
    return tmp_path


def write(tests, name="integrations/hook.test.yaml"):
    Path(name).write_text("tests:\n" + textwrap.indent(textwrap.dedent(tests).strip("\n"), "  ") + "\n")


def run(*arguments):
    result = CliRunner().invoke(main, ["test", *map(str, arguments)])
    return result.exit_code, result.output


def run_json(*arguments):
    return json.loads(run("--json", *arguments)[1])


@pytest.mark.parametrize(
    "expect",
    [
        "{rule: purchase, payload: {total: 9.5}}",
        "{outcome: forwarded}",
        "{request: {method: POST, url: 'https://hooks.example/in', body: {total: 9.5}}}",
        "{request: {body: '{\"total\":9.5}'}}",
        "{request: {headers: {idempotency-key: m, Authorization: Bearer ***}}}",
        "[{rule: purchase}]",
    ],
)
def test_what_is_as_expected(folder, expect):
    """A test passes where all that it says is so, and compares no more. Secrets are stars, set or not."""
    write(f"- {{event: {PURCHASE}, expect: {expect}}}")
    code, output = run()
    assert output.startswith("1 passed, 0 failed")
    assert code == 0


@pytest.mark.parametrize(
    ("event", "more", "expect"),
    [
        ("{type: track, event: Heartbeat, userId: u}", "", "{rule: noise, outcome: filtered, request: null}"),
        ("{type: track, event: Other, userId: u}", "", "{rule: null, outcome: filtered, reason: no rule matches}"),
        (PURCHASE, "source: server,", "{outcome: filtered}"),
        (PURCHASE, "source: web,", "{outcome: forwarded}"),
        ("{type: track, event: x, userId: u, integrations: {All: false}}", "", "{outcome: opted_out}"),
        (
            "{type: track, event: x, userId: u, context: {consent: {categoryPreferences: {ads: false}}}}",
            "",
            "{outcome: consent}",
        ),
        ("{type: trak, userId: u}", "", "{outcome: rejected}"),
    ],
)
def test_outcomes_of_what_is_not_forwarded(folder, event, more, expect):
    """A test may expect an event to be dropped, held back or rejected."""
    write(f"- {{event: {event}, {more} expect: {expect}}}")
    assert run()[1].startswith("1 passed, 0 failed")


def test_a_failure_shows_what_differs_and_where(folder):
    """A failure names the test, the rule and the line of the field, and shows both values."""
    write(f"- {{name: a purchase, event: {PURCHASE}, expect: {{payload: {{total: 9, tax: 1}}}}}}")
    code, output = run()
    assert output.splitlines()[:-1] == [
        "FAILED integrations/hook.test.yaml:2: a purchase",
        "  rule purchase, integrations/hook.yaml:7",
        "  payload.total  (integrations/hook.yaml:9)",
        "    - 9",
        "    + 9.5",
        "  payload.tax  (integrations/hook.yaml:9)",
        "    - 1",
        "    + nothing",
        "",
    ]
    assert output.splitlines()[-1].startswith("0 passed, 1 failed")
    assert code == 1


def test_a_failure_says_why_the_expected_rule_did_not_take_the_event(folder):
    """Where another rule took the event, the part of the condition that was not true is named."""
    write("- {event: {type: track, event: Order Complete, userId: u}, expect: {rule: purchase}}")
    assert '  rule purchase, integrations/hook.yaml:7: not true: event = "Order Completed"\n' in run()[1]


def test_true_is_not_one_and_a_whole_float_is_its_integer(folder):
    """Numbers compare by value, and a boolean does not equal a number."""
    event = "{type: track, event: Order Completed, userId: u, properties: {total: 1.0}}"
    write("\n".join(f"- {{event: {event}, expect: {{payload: {{total: {total}}}}}}}" for total in ("1", "true")))
    assert [each["passed"] for each in run_json()["tests"]] == [True, False]


def test_update_makes_the_tests_pass_and_keeps_the_rest(folder):
    """`--update` writes the results under the test's own keys, and leaves comments and other tests unchanged."""
    write(
        f"""
        # kept
        - name: one  # kept too
          event: {PURCHASE}
          expect:
            rule: sign-up
            request: {{method: PUT, headers: {{AUTHORIZATION: x}}}}
          # between
        - name: two
          event: {{type: track, event: Heartbeat, userId: u}}
        - {{name: three, event: {PURCHASE}}}
        - {{name: four, event: {PURCHASE}, expect: {{outcome: forwarded}}}}
        """
    )
    assert run("--update")[0] == 0
    text = Path("integrations/hook.test.yaml").read_text()
    for kept in ("  # kept\n", "  # kept too\n", "  # between\n", "expect: {outcome: forwarded}}\n"):
        assert kept in text
    assert [case.get("expect") for case in Document.parse(text, "t").data["tests"]] == [
        {"rule": "purchase", "request": {"method": "POST", "headers": {"Authorization": "Bearer ***"}}},
        {"outcome": "filtered", "reason": "the rule drops it"},
        {"rule": "purchase", "payload": {"total": 9.5}},
        {"outcome": "forwarded"},
    ]
    assert run()[1].startswith("4 passed, 0 failed")


def test_all_rules_that_match(folder):
    """With `match: all` a list has what each rule made, and a wrong number of deliveries is a failure of its own."""
    path = Path("integrations/hook.yaml")
    path.write_text("match: all\n" + path.read_text() + "  - {name: every, map: {a: 1}}\n")
    write(f"- {{event: {PURCHASE}, expect: [{{rule: purchase}}, {{rule: every, payload: {{a: 2}}}}]}}")
    assert [each["field"] for each in run_json()["tests"][0]["differences"]] == ["[1].payload.a"]
    write(f"- {{event: {PURCHASE}, expect: {{rule: purchase}}}}")
    assert run_json()["tests"][0]["differences"] == [{"field": "deliveries", "rule": None, "expected": 1, "actual": 2}]


def test_coverage_lists_what_no_test_reaches(folder):
    """Rules that took no event and directives that none ran are listed with their lines."""
    write(f"- {{event: {PURCHASE}, expect: {{rule: purchase}}}}")
    output = run("--coverage")[1]
    assert output.splitlines()[:-1] == [
        "integrations/hook.yaml: no test reaches",
        "  10: the rule sign-up",
        "  13: the rule noise",
        "  9: @string",
    ]
    assert run_json("--coverage")["coverage"][0]["directives"] == [{"name": "@string", "line": 9}]


def test_files_choose_the_tests(folder, monkeypatch):
    """Without a file all tests run, with files only theirs; a folder, or a file of another folder, is wrong use."""
    path = Path("integrations/hook.yaml")
    path.write_text(path.read_text() + f"tests: [{{event: {PURCHASE}, expect: {{rule: purchase}}}}]\n")
    write(f"- {{event: {PURCHASE}, expect: {{rule: purchase}}}}")
    assert run()[1].startswith("2 passed")
    assert run(path)[1].startswith("1 passed")
    assert run("--config", folder, path)[1].startswith("1 passed")
    assert run("integrations")[0] == 2
    monkeypatch.chdir(folder.parent)
    code, output = run(folder / path)
    assert code == 2
    assert f"--config {folder}" in output


@pytest.mark.parametrize(
    ("tests", "message"),
    [
        (
            "- {event: {}, expct: {}}",
            "integrations/hook.test.yaml:2:17: unknown key 'tests.0.expct' (did you mean 'expect'?)",
        ),
        ("- {expect: {}}", "integrations/hook.test.yaml:2:5: the key 'tests.0.event' is missing"),
        (
            "- {event: {}, source: wep}",
            "integrations/hook.test.yaml:2:25: no source is called 'wep' (did you mean 'web'?)",
        ),
    ],
)
def test_mistakes_in_tests(folder, tests, message):
    """A test that cannot be run is a mistake with its place, and exit code 2."""
    write(tests)
    code, output = run()
    assert output.splitlines()[0] == message
    assert code == 2
    assert CliRunner().invoke(main, ["check"]).output.splitlines()[0] == message


def test_no_variable_is_needed(folder, monkeypatch):
    """Tests run where nothing is set, not even what turnout.yaml wants."""
    Path("turnout.yaml").write_text("broker: {security: SASL_SSL, username: u, password: '${NO_SUCH_PASSWORD}'}\n")
    monkeypatch.delenv("NO_SUCH_PASSWORD", raising=False)
    write(f"- {{event: {PURCHASE}, expect: {{rule: purchase}}}}")
    assert run()[1].startswith("1 passed")


def test_a_test_file_without_its_integration(folder):
    """A test file that belongs to no integration is a mistake."""
    write("- {event: {}}", "integrations/hok.test.yaml")
    assert run() == (
        2,
        "integrations/hok.test.yaml: no integration is called 'hok' (did you mean 'hook'?)\n1 error\n",
    )


def test_hundreds_in_a_second(folder):
    """Five hundred tests of a preset run in a second, without the start of the process."""
    shutil.rmtree("integrations")
    Path("integrations").mkdir()
    Path("integrations/ga4.yaml").write_text(
        "{integration: ga4, forwarder: ga4, preset: ga4, settings: {measurement_id: G-1, api_secret: '${S}'}}"
    )
    write(f"- {{event: {PURCHASE}, expect: {{rule: Order Completed}}}}\n" * 500, "integrations/ga4.test.yaml")
    began = time.process_time()
    assert run()[1].startswith("500 passed")
    assert time.process_time() - began < 3


def test_rewriting_keeps_text_text():
    """What is written reads back as it was, also text that looks like something else."""
    value = {
        "a": ["NO", "12:30", "1e3", "0o17", "2026-01-01", "", " x ", "a\nb", "#", "é", "null", "~"],
        "b": [None, 1.5, {}],
    }
    for text in ("a:\n  - x: 1\n", "a:\n  - {x: 1, y: 2}\n", "a:\n  - x: 1\n    y:\n      - 2\n\n    # end\n"):
        assert Document.parse(replace_value(text, ("a", 0, "y"), value), "t").data == {"a": [{"x": 1, "y": value}]}


SOURCE = """
source: web
rules:
  - {name: rename, when: event = "order_done", map: {event: Order Completed, properties: {old: null}}}
  - {name: noise, when: event = "Noise", drop: true}
  - {name: cast, when: event = "Cast", map: {properties: {total: {"@number": $.properties.total}}}}
"""


def test_rules_of_a_source(folder):
    """A source's tests show the event as the integrations get it, dropped or rejected; coverage counts them too."""
    Path("sources/web.yaml").write_text(SOURCE.lstrip())
    write(
        """
        - event: {type: track, event: order_done, userId: u, properties: {old: 1, x: 2}}
          expect: {outcome: kept, event: {type: track, event: Order Completed, userId: u, properties: {x: 2}}}
        - {event: {type: track, event: Noise, userId: u}, expect: {outcome: filtered}}
        - {event: {type: track, userId: u}, expect: {outcome: rejected}}
        - {event: {type: track, event: order_done, userId: 7}}
        """,
        "sources/web.test.yaml",
    )
    assert [each["passed"] for each in run_json()["tests"]] == [True, True, True, False]
    assert run("--update")[0] == 0
    assert run()[1].startswith("4 passed")
    assert Document.read(Path("sources/web.test.yaml")).data["tests"][3]["expect"] == {
        "event": {"type": "track", "event": "Order Completed", "userId": "7", "properties": {}}
    }
    assert "  5: the rule cast\n  5: @number\n" in run("--coverage", "sources/web.test.yaml")[1]


def test_an_integrations_test_goes_through_its_source(folder):
    """A test that names a source gets its event mended first, or dropped."""
    Path("sources/web.yaml").write_text(SOURCE.lstrip())
    write(
        """
        - {event: {type: track, event: order_done, userId: u}, source: web, expect: {rule: purchase}}
        - {event: {type: track, event: order_done, userId: u}, expect: {rule: null}}
        - {event: {type: track, event: Noise, userId: u}, source: web, expect: {outcome: filtered, rule: null}}
        """
    )
    assert run()[1].startswith("3 passed")


def test_a_webhooks_rules(folder):
    """Each event made from a delivery is a separate result; unmappable deliveries are rejected."""
    Path("sources/hook.yaml").write_text(
        "source: hook\nwrite_keys: ['${HOOK_TOKEN}']\nwebhook: {}\ncontext: {via: hook}\nmatch: all\n"
        "rules:\n"
        "  - {name: who, map: {type: identify, userId: $.body.user, messageId: $.body.id}}\n"
        "  - {name: what, when: exists(body.event), map: {type: track, userId: $.body.user, event: $.body.event}}\n"
    )
    write(
        """
        - event: {headers: {}, body: {id: d, user: u, event: x}}
          expect:
            - event: {type: identify, userId: u, messageId: 'd:who', context: {via: hook}}
            - event: {type: track, userId: u, event: x, context: {via: hook}}
        - event: {body: {}}
          expect: {outcome: rejected, reason: 'userId: userId or anonymousId is required'}
        """,
        "sources/hook.test.yaml",
    )
    code, output = run("--coverage")
    assert "2 passed, 0 failed" in output, output
    assert "sources/hook.yaml: all reached" in output
    assert code == 0


def test_the_plan_of_a_source(folder):
    """A source's tests show what its plan notes, omits, quarantines and rejects."""
    Path("plans").mkdir()
    plan = """
        plan: s
        on_violation: omit
        unplanned_events: reject
        events:
          - {event: A, properties: {properties: {n: {type: integer}}}}
          - {event: B, on_violation: quarantine, properties: {required: [n]}}
        """
    Path("plans/s.yaml").write_text(textwrap.dedent(plan).lstrip())
    Path("sources/web.yaml").write_text("source: web\nplan: s\n")
    write(
        """
        - event: {type: track, event: A, userId: u, properties: {n: x}}
          expect:
            event: {type: track, event: A, userId: u, properties: {}}
            notes: ["plan: s: A: $.properties.n type"]
        - event: {type: track, event: B, userId: u}
          expect: {outcome: quarantined, reason: "plan: s: B: $.properties.n required"}
        - event: {type: track, event: C, userId: u}
          expect: {outcome: rejected, reason: "s: track: unplanned_event"}
        - {event: {type: track, event: A, userId: u}, expect: {notes: ["plan: s: A: $.properties.n type"]}}
        """,
        "sources/web.test.yaml",
    )
    assert [each["passed"] for each in run_json()["tests"]] == [True, True, True, False]
