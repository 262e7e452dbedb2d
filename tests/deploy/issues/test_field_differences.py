"""What failed events have in common."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.issues.field_differences import MAX_DIFFERENCES, MIN_SCORE, find_differences, form_of


def events(number: int, **fields: Any) -> list[dict[str, Any]]:
    """Orders that differ as real ones do; fields may be functions of the number."""
    return [
        {
            "event": "Order Completed",
            "messageId": f"m-{id(fields)}-{each}",
            "receivedAt": "2026-11-28T14:02:47Z",
            "properties": {
                "order_id": f"A-{each}",
                "currency": random.Random(each).choice(["EUR", "EUR", "CHF"]),
                **{name: make(each) if callable(make) else make for name, make in fields.items()},
            },
        }
        for each in range(number)
    ]


DELIVERED = events(50, total=lambda each: 10.5 + each, items=[{"sku": "a"}])


@pytest.mark.parametrize(
    ("fields", "path", "kind", "feature"),
    [
        ({"total": "149,90"}, "properties.total", "form", "text with a comma"),
        ({"total": "149.90"}, "properties.total", "form", "number as text"),
        ({"total": "EUR 12.00"}, "properties.total", "form", "number with a unit"),
        ({"total": ""}, "properties.total", "form", "empty text"),
        ({"total": None}, "properties.total", "form", "null"),
        ({"total": 0}, "properties.total", "form", "zero"),
        ({"total": lambda each: -1.5 - each}, "properties.total", "form", "negative number"),
        ({"total": lambda each: ["x", "1,5"][each % 2]}, "properties.total", "type", "text"),
        ({}, "properties.total", "missing", ""),
        ({"total": lambda each: 1e6 + each}, "properties.total", "range", ""),
        ({"total": 20.0, "app": "2026.48"}, "properties.app", "present", ""),
        ({"total": 20.5, "items": []}, "properties.items", "form", "empty list"),
        ({"total": 20.5, "items": [{"sku": 1}]}, "properties.items[].sku", "form", "number"),
        ({"total": 20.5, "items": [{"sku": "b" * 900}]}, "properties.items[].sku", "length", ""),
    ],
)
def test_cause_is_first(fields, path, kind, feature):
    """The field that differs is first, with its kind, in all failed events and in no delivered one."""
    failed = events(12, **({"items": [{"sku": "a"}]} | fields))
    first = find_differences(failed, DELIVERED)[0]
    assert (first.path, first.kind, first.feature) == (path, kind, feature)
    assert (first.failed, first.failed_of, first.delivered, first.delivered_of) == (12, 12, 0, 50)


def test_examples_and_what_is_usual():
    """A difference has examples of both sides, and the most frequent form of delivered events."""
    (found, *_) = find_differences(events(12, total="149,90", items=[{"sku": "a"}]), DELIVERED)
    assert found.values == ["149,90"]
    assert (found.usual, found.usual_count) == ("number", 50)
    assert found.usual_values == [10.5, 11.5, 12.5]


def test_constant_value():
    """A value that all failed events share and few delivered ones have is reported, also a version beside others."""
    delivered = events(50, version=lambda each: f"2026.{each % 5}")
    found = find_differences(events(12, version="2026.4"), delivered)
    assert [(it.path, it.kind, it.failed, it.delivered, it.values) for it in found] == [
        ("properties.version", "value", 12, 10, ["2026.4"])
    ]


def test_better_separation_is_first():
    """A feature that no delivered event has comes before one that some have."""
    delivered = events(50, total=5.5, version=lambda each: ["new", "old", "old"][each % 3])
    found = find_differences(events(12, total="5,5", version="new"), delivered)
    assert [it.path for it in found] == ["properties.total", "properties.version"]


def test_what_is_the_same_is_not_reported():
    """Events that do not differ give nothing, nor do ids, times and what all have in common."""
    assert find_differences(events(12, total=lambda each: 20.5 + each, items=[{"sku": "a"}]), DELIVERED) == []


def test_one_event_shares_no_values():
    """The values of a single event are not reported; its forms are."""
    failed = events(1, total="1,5", coupon="x")
    assert {it.kind for it in find_differences(failed, events(50, total=1.5, coupon=str))} == {"form"}


def test_parts_of_a_missing_object_are_not_reported():
    """Of a missing or another object, only the object itself is reported."""
    delivered = events(20, buyer={"name": {"first": "x"}, "age": 1})
    assert [it.path for it in find_differences(events(5), delivered)] == ["properties.buyer"]
    assert [it.path for it in find_differences(delivered, events(5))] == ["properties.buyer"]
    assert [it.path for it in find_differences(events(5, buyer="x"), delivered)] == ["properties.buyer"]


@pytest.mark.parametrize(("failed", "delivered"), [([], DELIVERED), (DELIVERED, []), ([], [])])
def test_nothing_to_compare(failed, delivered):
    """Without events on both sides there is no difference."""
    assert find_differences(failed, delivered) == []


def test_large_events_are_bounded():
    """Thousands of fields, deep nesting and long texts take bounded time and give few short results."""
    deep: Any = "x"
    for _ in range(500):
        deep = {"d": [deep]}
    wide = {f"p{each}": "y" * 32_000 for each in range(10_000)}
    found = find_differences([wide | {"deep": deep, "k" * 5_000: 1}] * 5, [{"a": 1}] * 5)
    assert 0 < len(found) <= MAX_DIFFERENCES
    assert len(str(found)) < 20_000


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
EVENTS = st.lists(st.dictionaries(st.text(max_size=3), JSON, max_size=4), max_size=6)


@settings(max_examples=150, deadline=None)
@given(EVENTS, EVENTS)
def test_any_events(failed, delivered):
    """Any JSON gives differences whose counts are possible, and none against itself."""
    for it in find_differences(failed, delivered):
        assert 0 <= it.failed <= it.failed_of == len(failed)
        assert 0 <= it.delivered <= it.delivered_of == len(delivered)
        assert it.score >= MIN_SCORE
    assert find_differences(failed, failed) == []


@pytest.mark.parametrize(
    ("value", "form"),
    [
        ("1.089,00", "text with a comma"),
        ("lena@nordlicht.example", "e-mail address"),
        ("https://nordlicht.example/a", "URL"),
        ("2026-11-28", "date"),
        ("N/A", "text that means nothing"),
        (" x", "text with spaces around it"),
        ("Lamp, blue", "text"),
        (True, "true or false"),
        ({}, "empty object"),
        ([1], "list"),
    ],
)
def test_forms(value, form):
    """The form of a value is named in words."""
    assert form_of(value) == form
