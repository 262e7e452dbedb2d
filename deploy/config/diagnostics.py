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

WANTS_MORE = {
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "should be a mapping, `key: value` lines"),
    **dict.fromkeys(("list_type", "tuple_type"), "should be a list"),
}
"""Pydantic's complaints about a scalar where there should be more, in YAML's words."""

_IN_YAMLS_WORDS = {**WANTS_MORE, "too_short": "should not be empty"}

Place = tuple[str | int, ...]
"""The keys and indexes that lead to a value."""


class Issue(NamedTuple):
    """One thing that is wrong at `place`; `kind` is pydantic's word for it. Quotes no value: it might be a secret."""

    kind: str
    place: Place
    message: str
    hint: str | None = None

    def within(self, document: Document) -> RuleError:
        """The complaint with its line and column in the file."""
        where = document.where_key if self.kind == "extra_forbidden" else document.where
        return RuleError(self.message, self.hint, *where(*self.place), document.path)


def hint_at(name: str, known: Sequence[str]) -> str:
    """What a name that does not exist was probably meant to be."""
    near = get_close_matches(name, known, 1)
    return f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known) or 'none'}"


def find_issues(error: ValidationError, model: type[BaseModel], at: Place = (), data: Any = None) -> Iterator[Issue]:
    """Each complaint of a model about the value at `at`; with `data`, the value, places hold only what stands there."""
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
                said = problem["msg"].removeprefix("Input ").removeprefix("String ")
                message = f"{name}: {_IN_YAMLS_WORDS.get(kind, said)}"
        yield Issue(problem["type"], place, message, hint)


def _steps_in(data: Any, place: Place) -> Iterator[str | int]:
    """The steps that the data has; pydantic puts the branches of a union between them."""
    for step in place:
        if step in data if isinstance(data, dict) else isinstance(data, list) and isinstance(step, int):
            yield step
            data = data[step]


def _owners(model: type[BaseModel], place: Place) -> list[type[BaseModel]]:
    """The models that the value at this place may be of."""
    owners = [model]
    for step in place:
        fields = [owner.model_fields[step] for owner in owners if isinstance(step, str) and step in owner.model_fields]
        owners = [found for field in fields for found in find_models(field.annotation)] or owners
    return owners


def find_models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that a type is or may be, or has in it."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from find_models(argument)


def find_secrets(annotation: Any, data: Any, at: Place = ()) -> Iterator[Place]:
    """The places in data of this type (a model, or what a field is annotated with) where the type has a secret."""
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


def render(mistakes: Sequence[RuleError]) -> str:
    """The mistakes for people: each with the line it is in and a caret under the place, and their number at the end."""
    return "\n".join([*map(underline, mistakes), counted(len(mistakes), "mistake")])


def underline(mistake: RuleError) -> str:
    """One mistake with the line it is in and a caret under the place."""
    text = _line(mistake)
    if not text.strip() or not mistake.column:
        return str(mistake)
    return f"{mistake}\n  | {text}\n  | {_blank(text[: mistake.column - 1])}^"


def _line(mistake: RuleError) -> str:
    if mistake.path is None or mistake.line is None:
        return ""
    try:
        lines = Path(mistake.path).read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return lines[mistake.line - 1] if mistake.line <= len(lines) else ""


def _blank(text: str) -> str:
    """As wide as the text on a terminal, tabs kept."""
    return "".join("\t" if character == "\t" else " " * cell_len(character) for character in text)
