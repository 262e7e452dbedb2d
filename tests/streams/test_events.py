import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams import events

CASES = [
    json.loads(line) for line in (Path(__file__).parents[1] / "cases" / "events.jsonl").read_text().splitlines() if line
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_event_spec(case):
    """Each case passes with the key it says, or is refused with the code and field it says."""
    text = case["text"] if "text" in case else json.dumps(case["event"])
    if "refused" in case:
        with pytest.raises(events.EventError) as caught:
            events.parse(text.encode("utf-8", "surrogatepass"))
        assert [caught.value.code, caught.value.field] == case["refused"]
    else:
        assert events.key(events.parse(text.encode())).decode() == case["key"]


def test_an_undeclared_key_is_kept():
    """Checking an event takes nothing away from it."""
    event = {"type": "page", "anonymousId": "a", "own": {"deep": [1, None]}, "properties": {"a.b": {"": 1}}}
    assert events.check(json.loads(json.dumps(event))) == event


COMPLETED = {
    "traits in the context": (
        {"type": "identify", "context": {"traits": {"plan": "pro"}}},
        {"traits": {"plan": "pro"}},
    ),
    "traits of its own": ({"type": "identify", "traits": {"a": 1}, "context": {"traits": {"b": 2}}}, {}),
    "traits of who does something": ({"type": "page", "context": {"traits": {"plan": "pro"}}}, {}),
    "traits that are none": ({"type": "identify", "context": {"traits": "pro"}}, {}),
    "no context": ({"type": "identify", "context": None}, {}),
    "the time elsewhere": (
        {"type": "page", "originalTimestamp": "2026-01-02T03:04:05Z"},
        {"timestamp": "2026-01-02T03:04:05Z"},
    ),
    "a time of its own": (
        {"type": "page", "timestamp": "2026-01-01T00:00:00Z", "originalTimestamp": "2026-01-02T03:04:05Z"},
        {},
    ),
}


@pytest.mark.parametrize(("event", "added"), COMPLETED.values(), ids=COMPLETED)
def test_what_rudderstacks_sdks_have_elsewhere(event: dict[str, Any], added: dict[str, Any]):
    """It is put where the spec has it, unless something is there already."""
    event = {**event, "userId": "u"}
    assert events.parse(orjson.dumps(event)) == event | added


@pytest.mark.parametrize("depth", [1_500, 100_000])
def test_deep_nesting_is_refused_and_no_crash(depth: int):
    """Nesting beyond all use is an error like any other."""
    text = b'{"type":"page","userId":"u","properties":' + b'{"a":' * depth + b"1" + b"}" * depth + b"}"
    with pytest.raises(events.EventError):
        events.parse(text)


def test_an_error_quotes_no_value():
    """What an event holds appears in no error, since errors are logged and kept."""
    with pytest.raises(events.EventError) as caught:
        events.check({"type": "secret-type", "userId": "u"})
    assert "secret" not in str(caught.value)
    with pytest.raises(events.EventError) as caught:
        events.check({"type": "track", "event": "e", "userId": {"email": "secret@example.com"}})
    assert "secret" not in str(caught.value)


def test_a_made_message_id_depends_on_content_alone():
    """The same event sent twice at different times gets the same id, and another event another."""
    one = {"type": "page", "userId": "u", "receivedAt": "2026-01-01T00:00:00Z", "properties": {"a": 1, "b": 2}}
    same = {"properties": {"b": 2, "a": 1}, "type": "page", "userId": "u", "sentAt": "2026-01-02T00:00:00Z"}
    assert events.message_id(one) == events.message_id(same)
    assert events.message_id(one) != events.message_id({**one, "userId": "v"})
    assert events.message_id({**one, "messageId": "m"}) == "m"


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
        event = events.check(data)
    except events.EventError:
        return
    assert events.key(event)
    assert events.message_id(event)
