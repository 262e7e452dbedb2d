"""`turnout diff`: which events come out otherwise with new rules."""

import gzip
import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy.cli.main import main

EXAMPLE = Path("deploy/example").resolve()


def order(number, **properties):
    return {
        "type": "track",
        "event": "Order Completed",
        "userId": f"u-{number}",
        "messageId": f"m-{number}",
        "properties": {"order_id": "o-1", "total": "1.50", **properties},
    }


EVENTS = [
    order(1),
    order(2, currency="USD"),
    {**order(3), "event": "Signed Up"},
    {"type": "page", "userId": "u"},
    {"type": "page"},
]


@pytest.fixture
def folders(tmp_path):
    """Two copies of the example's folder, of which the second may be changed."""
    return [shutil.copytree(EXAMPLE, tmp_path / name) for name in ("old", "new")]


def change(folder, *replacements):
    path = folder / "integrations/webhook.yaml"
    text = path.read_text()
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)


def run(folders, *options, events=EVENTS, packed=False):
    text = "\n".join(each if isinstance(each, str) else json.dumps(each) for each in events).encode()
    path = folders[0].parent / "events.ndjson"
    path.write_bytes(gzip.compress(text) if packed else text)
    result = CliRunner().invoke(main, ["diff", *map(str, folders), "--events", str(path), *options])
    assert result.exit_code == 0, result.output
    return result.output


def run_json(folders, **options):
    return json.loads(run(folders, "--json", **options))


@pytest.mark.parametrize("packed", [False, True])
def test_same_rules_change_nothing(folders, packed):
    """Equal versions count every event as unchanged, and invalid ones separately; gzip is detected by its bytes."""
    data = run_json(folders, packed=packed)
    assert (data["events"], data["rejected"], data["changes"]) == (5, 1, [])
    assert {(each["integration"], each["rule"]): (each["same"], each["changed"]) for each in data["rules"]} == {
        ("file", "everything"): (4, 0),
        ("ga4", None): (4, 0),
        ("webhook", "purchase"): (2, 0),
        ("webhook", "sign-up"): (1, 0),
        ("webhook", None): (1, 0),
    } | {
        (each["integration"], each["rule"]): (each["same"], 0) for each in data["rules"] if each["integration"] == "ga4"
    }


def test_changed_fields(folders):
    """Events that change in the same fields are one change, with the values of the first."""
    change(folders[1], ("EUR]", "CHF]"), ("kind: purchase", "sort: purchase"))
    changes = run_json(folders)["changes"]
    assert [(each["count"], each["line"], each["fields"]) for each in changes] == [
        (
            1,
            1,
            [
                {"field": "kind", "before": "purchase"},
                {"field": "currency", "before": "EUR", "after": "CHF"},
                {"field": "sort", "after": "purchase"},
            ],
        ),
        (1, 2, [{"field": "kind", "before": "purchase"}, {"field": "sort", "after": "purchase"}]),
    ]


def test_what_is_no_longer_forwarded_comes_first(folders):
    """Lost deliveries are listed before changed payloads, however many these are."""
    change(folders[1], ("kind: purchase", "kind: order"), ('event = "Signed Up"', 'event = "Sign Up"'))
    changes = run_json(folders)["changes"]
    assert [(each["before"]["outcome"], each["after"]["outcome"], each["count"]) for each in changes] == [
        ("forwarded", "filtered", 1),
        ("forwarded", "forwarded", 2),
    ]


def test_integrations_that_come_and_go(folders):
    """An integration that only one version has makes something of nothing."""
    (folders[1] / "integrations/file.yaml").unlink()
    changes = run_json(folders)["changes"]
    assert [(each["integration"], each["count"], each["after"]["outcome"]) for each in changes] == [("file", 4, "")]


def test_all_rules_that_match_are_compared_by_name(folders):
    """With `match: all` each rule is held against itself."""
    for folder in folders:
        change(folder, ("otherwise: drop", "match: all"))
    change(folders[1], ("  - name: sign-up", "  - {name: every, map: {a: 1}}\n  - name: sign-up"))
    changes = run_json(folders)["changes"]
    assert sorted((each["before"]["rule"], each["after"]["rule"], each["count"]) for each in changes) == [
        ("", "", 1),
        ("", "every", 4),
    ]


def test_for_people(folders):
    """The counts, then each change with its fields."""
    change(folders[1], ("EUR]", "CHF]"))
    lines = [line.rstrip() for line in run(folders).splitlines()]
    assert "webhook      purchase       1        1" in lines
    assert lines[-4:] == [
        "webhook: forwarded by purchase  1 event, first in line 1",
        "  currency",
        '    - "EUR"',
        '    + "CHF"',
    ]


def test_a_file_that_is_cut_off(folders):
    """A gzip file without its end is one line, and exit code 1."""
    path = folders[0] / "events.gz"
    path.write_bytes(gzip.compress(json.dumps(order(1)).encode() * 100)[:-20])
    result = CliRunner().invoke(main, ["diff", *map(str, folders), "--events", str(path)])
    assert result.exit_code == 1
    assert result.output.startswith(f"turnout: cannot read {path}: ")
