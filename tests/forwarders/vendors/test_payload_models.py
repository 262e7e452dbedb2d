"""Every payload model: an optional value that is empty or of another type never makes a dead letter."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, get_args

import orjson
import pytest
import yaml
from pydantic import BaseModel

from forwarders import registry
from forwarders.api.contract import Payload, check_payload
from tests.support import golden

REQUIRED: Mapping[str, Mapping[str, str]] = yaml.safe_load(
    (Path(__file__).parents[2] / "cases" / "required_fields.yaml").read_text()
)
NAMES = [name for name in registry.names() if name in golden.NAMES and registry.find(name).contract.payload]
ODD = ("", " ", [], {}, ["x"], [{}], {"x": 1}, 5, 1.5, -1, False, "x", None)


def models_of(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models that a value of this type may have."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from models_of(inner)


def fields(model: type[BaseModel], value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], bool]]:
    """Yield the place of each field of the models in a payload, and whether the vendor requires it."""
    for name, field in model.model_fields.items():
        key = field.alias or name
        yield (*at, key), field.is_required()
        inner = value.get(key)
        for each in set(models_of(field.annotation)):
            if isinstance(inner, dict) and fits(each, inner):
                for place, required in fields(each, inner, (*at, key)):
                    yield place, required and field.is_required()
            if isinstance(inner, list) and inner and isinstance(inner[0], dict):
                yield from ((place, False) for place, _ in fields(each, inner[0], (*at, key, 0)))


def fits(model: type[BaseModel], value: Mapping[str, Any]) -> bool:
    try:
        model.model_validate(value)
    except ValueError:
        return False
    return True


def places(name: str) -> Iterator[tuple[dict[str, Any], tuple[Any, ...]]]:
    """Yield each place of each golden payload of a vendor that the vendor does not require."""
    forwarder = golden.of(name).forwarder
    assert forwarder.contract.payload is not None
    seen = set()
    for delivery in golden.of(name).deliveries():
        payload = dict(delivery.payload)
        shape = orjson.dumps(sorted(".".join(map(str, at)) for at, _ in fields(forwarder.contract.payload, payload)))
        kind = (delivery.type, delivery.event, shape)
        if kind in seen:
            continue
        seen.add(kind)
        for at, required in fields(forwarder.contract.payload, payload):
            if not required:
                yield payload, at


@pytest.mark.parametrize("name", NAMES)
def test_an_odd_optional_value_never_makes_a_dead_letter(name: str) -> None:
    """Each optional field of each model is left out if the vendor would not accept it, and the rest is sent."""
    forwarder = golden.of(name).make()
    allowed = REQUIRED.get(name, {})
    dead: dict[str, str] = {}
    required: set[str] = set()
    for payload, (*path, last) in places(name):
        place = ".".join(str(key) for key in (*path, last) if not isinstance(key, int))
        for odd in ODD:
            changed = deepcopy(payload)
            node: Any = changed
            for key in path:
                node = node[key]
            node[last] = odd
            checked = check_payload(forwarder, changed, 1000)
            if checked.problem is None:
                assert forwarder.validate(checked.payload) is None
            elif place in allowed:
                required.add(place)
            else:
                dead[f"{place} = {odd!r}"] = checked.problem.detail
    assert not dead
    assert required == allowed.keys()


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_value_never_makes_a_dead_letter(name: str) -> None:
    """An unknown field is left out, or sent if the model allows extra fields."""
    forwarder = golden.of(name).make()
    for payload, (*path, _) in places(name):
        changed = deepcopy(payload)
        node: Any = changed
        for key in path:
            node = node[key]
        node["unheard_of"] = {"a": [1]}
        assert check_payload(forwarder, changed, 1000).problem is None


def test_every_model_is_tolerant() -> None:
    """Every payload model forbids or allows other fields by itself, and refuses empty texts."""
    for name in NAMES:
        model = registry.find(name).contract.payload
        assert model is not None
        assert issubclass(model, Payload)
        assert model.model_config.get("str_min_length") == 1
