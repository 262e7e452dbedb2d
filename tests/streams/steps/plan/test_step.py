"""Events held against a tracking plan."""

import copy
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.events import EventError
from streams.records.outcomes import Outcome
from streams.steps.plan import Plan, PlanStep
from streams.steps.plan.step import MAX_CHECKED_VALUES, compile_schema, without
from streams.steps.step import Blocked
from transforms.documents import Document

DATA = Document.read(Path("tests/cases/plans.yaml").resolve()).data
SHOP = DATA["plans"]["shop"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab1", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=12,
)


def make_step(entry: dict[str, Any] | None = None, **options: Any) -> PlanStep:
    """Return the shop's plan with options, and with options for its first entry."""
    first, *others = SHOP["events"]
    return PlanStep(Plan.model_validate({**SHOP, **options, "events": [{**first, **(entry or {})}, *others]}))


def make_plan(schema: Any, **options: Any) -> PlanStep:
    return PlanStep(Plan.model_validate({"plan": "p", "events": [{"event": "e", "properties": schema}], **options}))


def event(properties: Any) -> dict[str, Any]:
    return {"type": "track", "event": "e", "userId": "u", "properties": properties}


@pytest.mark.parametrize("case", [pytest.param(case, id=case["does"]) for case in DATA["cases"]])
def test_plan(case):
    """An event continues, with or without omitted values, or is quarantined or rejected; the input is unchanged."""
    step = make_step(case.get("entry"), **case.get("options", {}))
    given, notes = copy.deepcopy(case["event"]), []

    def take():
        return step(given, lambda *note: notes.append(note))

    if detail := case.get("rejects"):
        with pytest.raises(EventError) as caught:
            take()
        assert (caught.value.code, str(caught.value)) == ("plan", detail)
    elif detail := case.get("quarantines"):
        assert take() == Blocked(Outcome.QUARANTINED, "plan", detail)
    else:
        assert take() == case.get("gives", case["event"])
    assert notes == ([("plan", case["notes"])] if "notes" in case else [])
    assert given == case["event"]


@given(JSON.filter(lambda value: isinstance(value, dict)))
def test_what_is_left_after_omitting_violates_no_more_than_by_lacking_something(properties):
    """Without required properties, what an event keeps is as planned, whatever it was."""
    schema = {
        "properties": {
            "a": {"type": "integer", "minimum": 0},
            "b": {"type": "array", "items": {"anyOf": [{"type": "string"}, {"properties": {"a": {"type": "null"}}}]}},
            "c": {"additionalProperties": False, "properties": {"a": {"type": "array", "items": {"type": "array"}}}},
        }
    }
    step = make_plan(schema, on_violation="omit", unplanned_properties="omit")
    mended = step(event(properties), lambda *_: None)
    assert isinstance(mended, dict)
    assert step(mended, lambda *note: pytest.fail(str(note))) == mended


def test_a_large_event_is_not_looked_at_closely():
    """With too many values to check, one violation is reported; it is not removable, so `omit` quarantines."""
    many = {"items": ["x"] * (MAX_CHECKED_VALUES + 1)}
    schema = {"properties": {"items": {"items": {"type": "integer"}}}}
    held = make_plan(schema, on_violation="omit")(event(many), lambda *_: None)
    assert held == Blocked(Outcome.QUARANTINED, "plan", "p: e: $.properties.items[0] type")
    notes: list[Any] = []
    make_plan(schema)(event(many), lambda *note: notes.append(note))
    assert notes == [("plan", "p: e: $.properties.items[0] type")]


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"pattern": "^(a+)+$"}, "a" * 200_000 + "b"),
        ({"format": "email"}, "a@" * 100_000),
        ({"uniqueItems": True}, [{"a": n} for n in range(50_000)]),
    ],
)
def test_hostile_values_cost_linear_time(schema, value):
    """A pattern prone to backtracking, a format and a list take a fraction of a second."""
    step = make_plan({"properties": {"a": schema}})
    began = time.process_time()
    step(event({"a": value}), lambda *_: None)
    assert time.process_time() - began < 3


def test_deep_events_meet_recursive_schemas():
    """JSON at the maximum depth is checked, and a violation at the bottom is found and removed."""
    deep: dict[str, Any] = {"x": 1}
    for _ in range(1000):
        deep = {"c": deep}
    node = {"properties": {"c": {"$ref": "#/definitions/node"}}, "additionalProperties": False}
    plan = Plan.model_validate(
        {
            "plan": "p",
            "on_violation": "omit",
            "definitions": {"node": node},
            "events": [{"event": "e", "properties": {"$ref": "#/definitions/node"}}],
        }
    )
    inner = PlanStep(plan)(event(deep), lambda *_: None)["properties"]
    for _ in range(1000):
        inner = inner["c"]
    assert inner == {}


@pytest.mark.parametrize("schema", [{"type": "string"}, {"items": {"const": 1}}, {"uniqueItems": True}])
@pytest.mark.parametrize("on_violation", ["warn", "omit", "quarantine"])
def test_what_is_wrong_and_too_deep_to_be_told_is_one_violation(schema, on_violation):
    """It ends no process: the violation has no path, and `omit` quarantines."""
    deep: Any = [1]
    for _ in range(450):
        deep = [{"a": deep}]
    notes: list[Any] = []
    step = make_plan({"properties": {"a": schema}}, on_violation=on_violation)
    taken = step(event({"a": [deep, deep]}), lambda *note: notes.append(note))
    if on_violation == "warn":
        assert notes == [("plan", "p: e: $.properties too_deep")]
    else:
        assert taken == Blocked(Outcome.QUARANTINED, "plan", "p: e: $.properties too_deep")


def test_nothing_is_fetched():
    """A reference to elsewhere is refused when the schema is compiled, not when an event comes."""
    for reference in ("https://127.0.0.1/schema.json", "file:///etc/passwd", "other.json"):
        with pytest.raises(ValueError, match=r"Retrieval is disabled|No base URI"):
            compile_schema({"properties": {"a": {"$ref": reference}}})


def test_without_copies_what_changes_alone():
    """What is not on the way to a removed value is the same object."""
    given = {"properties": {"a": {"x": 1, "y": 2}, "b": {"z": [1, 2]}}, "context": {}}
    mended = without(given, [("properties", "a", "x")])
    assert mended == {"properties": {"a": {"y": 2}, "b": {"z": [1, 2]}}, "context": {}}
    assert mended["properties"]["b"] is given["properties"]["b"]
    assert given["properties"]["a"] == {"x": 1, "y": 2}
