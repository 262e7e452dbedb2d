"""What was seen is compared with the plans of its sources."""

from pathlib import Path

import pytest

from deploy.catalog.planned import find_plans
from deploy.config.configuration import read_configuration
from tests.deploy.catalog.seen import seen_events, track

PLAN = """plan: shop
definitions:
  money: {type: number}
events:
  - event: Order
    properties:
      required: [id, total]
      properties:
        id: {type: string}
        total: {$ref: '#/definitions/money'}
        note: {type: [string, 'null']}
        products: {type: array, items: {properties: {sku: {type: string}}}}
        free: {type: object}
"""


@pytest.fixture
def configuration(tmp_path: Path):
    """A folder with a source that has the plan above."""
    for name, text in (("plans/shop", PLAN), ("sources/web", "source: web\nwrite_keys: ['${KEY}']\nplan: shop\n")):
        path = tmp_path / f"{name}.yaml"
        path.parent.mkdir()
        path.write_text(text)
    (tmp_path / "turnout.yaml").write_text("{}\n")
    return read_configuration(tmp_path)


def test_properties_are_compared_with_the_plan(configuration):
    """Each property is as planned, of a wrong type, missing in some events, or not in the plan."""
    products = [{"sku": "B", "name": "Lamp"}]
    (seen,) = seen_events(
        track("Order", id="A", total=1, note=None, products=products, free={"x": 1}, coupon="C"),
        track("Order", total="1"),
    )
    (plan,) = find_plans(configuration, seen)
    states = {path: plan.compare(path, it, seen.sampled).state for path, it in seen.properties.items()}
    assert states == {
        "properties.id": "missing",
        "properties.total": "wrong type",
        "properties.note": "planned",
        "properties.products": "planned",
        "properties.products[].sku": "planned",
        "properties.products[].name": "not in plan",
        "properties.free": "planned",
        "properties.free.x": "",
        "properties.coupon": "not in plan",
    }
    assert plan.compare("properties.total", None, 2).where == "plans/shop.yaml:10"
    assert plan.unseen(seen) == []
    (other,) = seen_events(track("Order", id="A"))
    assert find_plans(configuration, other)[0].unseen(other) == [
        f"properties.{name}" for name in ("total", "note", "products", "free")
    ]


def test_event_without_an_entry(configuration):
    """An event that is missing in the plan is shown as not planned; a source without a plan shows nothing."""
    (unplanned,) = seen_events(track("Other", id=1))
    (plan,) = find_plans(configuration, unplanned)
    assert (plan.entry, plan.compare("properties.id", None, 1).state) == (None, "")
    (elsewhere,) = seen_events(("app", {"type": "track", "event": "Order"}))
    assert find_plans(configuration, elsewhere) == []
