"""Measure the check of an event against a tracking plan, in microseconds.

Run: python -m tests.benchmarks.plans
"""

from copy import deepcopy
from functools import partial
from time import process_time
from timeit import repeat
from typing import Any

from streams.steps.plan import Plan, PlanStep
from tests.benchmarks.events import make_event

ROUNDS = 10_000

MONEY = {"type": ["number", "string"], "pattern": r"^[0-9]+(\.[0-9]+)?$"}
PRODUCT = {
    "type": "object",
    "required": ["product_id", "price"],
    "properties": {
        **{key: {"type": "string"} for key in ("product_id", "name", "brand", "category", "variant")},
        "price": {"$ref": "#/definitions/money"},
        **{key: {"type": "integer", "minimum": 1} for key in ("quantity", "position")},
    },
}
ORDER = {
    "required": ["order_id", "total", "currency", "products"],
    "properties": {
        "order_id": {"type": "string", "pattern": "^o-"},
        **{key: {"type": "string"} for key in ("affiliation", "coupon")},
        **{key: {"$ref": "#/definitions/money"} for key in ("total", "tax", "shipping")},
        "currency": {"enum": ["EUR", "USD", "GBP", "SEK"]},
        "products": {"type": "array", "items": {"$ref": "#/definitions/product"}},
    },
}


def make_plan(**options: str) -> PlanStep:
    """Return a plan for the benchmarks' order."""
    definitions = {"money": MONEY, "product": PRODUCT}
    events = [{"event": "Order Completed", "properties": ORDER}]
    return PlanStep(Plan.model_validate({"plan": "shop", "definitions": definitions, "events": events, **options}))


def main() -> None:
    """Print the figures."""
    planned = make_event(1)
    wrong: dict[str, Any] = deepcopy(planned)
    wrong["properties"]["products"][0]["price"] = None
    wrong["properties"]["colour"] = "red"
    for title, step, event in (
        ("as planned, 22 values", make_plan(), planned),
        ("two violations, noted", make_plan(), wrong),
        ("two violations, omitted", make_plan(on_violation="omit", unplanned_properties="omit"), wrong),
        ("two violations, quarantined", make_plan(on_violation="quarantine"), wrong),
        ("unplanned, noted", make_plan(), {**planned, "event": "Other"}),
    ):
        seconds = (
            min(repeat(partial(step, event, lambda *_: None), timer=process_time, number=ROUNDS, repeat=7)) / ROUNDS
        )
        print(f"{title}: {seconds * 1e6:.1f} µs")


if __name__ == "__main__":
    main()
