"""An order at Braze: an event and a purchase for each product."""

from typing import Any, cast

import pytest

from deploy.conformance.golden import item_of
from forwarders.api.contract import Delivered, PermanentFailure, Response
from forwarders.vendors.braze.forwarder import Braze
from tests.support import golden, spec_events

FORWARDER = cast("Braze", golden.of("braze").make())


def order(**changes: Any) -> dict[str, Any]:
    event = spec_events.event("Order Completed")
    event["properties"] |= changes
    return event


def payload(event: dict[str, Any]) -> dict[str, Any]:
    ((_, made),) = spec_events.made(golden.of("braze"), event)
    assert isinstance(made, dict)
    return made


def body(event: dict[str, Any]) -> dict[str, Any]:
    made = payload(event)
    assert FORWARDER.validate(made) is None
    request = FORWARDER.build_request([item_of(event, made)])
    return request.body  # type: ignore[no-any-return]


def product(number: int) -> dict[str, Any]:
    return {"product_id": f"P-{number}", "name": "Cup", "price": 2, "quantity": 1}


@pytest.mark.parametrize("count", [1, 3, 74])
def test_purchase_per_product(count: int) -> None:
    """Each product is a purchase with the order's currency, user and time, however many there are."""
    sent = body(order(products=[product(n) for n in range(count)]))
    assert [purchase["product_id"] for purchase in sent["purchases"]] == [f"P-{n}" for n in range(count)]
    assert {(each["currency"], each["external_id"]) for each in sent["purchases"]} == {("GBP", "u-42-ada")}
    assert [event["name"] for event in sent["events"]] == ["ecommerce.order_placed"]


def test_order_with_too_many_products() -> None:
    """An order that does not fit into a request is one purchase with the order's revenue."""
    sent = body(order(products=[product(n) for n in range(75)]))
    assert [(each["product_id"], each["price"]) for each in sent["purchases"]] == [("O-1001", 45.5)]
    assert len(sent["events"][0]["properties"]["products"]) == 75


@pytest.mark.parametrize(
    "changes", [{"currency": None}, {"order_id": ""}, {"products": [{"product_id": "P-1"}]}, {"products": []}]
)
def test_incomplete_order_keeps_its_own_name(changes: dict[str, Any]) -> None:
    """An order without something that Braze requires of the recommended event is an event under its own name."""
    event = order(**changes)
    made = payload(event)
    made.pop("purchases", None)
    request = FORWARDER.build_request([item_of(event, made)])
    assert request.body["events"][0]["name"] == "Order Completed"


def test_refused_purchase_belongs_to_its_order() -> None:
    """An error about one purchase fails the order's delivery, and an error about another array does not."""
    event = order()
    items = [item_of(event, payload(event))]
    for array, index, expected in (
        ("purchases", 1, PermanentFailure("refused", "purchases")),
        ("purchases", 2, Delivered()),
        ("attributes", 0, Delivered()),
    ):
        text = f'{{"errors": [{{"type": "wrong", "input_array": "{array}", "index": {index}}}]}}'
        assert FORWARDER.parse_response(Response(201, {}, text.encode()), items) == [expected]


def test_orders_do_not_share_requests_with_other_events() -> None:
    """A payload with several objects has a group of its own, and events of one object each share one."""
    keys = {
        FORWARDER.group_key(payload(spec_events.event(name)))
        for name in ("Order Completed", "Article Read", "Signed Up", "alias")
    }
    assert len(keys) == 3


def test_alias_identifies_the_user() -> None:
    """An alias call merges the visitor known by an alias into the user."""
    assert body(spec_events.event("alias"))["aliases_to_identify"] == [
        {"external_id": "u-42-ada", "user_alias": {"alias_name": "a-9", "alias_label": "anonymous_id"}}
    ]


@pytest.mark.parametrize(("given", "sent"), [("female", "F"), ("Woman", "F"), ("m", "M"), ("other", "O"), ("x", None)])
def test_gender(given: str, sent: str | None) -> None:
    """A gender is sent as Braze's letter."""
    event = spec_events.event("identify")
    event["traits"]["gender"] = given
    assert body(event)["attributes"][0]["gender"] == sent


@pytest.mark.parametrize("name", ["Article Read", "Order Completed", "page"])
def test_visitors_are_created(name: str) -> None:
    """Every object of a visitor known by an alias says that Braze may create the user."""
    for entries in body(spec_events.event(name, "anonymous")).values():
        assert {entry["_update_existing_only"] for entry in entries} == {False}
