"""Write the files of new forwarders and integrations."""

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from deploy.config.diagnostics import find_models, find_secrets
from deploy.config.models.names import NAME as NAME_PATTERN
from deploy.config.yaml_edit import on_one_line
from deploy.scaffold.folder import schema_comment
from forwarders.api.contract import Contract, Forwarder

NAME = re.compile(NAME_PATTERN)
FORWARDER_NAME = re.compile("[a-z][a-z0-9_]{0,40}")
TEMPLATE = Path(__file__).parent / "template"
"""The package of a forwarder for a vendor called Acme."""


def integration_file(name: str, forwarder: type[Forwarder[Any]]) -> str:
    """Return the text of a new integration's file: required settings as variables, optional ones as comments."""
    contract = forwarder.contract
    lines = [
        schema_comment("integration"),
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
        comment = f"  # {' '.join(field.description.split())}" if field.description else ""
        if field.is_required():
            yield f"  {key}: {example_value(field.annotation, f'{name}_{key}')}{comment}"
        else:
            yield f"  # {key}: {_default(field, f'{name}_{key}')}{comment}"


def example_value(annotation: Any, name: str) -> str:
    """Return a value in YAML for a required setting: a variable if the type allows it."""
    if get_origin(annotation) is Literal:
        return str(get_args(annotation)[0])
    if model := next(find_models(annotation), None):
        required = {key: it.annotation for key, it in model.model_fields.items() if it.is_required()}
        inner = [f"{key}: {example_value(each, f'{name}_{key}')}" for key, each in required.items()]
        return f"{{{', '.join(inner)}}}"
    if get_origin(annotation) is dict:
        return f"{{EXAMPLE: {_variable(name)}}}"
    return f"[{_variable(name)}]" if get_origin(annotation) in (list, tuple) else _variable(name)


def _variable(name: str) -> str:
    return f"'${{{name.replace('-', '_').upper()}}}'"


def _default(field: FieldInfo, name: str) -> str:
    if () in find_secrets(field.annotation, ""):
        return _variable(name)
    value = field.get_default(call_default_factory=True, validated_data={})
    return on_one_line(value) if isinstance(value, str | int | float | bool | None) else "…"


def _rules(contract: Contract, *, preset: bool) -> Iterator[str]:
    if preset:
        yield "# These rules are tried before the preset's; a rule with the name of a preset's rule replaces it."
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


def write_forwarder(name: str, folder: Path) -> None:
    """Write a package with a forwarder of this name into a new folder; raises OSError."""
    folder.mkdir(parents=True)
    title = "".join(part.capitalize() for part in name.split("_"))
    renamed = {"turnout-acme": f"turnout-{name.replace('_', '-')}", "acme": name, "Acme": title}
    for source in sorted(TEMPLATE.rglob("*")):
        if source.is_file() and source.suffix in (".py", ".toml", ".yaml"):
            target = folder / str(source.relative_to(TEMPLATE)).replace("acme", name)
            target.parent.mkdir(parents=True, exist_ok=True)
            text = re.sub("turnout-acme|acme|Acme", lambda match: renamed[match[0]], source.read_text(encoding="utf-8"))
            target.write_text(text, encoding="utf-8")
    _write_requests(name, title, folder)


def _write_requests(name: str, title: str, folder: Path) -> None:
    """Write the golden requests with the new forwarder, which is not installed yet."""
    from deploy.conformance.golden import Golden

    sys.path.insert(0, str(folder.resolve()))
    try:
        importlib.invalidate_caches()
        found = getattr(importlib.import_module(f"turnout_{name}.{name}"), title)
        Golden(folder / "tests" / "requests" / name, found).update()
    finally:
        sys.path.remove(str(folder.resolve()))
