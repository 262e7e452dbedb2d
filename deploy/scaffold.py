"""Texts of new files."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from deploy.files import NAME as NAME_PATTERN
from deploy.mistakes import find_secrets
from deploy.rewriting import on_one_line
from forwarders.contract import Contract, Forwarder

NAME = re.compile(NAME_PATTERN)
SCHEMA = Path(".schema", "integration.json")
"""Where the schema lies in a configuration folder."""


def integration_file(name: str, forwarder: type[Forwarder[Any]]) -> str:
    """The text of a new integration's file: required settings as variables, the optional ones as comments."""
    contract = forwarder.contract
    lines = [
        f"# yaml-language-server: $schema=../{SCHEMA.as_posix()}",
        f"# {contract.title}: {contract.documentation}",
        f"integration: {on_one_line(name)}",
        f"forwarder: {contract.name}",
    ]
    if forwarder.preset():
        lines.append(f"preset: {contract.name}  # its own rules; `turnout explain {name}` shows them")
    lines += ["", "settings:", *_settings(name, contract), "", *_rules(contract, preset=forwarder.preset() is not None)]
    return "\n".join(lines) + "\n"


def _settings(name: str, contract: Contract) -> Iterator[str]:
    fields = contract.settings.model_fields
    for key, field in sorted(fields.items(), key=lambda item: not item[1].is_required()):
        variable = f"{name}_{key}".replace("-", "_").upper()
        said = f"  # {' '.join(field.description.split())}" if field.description else ""
        if field.is_required():
            yield f"  {key}: '${{{variable}}}'{said}"
        else:
            yield f"  # {key}: {_default(field, variable)}{said}"


def _default(field: FieldInfo, variable: str) -> str:
    if () in find_secrets(field.annotation, ""):
        return f"'${{{variable}}}'"
    value = field.get_default(call_default_factory=True, validated_data={})
    return on_one_line(value) if isinstance(value, str | int | float | bool | None) else "…"


def _rules(contract: Contract, *, preset: bool) -> Iterator[str]:
    if preset:
        yield "# Rules here come before the preset's; one with the name of a preset's rule stands in its place."
        yield "rules: []"
        return
    required = (
        [key for key, field in contract.payload.model_fields.items() if field.is_required()] if contract.payload else []
    )
    yield "rules:"
    yield "  - name: everything"
    yield "    map:"
    for key in required or ["user", "event"]:
        path = {"user": "$.userId", "event": "$.event"}.get(key, f"$.properties.{key}")
        yield f"      {key}: {path}"
