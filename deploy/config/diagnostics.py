"""Turn pydantic's validation errors into messages with file, line and column."""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin

from pydantic import BaseModel, SecretBytes, SecretStr, ValidationError
from rich.cells import cell_len

from streams.plurals import counted
from transforms import RuleError
from transforms.documents import Document

COLLECTION_MESSAGES = {
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "should be a mapping, `key: value` lines"),
    **dict.fromkeys(("list_type", "tuple_type"), "should be a list"),
}
"""Messages for pydantic's error types about a scalar in place of a mapping or list, in YAML's terms."""

_MESSAGES = {**COLLECTION_MESSAGES, "too_short": "should not be empty"}

Place = tuple[str | int, ...]
"""The keys and indexes that lead to a value."""


class Issue(NamedTuple):
    """An invalid value at `place`; `kind` is pydantic's error type. Never quotes the value, which may be a secret."""

    kind: str
    place: Place
    message: str
    hint: str | None = None

    def within(self, document: Document) -> RuleError:
        """Return the issue as an error with its line and column in the file."""
        where = document.where_key if self.kind == "extra_forbidden" else document.where
        return RuleError(self.message, self.hint, *where(*self.place), document.path)


def hint_at(name: str, known: Sequence[str]) -> str:
    """Return a hint for an unknown name: the nearest known one, or all of them."""
    near = get_close_matches(name, known, 1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known) or 'none'}"


def find_issues(error: ValidationError, model: type[BaseModel], at: Place = (), data: Any = None) -> Iterator[Issue]:
    """Yield pydantic's errors about the value at `at`; with `data`, places contain only steps that exist in it."""
    for problem in error.errors(include_url=False, include_input=False):
        inner = problem["loc"] if data is None else tuple(_steps_in(data, problem["loc"]))
        place = (*at, *inner)
        if problem["type"] == "missing" and data is not None:
            place = (*place, problem["loc"][-1])
        name = ".".join(map(str, place))
        hint = None
        match problem["type"]:
            case "extra_forbidden":
                known = [name for owner in _owners(model, inner[:-1]) for name in owner.model_fields]
                message, hint = f"unknown key {name!r}", hint_at(str(place[-1]), known)
            case "missing":
                message = f"the key {name!r} is missing"
            case "value_error":
                message = ": ".join(filter(None, [name, str(problem["ctx"]["error"])]))
            case "string_pattern_mismatch":
                message = f"{name}: does not match {problem['ctx']['pattern']}"
            case kind:
                text = problem["msg"].removeprefix("Input ").removeprefix("String ")
                message = f"{name}: {_MESSAGES.get(kind, text)}"
        yield Issue(problem["type"], place, message, hint)


def _steps_in(data: Any, place: Place) -> Iterator[str | int]:
    """Yield the steps that exist in the data; pydantic adds the branches of unions between them."""
    for step in place:
        if step in data if isinstance(data, dict) else isinstance(data, list) and isinstance(step, int):
            yield step
            data = data[step]


def _owners(model: type[BaseModel], place: Place) -> list[type[BaseModel]]:
    """Return the models that may describe the value at this place."""
    owners = [model]
    for step in place:
        fields = [owner.model_fields[step] for owner in owners if isinstance(step, str) and step in owner.model_fields]
        owners = [found for field in fields for found in find_models(field.annotation)] or owners
    return owners


def find_models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models that a type is, may be or contains."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from find_models(argument)


def find_secrets(annotation: Any, data: Any, at: Place = ()) -> Iterator[Place]:
    """Yield the places of secrets in data of this type, which is a model or the annotation of a field."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, SecretStr | SecretBytes):
        yield at
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            if isinstance(data, dict) and data.get(name) is not None:
                yield from find_secrets(field.annotation, data[name], (*at, name))
    elif origin in (dict, Mapping):
        for key, value in data.items() if isinstance(data, dict) else ():
            yield from find_secrets(arguments[-1], value, (*at, key))
    elif origin in (list, tuple, set, frozenset, Sequence):
        for place, value in (
            [((*at, index), it) for index, it in enumerate(data)] if isinstance(data, list) else [(at, data)]
        ):
            yield from find_secrets(arguments[0], value, place)
    else:
        for argument in arguments:
            yield from find_secrets(argument, data, at)


def render(errors: Sequence[RuleError]) -> str:
    """Return the errors as text: each with its line and a caret under the place, and their number at the end."""
    return "\n".join([*map(underline, errors), counted(len(errors), "error")])


def underline(error: RuleError) -> str:
    """Return an error as text, with its line and a caret under the place."""
    text = _line(error)
    if not text.strip() or not error.column:
        return str(error)
    return f"{error}\n  | {text}\n  | {_blank(text[: error.column - 1])}^"


def _line(error: RuleError) -> str:
    if error.path is None or error.line is None:
        return ""
    try:
        lines = Path(error.path).read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return lines[error.line - 1] if error.line <= len(lines) else ""


def _blank(text: str) -> str:
    """Return spaces of the text's width on a terminal; tabs are kept."""
    return "".join("\t" if character == "\t" else " " * cell_len(character) for character in text)
