import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams import events
from streams.records.event import Origin

HERE = Origin("events", 0, 0)
CASES = [
    json.loads(line) for line in (Path(__file__).parents[1] / "cases" / "events.jsonl").read_text().splitlines() if line
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_event_spec(case):
    """Each case passes with the key it says, or is refused with the code and field it says."""
    text = case["text"] if "text" in case else json.dumps(case["event"])
    if "refused" in case:
        with pytest.raises(events.EventError) as caught:
            events.parse(text.encode("utf-8", "surrogatepass"), HERE)
        assert [caught.value.code, caught.value.field] == case["refused"]
    else:
        assert events.key(events.parse(text.encode(), HERE)).decode() == case["key"]


def test_an_undeclared_key_is_kept():
    """Checking an event takes nothing away from it."""
    event = {"type": "page", "anonymousId": "a", "own": {"deep": [1, None]}, "properties": {"a.b": {"": 1}}}
    assert events.normalize(json.loads(json.dumps(event))) == event


COMPLETED = {
    "traits in the context": (
        {"type": "identify", "context": {"traits": {"plan": "pro"}}},
        {"traits": {"plan": "pro"}},
    ),
    "traits of its own": ({"type": "identify", "traits": {"a": 1}, "context": {"traits": {"b": 2}}}, {}),
    "traits of who does something": ({"type": "page", "context": {"traits": {"plan": "pro"}}}, {}),
    "traits that are none": ({"type": "identify", "context": {"traits": "pro"}}, {}),
    "no context": ({"type": "identify"}, {}),
    "the time elsewhere": (
        {"type": "page", "originalTimestamp": "2026-01-02T03:04:05.000Z"},
        {"timestamp": "2026-01-02T03:04:05.000Z"},
    ),
    "a time of its own": (
        {"type": "page", "timestamp": "2026-01-01T00:00:00.000Z", "originalTimestamp": "2026-01-02T03:04:05.000Z"},
        {},
    ),
}


@pytest.mark.parametrize(("event", "added"), COMPLETED.values(), ids=COMPLETED)
def test_what_rudderstacks_sdks_have_elsewhere(event: dict[str, Any], added: dict[str, Any]):
    """It is put where the spec has it, unless something is there already."""
    event = {**event, "userId": "u"}
    assert events.normalize(json.loads(json.dumps(event))) == event | added


@pytest.mark.parametrize("depth", [1_500, 100_000])
def test_deep_nesting_is_refused_and_no_crash(depth: int):
    """Nesting beyond all use is an error like any other."""
    text = b'{"type":"page","userId":"u","properties":' + b'{"a":' * depth + b"1" + b"}" * depth + b"}"
    with pytest.raises(events.EventError):
        events.parse(text, HERE)


def test_an_error_quotes_no_value():
    """What an event holds appears in no error, since errors are logged and kept."""
    with pytest.raises(events.EventError) as caught:
        events.normalize({"type": "secret-type", "userId": "u"})
    assert "secret" not in str(caught.value)
    with pytest.raises(events.EventError) as caught:
        events.normalize({"type": "track", "event": "e", "userId": {"email": "secret@example.com"}})
    assert "secret" not in str(caught.value)


def test_a_made_message_id_of_an_event_with_a_time_depends_on_content_alone():
    """The same event sent twice at different times gets the same id, and another event another."""
    happened = {"timestamp": "2026-01-01T00:00:00.000Z"}
    one = {"type": "page", "userId": "u", "receivedAt": "2026-01-01T00:00:00Z", "properties": {"a": 1, "b": 2}}
    same = {"properties": {"b": 2, "a": 1}, "type": "page", "userId": "u", "sentAt": "2026-01-02T00:00:00Z"}
    made = events.make_message_id(one | happened, "1")
    assert made == events.make_message_id(same | happened, "2")
    assert made != events.make_message_id({**one, **happened, "userId": "v"}, "1")


def test_a_made_message_id_of_an_event_without_a_time_depends_on_its_place_alone():
    """Two equal events without a time get two ids, and the same record the same id whenever it is read."""
    text = b'{"type":"page","userId":"u"}'
    ids = [events.parse(text, Origin("t", 0, offset))["messageId"] for offset in (1, 2, 1)]
    assert ids[0] == ids[2] != ids[1]
    given = b'{"type":"page","userId":"u","messageId":"m"}'
    assert events.parse(given, HERE)["messageId"] == "m"


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
names = st.sampled_from(["type", "event", "userId", "anonymousId", "messageId", "timestamp", "properties", "context"])


@given(st.dictionaries(names, json_values | st.sampled_from([*events.TYPES])))
def test_any_json_passes_or_is_refused_and_never_crashes(data):
    """Whatever JSON comes, the answer is an event with a key, or EventError."""
    try:
        event = events.normalize(data)
    except events.EventError:
        return
    assert events.key(event)
    assert events.make_message_id(event, "")
