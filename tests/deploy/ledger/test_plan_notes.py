"""Notes of tracking plans in words, with the line of the plan."""

from typing import Any

import pytest

from deploy.ledger.plan_notes import explain_note
from streams.steps.plan import Plan, PlanStep
from transforms.documents import Document

PLAN = """plan: shop
unplanned_events: warn
definitions:
  money: {type: number, minimum: 0}
events:
  - event: Order
    properties:
      required: [id]
      properties:
        total: {$ref: '#/definitions/money'}
        tax: {type: [number, "null"]}
        kind:
          enum: [a, b]
        lines: {type: array, items: {type: object, properties: {price: {type: number}}}}
        id: {type: integer}
  - type: page
    context: {type: object, properties: {ip: {type: string}}}
"""
DOCUMENT = Document.parse(PLAN, "/etc/turnout/plans/shop.yaml")
OTHER = Document.parse("source: web\nplan: shop\n", "/etc/turnout/sources/web.yaml")


def noted(event: dict[str, Any]) -> str:
    """Return the real step's notes about an event."""
    notes: list[str] = []
    PlanStep(Plan.model_validate(DOCUMENT.data))(event, lambda _, detail: notes.append(detail))
    (detail,) = notes
    return detail


@pytest.mark.parametrize(
    ("properties", "text", "line"),
    [
        ({"total": "x"}, "properties.total is text, not a number", 10),
        ({"total": True}, "properties.total is a boolean, not a number", 10),
        ({"total": -1}, "properties.total violates minimum: 0", 10),
        ({"tax": "x"}, "properties.tax is text, not a number or null", 11),
        ({"kind": "c"}, 'properties.kind violates enum: ["a", "b"]', 12),
        ({"lines": [{"price": 1}, {"price": None}]}, "properties.lines[1].price is null, not a number", 14),
        ({"more": 1}, "properties.more is not planned", 7),
        ({"tax": {}, "kind": 1}, "properties.tax is an object, not a number or null; properties.kind violates", 11),
    ],
)
def test_a_violation_in_words(properties: dict[str, Any], text: str, line: int):
    """An explained note has the value's type, the schema's requirement and its line, even behind a reference."""
    event = {"type": "track", "event": "Order", "properties": {"id": 1, **properties}}
    explained = explain_note(noted(event), [OTHER, DOCUMENT], event)
    assert explained is not None
    assert explained.text.startswith(f"shop: {text}")
    assert explained.where == f"/etc/turnout/plans/shop.yaml:{line}"


def test_a_missing_property_and_an_unplanned_event():
    """Neither has a value."""
    event: dict[str, Any] = {"type": "track", "event": "Order", "properties": {}}
    assert explain_note(noted(event), [DOCUMENT], event) == (
        "shop: properties.id is missing",
        "/etc/turnout/plans/shop.yaml:7",
    )
    event = {"type": "track", "event": "Refund"}
    assert explain_note(noted(event), [DOCUMENT], None) == (
        "shop: the event is not planned",
        "/etc/turnout/plans/shop.yaml:1",
    )


def test_without_the_event_or_the_plan():
    """Without the event its types are left out. A note of a missing plan is unchanged."""
    explained = explain_note("shop: Order: $.properties.total type", [DOCUMENT], None)
    assert explained == ("shop: properties.total is not a number", "/etc/turnout/plans/shop.yaml:10")
    explained = explain_note("shop: Order: $.properties.* type, 3 more", [DOCUMENT], None)
    assert explained is not None
    assert explained.text == "shop: $.properties.* type; 3 more"
    assert explain_note("gone: Order: $.properties.total type", [DOCUMENT], None) is None
    assert explain_note("anything", [DOCUMENT], None) is None
