"""Leave invalid optional values out of a payload, so that they never cost the whole event."""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any, Final, NamedTuple

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

MAX_PASSES: Final = 50
"""Validations of one payload. Each pass removes all values that the last one found invalid."""

NEEDLESS: Final = "needless_fields"
"""The type of an error that names the fields to remove."""

Position = tuple[str | int, ...]


class Tolerated(NamedTuple):
    """A payload without its invalid optional values.

    Args:
        payload: The valid payload, or the original one if there is a problem.
        left_out: A note per removed value, which does not quote it.
        problem: Why the payload is still invalid; None if it is valid.

    """

    payload: Mapping[str, Any]
    left_out: Sequence[str]
    problem: str | None


def needless(message: str, *fields: str) -> PydanticCustomError:
    """Return an error for a model validator to raise if the object is valid without some optional fields.

    Args:
        message: The error, which must not quote a value.
        fields: The fields to leave out, with dots for those of inner objects.

    """
    return PydanticCustomError(NEEDLESS, message, {"fields": fields})


def leave_out_invalid(model: type[BaseModel], payload: Mapping[str, Any]) -> Tolerated:
    """Remove invalid values until the payload is valid, or a value that the vendor requires is missing.

    An invalid value is removed. If the model requires it, the object around it is removed too, and so on outwards. A
    list that becomes empty is removed unless the model requires it.

    Args:
        model: The payload model.
        payload: An invalid payload. It is not changed.

    """
    kept = deepcopy(dict(payload))
    notes: dict[str, str] = {}
    emptied: list[tuple[dict[str, Any], str]] = []
    for _ in range(MAX_PASSES):
        errors = _errors(model, kept)
        if not errors:
            break
        found = {position: error for error in errors for position in _positions(error, kept)}
        if () in found:
            place = _place((), found[()])
            problem = f"{place}: {notes.pop(place, found[()]['msg'])}"
            return Tolerated(payload, _lines(notes), problem)
        # An invalid value inside may be the only reason why the value around it is invalid.
        innermost = [at for at in found if not any(len(other) > len(at) and other[: len(at)] == at for other in found)]
        # The last item of a list first, so that the other indexes stay valid.
        for at in sorted(innermost, key=lambda at: [(type(key) is int, key) for key in at], reverse=True):
            notes.setdefault(_place(at, found[at]), found[at]["msg"])
            _remove(kept, at, emptied)
    else:
        return Tolerated(payload, _lines(notes), "too many invalid values")
    for parent, key in emptied:
        if parent.get(key) == []:
            del parent[key]
            if _errors(model, kept):
                parent[key] = []
    return Tolerated(kept, _lines(notes), None)


def _errors(model: type[BaseModel], payload: Any) -> Sequence[ErrorDetails]:
    try:
        model.model_validate(payload)
    except ValidationError as error:
        return error.errors(include_url=False, include_input=False)
    return ()


def _positions(error: ErrorDetails, payload: Any) -> Iterator[Position]:
    """Yield the positions of the values to remove; () is the payload itself, which cannot be removed."""
    at: Position = ()
    value: Any = payload
    for key in error["loc"]:
        # Other keys are missing, or name the member of a union.
        if key in (value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()):
            value, at = value[key], (*at, key)
    fields = error["ctx"]["fields"] if error["type"] == NEEDLESS else ()
    present = [keys for field in fields if _has(value, keys := field.split("."))]
    if present:
        yield from ((*at, *keys) for keys in present)
    else:
        yield at


def _has(value: Any, keys: Sequence[str]) -> bool:
    for key in keys:
        if not isinstance(value, dict) or key not in value:
            return False
        value = value[key]
    return True


def _place(at: Position, error: ErrorDetails) -> str:
    missing = error["loc"][-1:] if error["type"] == "missing" else ()
    return ".".join(map(str, (*at, *missing)))


def _remove(payload: Any, at: Position, emptied: list[tuple[dict[str, Any], str]]) -> None:
    """Remove a value; record the list around it if that becomes empty."""
    around: Any = None
    container = payload
    for key in at[:-1]:
        around, container = container, container[key]
    del container[at[-1]]
    if container == [] and isinstance(around, dict):
        emptied.append((around, str(at[-2])))


def _lines(notes: Mapping[str, str]) -> Sequence[str]:
    return [f"{place}: {message}" for place, message in notes.items()]
