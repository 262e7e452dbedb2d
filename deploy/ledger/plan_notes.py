"""Describe the violations that a tracking plan noted about an event, with the plan's lines."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from deploy.config.json_diff import shown
from transforms.documents import Document
from transforms.model.values import MISSING

Keys = tuple[str | int, ...]

NOTE = re.compile(r"(?P<plan>[a-z0-9_-]+): (?P<label>.+): (?P<violations>(?:\$\S* )?[A-Za-z_]+(?:, .+)?)")
VIOLATION = re.compile(r"\$(?P<path>(?:\.\w+|\[\d+\])+) (?P<rule>[A-Za-z_]+)")
STEP = re.compile(r"\.(\w+)|\[(\d+)\]")

TYPES = {
    "string": "text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "a boolean",
    "object": "an object",
    "array": "a list",
    "null": "null",
}
PYTHON_TYPES = {str: "text", int: "a number", float: "a number", bool: "a boolean", dict: "an object", list: "a list"}
MAX_WIDTH = 60


class ExplainedNote(NamedTuple):
    """A note in words, and the line of the plan, `PATH:LINE`, if it is known."""

    text: str
    where: str | None


def explain_note(detail: str, documents: Sequence[Document], event: Mapping[str, Any] | None) -> ExplainedNote | None:
    """Explain the detail of a note with the reason `plan`; None if the plan has changed since.

    Args:
        detail: Such as `shop: Order Completed: $.properties.total type`.
        documents: The plans among other files.
        event: The event, for the types of its values.

    """
    found = NOTE.fullmatch(detail)
    data = [each for each in documents if isinstance(each.data, dict) and each.data.get("plan") == (found and found[1])]
    plan = next((each for each in data if "events" in each.data), None)
    if found is None or plan is None:
        return None
    texts, wheres = [], []
    for part in found["violations"].split(", "):
        if part == "unplanned_event":
            texts.append("the event is not planned")
            continue
        violation = VIOLATION.fullmatch(part)
        if violation is None:
            texts.append(part)
            continue
        path: Keys = tuple(int(index) if index else name for name, index in STEP.findall(violation["path"]))
        text, where = _explain_violation(plan, found["label"], path, violation["rule"], event)
        texts.append(text)
        wheres += [where] if where else []
    return ExplainedNote(f"{found['plan']}: {'; '.join(texts)}", wheres[0] if wheres else f"{plan.path}:1")


def _explain_violation(
    plan: Document, label: str, path: Keys, rule: str, event: Mapping[str, Any] | None
) -> tuple[str, str | None]:
    name = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)[1:]
    number = next((at for at, each in enumerate(plan.data["events"]) if _label(each) == label), None)
    entry: Keys | None = None if number is None else ("events", number)
    missing = rule in ("required", "unplanned_property", "additionalProperties")
    place = entry and find_schema(plan, entry, path[:-1] if missing else path)
    where = None
    if entry:
        # The line of the property, which may refer to a definition.
        line = plan.where_key(*place[0])[0] if place else plan.where(*entry)[0]
        where = f"{plan.path}:{line}"
    if rule == "required":
        return f"{name} is missing", where
    if missing:
        return f"{name} is not planned", where
    schema = value_at(plan.data, place[1]) if place else {}
    if rule == "type" and isinstance(schema, dict) and "type" in schema:
        wanted = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        value = value_at(event, path)
        is_ = "null" if value is None else PYTHON_TYPES.get(type(value), "")
        words = " or ".join(TYPES.get(str(each), str(each)) for each in wanted)
        return f"{name} is {is_ + ', ' if is_ else ''}not {words}", where
    if isinstance(schema, dict) and rule in schema:
        return f"{name} violates {rule}: {shown(schema[rule], MAX_WIDTH)}", where
    return f"{name} violates {rule}", where


def _label(planned: Mapping[str, Any]) -> str:
    """Return the name of a planned event, as in outcomes."""
    return planned.get("event") or " ".join(filter(None, (planned.get("type", "track"), planned.get("name"))))


def find_schema(plan: Document, entry: Keys, path: Keys) -> tuple[Keys, Keys] | None:
    """Return the plan's locations of a path and of its schema; None if names alone do not lead there.

    The two differ if the plan refers to a definition.
    """
    at: Keys = (*entry, path[0]) if path else entry
    for step in path[1:]:
        at = _follow(plan, at)
        at = (*at, "items") if isinstance(step, int) else (*at, "properties", step)
    schema = _follow(plan, at)
    return (at, schema) if isinstance(value_at(plan.data, schema), dict) else None


def _follow(plan: Document, at: Keys) -> Keys:
    """Follow references, at most as many as there are definitions, so that cycles end."""
    for _ in range(len(plan.data.get("definitions") or {}) + 1):
        schema = value_at(plan.data, at)
        reference = schema.get("$ref") if isinstance(schema, dict) else None
        if not isinstance(reference, str):
            break
        at = ("definitions", reference.removeprefix("#/definitions/"))
    return at


def value_at(data: Any, path: Keys) -> Any:
    """Return the value at a path in JSON data, or MISSING."""
    for step in path:
        try:
            data = data[step]
        except (KeyError, IndexError, TypeError):
            return MISSING
    return data
