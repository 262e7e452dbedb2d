"""Create the file of a new integration from a form with the vendor's settings."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from deploy.config.diagnostics import find_models, find_secrets
from deploy.config.environment import is_reference
from deploy.config.yaml_edit import on_one_line, remove_value, replace_value
from deploy.scaffold.scaffold import example_value, integration_file
from forwarders.api.contract import Contract, Forwarder
from transforms import RuleError
from transforms.documents import Document

FieldKind = Literal["secret", "choice", "switch", "number", "text", "yaml"]

FILE_ORDER = ("integration", "forwarder", "preset", "mode", "state", "sources", "consent", "sample", "settings")
"""The usual order of keys in an integration's file."""

REFERENCE_HINT = "write ${NAME} for a variable, or ${file:/run/secrets/NAME}; the value itself stays outside the file"


@dataclass(frozen=True, slots=True)
class SettingField:
    """A field of the form.

    Attributes:
        name: The key in `settings`.
        kind: The kind of input; `yaml` for lists and objects.
        required: Whether the vendor needs it.
        says: Its description.
        choices: The values of a choice.
        default: The value if the field is left empty.
        example: The first content of the field.

    """

    name: str
    kind: FieldKind
    required: bool
    says: str
    choices: tuple[str, ...] = ()
    default: str = ""
    example: str = ""


@dataclass(frozen=True, slots=True)
class IntegrationForm:
    """A user's input.

    Attributes:
        name: The integration.
        settings: Texts by the names of fields; empty ones are left out of the file.
        preset: Whether to start from the vendor's preset.
        sources: The sources whose events are sent; none means all.
        consent: The categories that an event must all grant.

    """

    name: str
    settings: Mapping[str, str]
    preset: bool = True
    sources: Sequence[str] = ()
    consent: Sequence[str] = ()


class FieldsError(Exception):
    """Invalid fields; `problems` has a message for each. A message never quotes the value."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        super().__init__("; ".join(problems.values()))
        self.problems = problems


def find_fields(contract: Contract, name: str) -> list[SettingField]:
    """Return the fields of a vendor's settings for an integration of this name, the required ones first."""
    fields = contract.settings.model_fields.items()
    return [_field(key, field, name) for key, field in sorted(fields, key=lambda it: not it[1].is_required())]


def write_integration(form: IntegrationForm, forwarder: type[Forwarder[Any]]) -> str:
    """Return the text of the file, in shadow mode; raises FieldsError."""
    contract = forwarder.contract
    values, problems = dict[str, Any](), dict[str, str]()
    for field in find_fields(contract, form.name):
        text = form.settings.get(field.name, "").strip()
        if not text or (field.kind == "yaml" and text == field.example):
            continue
        try:
            values[field.name] = _read(field, text)
        except ValueError as error:
            problems[field.name] = str(error)
    if problems:
        raise FieldsError(problems)
    text = integration_file(form.name, forwarder)
    if not form.preset and forwarder.preset():
        text = remove_value(text, ("preset",))
    text = replace_value(text, ("mode",), "shadow", FILE_ORDER)
    if form.sources:
        text = replace_value(text, ("sources",), list(form.sources), FILE_ORDER)
    if form.consent:
        text = replace_value(text, ("consent",), {"all": list(form.consent)}, FILE_ORDER)
    for key, value in values.items():
        text = replace_value(_without_comment(text, key), ("settings", key), value)
    return text


def _field(key: str, field: FieldInfo, integration: str) -> SettingField:
    says = " ".join((field.description or "").split())
    kind, choices = _kind(field.annotation)
    required = field.is_required()
    value = None if required else field.get_default(call_default_factory=True, validated_data={})
    default = "" if value is None else on_one_line(value) if isinstance(value, str | int | float | bool) else "none"
    variable = f"{integration}_{key}".replace("-", "_").upper()
    example = ""
    if kind == "secret" and required:
        example = f"${{{variable}}}"
    elif kind == "yaml" and required:
        example = example_value(field.annotation, f"{integration}_{key}")
    elif kind == "choice" and required:
        example = choices[0]
    return SettingField(key, kind, required, says, choices, default, example)


def _kind(annotation: Any) -> tuple[FieldKind, tuple[str, ...]]:
    """Return the kind of input for a type, and the values of a choice."""
    if () in find_secrets(annotation, ""):
        return "secret", ()
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return "choice", tuple(map(str, arguments))
    if hasattr(annotation, "__metadata__"):
        return _kind(arguments[0])
    if (
        next(find_models(annotation), None)
        or origin in (dict, list, tuple)
        or (isinstance(origin, type) and issubclass(origin, Mapping))
    ):
        return "yaml", ()
    if arguments:
        inner = [each for each in arguments if each is not NoneType]
        return _kind(inner[0]) if len(inner) == 1 else ("text", ())
    if annotation is bool:
        return "switch", ()
    return ("number", ()) if annotation in (int, float) else ("text", ())


def _read(field: SettingField, text: str) -> Any:
    """Parse a field's text; raises ValueError."""
    match field.kind:
        case "secret":
            if not is_reference(text):
                raise ValueError(f"a secret must not be in the file: {REFERENCE_HINT}")
            return text
        case "switch":
            return text == "true"
        case "number":
            try:
                return json.loads(text)
            except ValueError:
                raise ValueError("should be a number") from None
        case "yaml":
            try:
                return Document.parse(text.encode("utf-8", "replace"), field.name).data
            except RuleError as error:
                raise ValueError(f"line {error.line}: {error.message}") from None
    return text


def _without_comment(text: str, key: str) -> str:
    """Remove the commented-out line of an optional setting that now has a value."""
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(f"  # {key}: "))
