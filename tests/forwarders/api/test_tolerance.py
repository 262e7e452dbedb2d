"""Invalid optional values are left out of payloads; only invalid required values cause a dead letter."""

from typing import Annotated, Any, Literal, Self

import pytest
from pydantic import ConfigDict, Field, model_validator

from forwarders.api.contract import Payload
from forwarders.api.tolerance import leave_out_invalid, needless


class Person(Payload):
    email: Annotated[str, Field(pattern="@")] | None = None
    phone: str | list[Annotated[str, Field(pattern="^[0-9]+$")]] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not (self.email or self.phone):
            raise ValueError("needs an email or a phone")
        return self


class Item(Payload):
    id: str
    quantity: int | None = None


class Basket(Payload):
    items: list[Item]
    tags: list[str] | None = None


class Card(Payload):
    type: Literal["card"]
    number: str


class Cash(Payload):
    type: Literal["cash"]
    note: str | None = None


class Order(Payload):
    model_config = ConfigDict(extra="allow")

    name: str
    person: Person
    basket: Basket | None = None
    paid: Annotated[Card | Cash, Field(discriminator="type")] | None = None
    value: float | None = None
    currency: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.value is not None and self.currency is None:
            raise needless("a value needs a currency", "value")
        return self


VALID: dict[str, Any] = {"name": "Paid", "person": {"email": "a@b"}}


@pytest.mark.parametrize(
    ("given", "sent", "left_out"),
    [
        ({"currency": ""}, {}, ["currency: String should have at least 1 character"]),
        ({"currency": ["GBP"]}, {}, ["currency: Input should be a valid string"]),
        ({"value": 5}, {}, ["value: a value needs a currency"]),
        (
            {"value": 5, "currency": 7},
            {},
            ["currency: Input should be a valid string", "value: a value needs a currency"],
        ),
        (
            {"person": {"email": "a@b", "phone": ["x", "1", "y"]}},
            {"person": {"email": "a@b", "phone": ["1"]}},
            ["person.phone.2: String should match pattern '^[0-9]+$'", "person.phone.0: String should match"],
        ),
        (
            {"person": {"email": "a@b", "phone": {"home": 1}}},
            {"person": {"email": "a@b"}},
            ["person.phone: "],
        ),
        (
            {"basket": {"items": [{"id": "1", "quantity": 1.5}, {"quantity": 2}, {"id": 3}]}},
            {"basket": {"items": [{"id": "1"}]}},
            [
                "basket.items.2.id: Input should be a valid string",
                "basket.items.1.id: Field required",
                "basket.items.0.quantity: Input should be a valid integer",
            ],
        ),
        # The list is required, and may be empty.
        ({"basket": {"items": [5]}}, {"basket": {"items": []}}, ["basket.items.0: "]),
        ({"basket": {"items": [], "tags": [5]}}, {"basket": {"items": []}}, ["basket.tags.0: "]),
        ({"basket": {"items": "no"}}, {}, ["basket.items: Input should be a valid list"]),
        ({"basket": {"items": [], "colour": "red"}}, {"basket": {"items": []}}, ["basket.colour: Extra inputs"]),
        ({"basket": None}, {"basket": None}, []),
        ({"paid": {"type": "gold"}}, {}, ["paid: "]),
        ({"paid": {"type": "card", "number": 5}}, {}, ["paid.number: Input should be a valid string"]),
        ({"paid": {"type": "cash", "note": 5}}, {"paid": {"type": "cash"}}, ["paid.note: "]),
    ],
)
def test_optional_values_are_left_out(given: dict[str, Any], sent: dict[str, Any], left_out: list[str]) -> None:
    """The smallest part is removed that makes the payload valid, and noted without its value."""
    payload = VALID | given
    kept = leave_out_invalid(Order, payload)
    assert kept.problem is None
    assert kept.payload == VALID | sent
    assert payload == VALID | given
    assert len(kept.left_out) == len(left_out)
    assert all(map(str.startswith, kept.left_out, left_out)), kept.left_out


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"name": ""}, "name: String should have at least 1 character"),
        ({"name": 5}, "name: Input should be a valid string"),
        (
            {"currency": 5, "value": "x", "person": None},
            "person: Input should be a valid dictionary or instance of Person",
        ),
        ({"person": {}}, "person: Value error, needs an email or a phone"),
        ({"person": {"email": "nobody"}}, "person: Value error, needs an email or a phone"),
        ({"person": "ada"}, "person: Input should be a valid dictionary or instance of Person"),
    ],
)
def test_required_values_are_not_left_out(given: dict[str, Any], problem: str) -> None:
    """A payload without a required value stays as it was, with the reason."""
    payload = VALID | given
    kept = leave_out_invalid(Order, payload)
    assert (kept.payload, kept.problem) == (payload, problem)
