"""Drafts are tried, and compared on events, as `check`, `explain`, `test` and `diff` would."""

import json
import shutil
from pathlib import Path

import pytest

from deploy.config.configuration import read_configuration
from deploy.dryrun.recorded_events import RecordedEvent
from deploy.editing.comparison import CancelledError, compare_events
from deploy.editing.drafts import check_drafts
from deploy.editing.trial import TryEvent, try_draft

EXAMPLE = Path("deploy/example").resolve()
HOOK = "integrations/webhook.yaml"
ORDER = {
    "type": "track", "event": "Order Completed", "messageId": "m-1", "userId": "u-1",
    "properties": {"order_id": "o-1", "total": 12.5, "currency": "EUR", "products": []},
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """A copy of the example's folder."""
    return Path(shutil.copytree(EXAMPLE, tmp_path / "example"))


def hook(rules, tests=""):
    """A file of a webhook with rules."""
    return f"integration: webhook\nforwarder: webhook\nsettings: {{url: 'https://hooks.example/in'}}\nrules:\n{rules}{tests}"


def recorded(*totals):
    """Events of orders, as they are read from Kafka."""
    events = [
        ORDER | {"messageId": f"m-{total}", "properties": {**ORDER["properties"], "total": total}} for total in totals
    ]
    return [RecordedEvent(f"t:0:{n}", json.dumps(each).encode(), None, 0) for n, each in enumerate(events)]


def test_a_draft_is_tried_on_an_event_and_its_tests(folder):
    """The request is that of the draft, its tests are run, and the file on the disk stays as it is."""
    before = (folder / HOOK).read_bytes()
    tests = "tests:\n  - {event: {type: track, event: x, userId: u}, expect: {payload: {kind: y}}}\n"
    trial = try_draft(folder, HOOK, hook("  - map: {kind: $.event}\n", tests), TryEvent(json.dumps(ORDER).encode()))
    [account] = trial.explanation["integrations"]
    assert account["deliveries"][0]["request"]["url"] == "https://hooks.example/in"
    assert account["deliveries"][0]["payload"] == {"kind": "Order Completed"}
    [tested] = trial.data()["tests"]
    assert (tested["passed"], tested["differences"]) == (
        False, [{"field": "payload.kind", "expected": "y", "actual": "x"}],
    )  # fmt: skip
    assert (folder / HOOK).read_bytes() == before


def test_errors_have_their_place_in_the_draft(folder):
    """A message of `check` has the line and column of the draft, and those of this file come first."""
    trial = try_draft(folder, HOOK, hook("  - map: {kind: {'@nmber': $.a}}\n"))
    assert trial.configuration is None
    first = trial.messages[0]
    assert (first["file"], first["line"], first["kind"]) == (HOOK, 5, "error")
    assert "@number" in (first["hint"] or "")


def test_a_draft_of_a_source_is_tried_for_all_integrations(folder):
    """A source's draft shows the event after its steps, and what every integration makes of it."""
    text = (folder / "sources/web.yaml").read_text() + (
        'rules:\n  - {name: rename, when: event = "Order Completed", map: {event: Paid}}\n'
    )
    trial = try_draft(folder, "sources/web.yaml", text, TryEvent(json.dumps(ORDER).encode(), "web"))
    assert trial.messages == [] or trial.configuration is not None
    assert trial.explanation["event"]["event"] == "Paid"
    assert len(trial.explanation["integrations"]) == 3


def test_an_obvious_fix_shows_what_else_it_changes(folder):
    """Removing points repairs "1.499,90", and the comparison says that it changes 149.9 as well."""
    path = folder / HOOK
    path.write_text(hook('  - map: {total: {"@number": $.properties.total}}\n'))
    fix = 'pattern: ".", replacement: "", pattern2: ",", replacement2: "."'
    draft = hook(f'  - map: {{total: {{"@number": {{"@replace": {{value: $.properties.total, {fix}}}}}}}}}\n')
    new = check_drafts(folder, {path: draft}, path).configuration
    result = compare_events(read_configuration(folder), new, recorded("1.499,90", 149.9, 20, 30), ["webhook"])
    assert (result["events"], result["same"], result["changed"]) == (4, 2, 2)
    shown = {(it["kind"], json.dumps(it["fields"])) for it in result["changes"]}
    assert shown == {
        ("added", json.dumps([{"field": "total", "after": 1499.9}])),
        ("changed", json.dumps([{"field": "total", "before": 149.9, "after": 1499}])),
    }


def test_a_newer_comparison_ends_the_one_before(folder):
    """A comparison looks after each event whether it is still wanted."""
    configuration = read_configuration(folder)
    with pytest.raises(CancelledError):
        compare_events(configuration, configuration, recorded(1, 2), ["webhook"], lambda: True)
