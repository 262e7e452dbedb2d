"""Read deploy/image/compose.yaml like Docker Compose, with the features that it uses."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

COMPOSE = Path("deploy/image/compose.yaml").resolve()

_VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


@cache
def data() -> Mapping[str, Any]:
    """Return the file's data, with YAML anchors resolved."""
    found: Mapping[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return found


def services() -> Mapping[str, Any]:
    """Return all services."""
    found: Mapping[str, Any] = data()["services"]
    return found


def own_services() -> dict[str, Any]:
    """Return the services of Turnout's image."""
    return {name: it for name, it in services().items() if "TURNOUT_IMAGE" in it["image"]}


def fill(value: str, variables: Mapping[str, str]) -> str:
    """Replace variables in a value; raises KeyError for a required one without a value."""

    def one(found: re.Match[str]) -> str:
        name, kind, text = found.groups()
        if variables.get(name):
            return variables[name]
        if kind == "-":
            return str(text)
        raise KeyError(name)

    return _VARIABLE.sub(one, value)


def variables_of(text: str) -> dict[str, str | None]:
    """Return the variables in a text, with `-` if they have a default, `?` if they are required."""
    return {name: kind for name, kind, _ in _VARIABLE.findall(text)}
