"""The normal form of events: repairs, notes and rejections."""

import json
import os
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from streams import events
from streams.records.event import Origin

FILE = Path(__file__).parents[1] / "cases" / "normal_form.jsonl"
CASES = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
BASE = {"type": "page", "anonymousId": "a-000000001"}


def read(case: dict[str, Any]) -> Any:
    """Read a case's event as a record is read."""
    text = case["text"] if "text" in case else json.dumps(BASE | case["event"])
    return events.read(text.encode(), events.DEPTH)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_normal_form(case):
    """Each case has the normal form and notes that it says, or is refused with the code and field that it says."""
    notes: list[list[str]] = []
    if "refused" in case:
        with pytest.raises(events.EventError) as caught:
            events.normalize(read(case))
        assert [caught.value.code, caught.value.field] == case["refused"]
        return
    normal = events.normalize(read(case), lambda *noted: notes.append(list(noted)))
    expected = {name: value for name, value in (BASE | case["normal"]).items() if value is not None}
    assert normal == expected
    assert [type(value) for value in normal.values()] == [type(normal[name]) for name in normal]
    assert notes == case.get("notes", [])


@pytest.mark.parametrize("case", [case for case in CASES if "normal" in case], ids=lambda case: case["name"])
def test_normalizing_twice_changes_nothing(case):
    """An event in normal form stays as it is, and nothing is noted again."""
    once = events.normalize(read(case))
    notes: list[tuple[str, str]] = []
    assert events.normalize(deepcopy(once), lambda *noted: notes.append(noted)) == once
    assert not notes


@pytest.fixture(params=["Pacific/Kiritimati", "America/Los_Angeles"])
def local_zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """Have this process live in another time zone."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    os.environ.setdefault("TZ", "UTC")
    time.tzset()


@pytest.mark.usefixtures("local_zone")
def test_the_time_zone_of_the_machine_does_not_matter():
    """Each case gives the same in any time zone."""
    for case in CASES:
        if "normal" in case:
            expected = {name: value for name, value in (BASE | case["normal"]).items() if value is not None}
            assert events.normalize(read(case)) == expected


def test_the_same_record_gives_the_same_event():
    """A record that is read again has the same normal form and messageId."""
    for case in CASES:
        if "normal" not in case:
            continue
        text = case.get("text") or json.dumps(BASE | case["event"])
        first, again = (events.parse(text.encode(), Origin("turnout.events", 3, 17)) for _ in range(2))
        assert first == again
