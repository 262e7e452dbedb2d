"""The step that holds a source's events against its tracking plan.

An event that is as planned costs one call of a compiled validator; only one that is not is looked at closely.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, NamedTuple, get_args

from jsonschema_rs import Draft202012Validator, RegexOptions, ValidationError, ValidationErrorKind

from streams.events import Event, EventError, Note
from streams.observability.metrics import PLAN_VIOLATIONS
from streams.records.outcomes import Outcome
from streams.steps.plan.model import NAMED_BY, Action, Plan, PlannedEvent, Schema
from streams.steps.step import Blocked

Path = tuple[str | int, ...]
"""The keys and indexes that lead to a value of an event."""

MAX_CHECKED_VALUES = 2_000
"""Values in a part of an event that is looked at closely: each that is wrong may cost 15 µs."""

MAX_REPORTED_VIOLATIONS = 5
"""Violations that the detail of an outcome tells."""

_STRENGTH = {action: strength for strength, action in enumerate(get_args(Action))}
_FIELD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}", re.ASCII)


class Violation(NamedTuple):
    """One thing about an event that is not as planned.

    `rule` is the keyword of JSON Schema, `unplanned_event` or `unplanned_property`; `path` is the place, and
    `removable` whether the event is mended when it is taken out there.
    """

    action: Action
    rule: str
    path: Path = ()
    removable: bool = False


def compile_schema(schema: Mapping[str, Any]) -> Draft202012Validator:
    """A validator that checks formats too, takes linear time for patterns, and fetches nothing.

    Raises jsonschema_rs.ValidationError for what is no schema; its `instance_path` is the place in it.
    """
    return Draft202012Validator(
        dict(schema), pattern_options=RegexOptions(), validate_formats=True, ignore_unknown_formats=False, offline=True
    )


class PlanStep:
    """A plan as a step. The schemas must be such as `streams.steps.plan.schemas` finds nothing wrong with."""

    name = "plan"

    def __init__(self, plan: Plan) -> None:
        """Raises jsonschema_rs.ValidationError for what is no schema."""
        self._plan = plan
        self._entries = {(each.type, each.event or each.name): _Entry(each, plan) for each in plan.events}
        self._governed = {"track", *(each.type for each in plan.events)}
        self._words = set(_words([each.schemas for each in plan.events])) | set(_words(plan.definitions))

    def __call__(self, event: Event, note: Note, /) -> Event | Blocked:
        """The event, or a copy without what was to be omitted; Held where it is quarantined. Raises EventError."""
        kind = event["type"]
        named_by = NAMED_BY.get(kind)
        name = event.get(named_by) if named_by else None
        entry = self._entries.get((kind, name)) or self._entries.get((kind, None))
        if entry is None:
            if kind not in self._governed or self._plan.unplanned_events == "allow":
                return event
            return self._settle(event, kind, [Violation(self._plan.unplanned_events, "unplanned_event")], note)
        if entry.accepts(event):
            return event
        violations = [violation for part in entry.parts for violation in part.find(event)]
        return self._settle(event, entry.label, violations, note) if violations else event

    def _settle(self, event: Event, label: str, violations: list[Violation], note: Note) -> Event | Blocked:
        for violation in violations:
            PLAN_VIOLATIONS.labels(self._plan.plan, label, violation.rule).inc()
        detail = self._tell(label, violations)
        match max((violation.action for violation in violations), key=_STRENGTH.__getitem__):
            case "reject":
                raise EventError("plan", "", detail)
            case "quarantine":
                return Blocked(Outcome.QUARANTINED, "plan", detail)
        note("plan", detail)
        return without(event, {each.path for each in violations if each.action == "omit" and each.removable})

    def _tell(self, label: str, violations: list[Violation]) -> str:
        """The violations without any value; names of fields only where they can hardly be one."""
        told = [
            f"{self._path_text(it.path)} {it.rule}" if it.path else it.rule
            for it in violations[:MAX_REPORTED_VIOLATIONS]
        ]
        more = (
            [f"{len(violations) - MAX_REPORTED_VIOLATIONS} more"] if len(violations) > MAX_REPORTED_VIOLATIONS else []
        )
        return f"{self._plan.plan}: {label}: {', '.join([*told, *more])}"

    def _path_text(self, path: Path) -> str:
        """A path as JSONPath; `*` stands for a name that is neither in the plan nor that of a property or trait."""
        text = "$"
        for depth, step in enumerate(path):
            if isinstance(step, int):
                text += f"[{step}]"
            elif not (depth <= 1 and _FIELD_NAME.fullmatch(step)) and step not in self._words:
                text += ".*"
            else:
                text += f".{step}" if _FIELD_NAME.fullmatch(step) else f"[{step!r}]"
        return text


class _Entry:
    """A planned event, compiled."""

    def __init__(self, planned: PlannedEvent, plan: Plan) -> None:
        self.label = planned.label
        self.parts = [_PlanPart(name, schema, planned, plan) for name, schema in planned.schemas.items()]
        # A part that is missing or null counts as empty, which only the closer look knows.
        whole = {
            "definitions": plan.definitions,
            "properties": {part.name: part.whole for part in self.parts},
            "required": [part.name for part in self.parts],
        }
        self._is_valid = compile_schema(whole).is_valid

    def accepts(self, event: Event) -> bool:
        """Whether all is as planned; False also where only the closer look can tell."""
        try:
            return self._is_valid(event)
        except ValueError:  # what is to be compared is too deep
            return False


class _PlanPart:
    """A part of an event with its schema, and a guard that lets nothing pass which the schema does not name."""

    def __init__(self, name: str, schema: Schema, planned: PlannedEvent, plan: Plan) -> None:
        self.name = name
        self._on_violation: Action = planned.on_violation or plan.on_violation
        unplanned: Action = planned.unplanned_properties or plan.unplanned_properties
        guard = _guard(schema, plan.definitions) if name != "context" and unplanned != "allow" else None
        self.whole = {"type": "object", "allOf": [schema, guard] if guard else [schema]}
        self._checks: list[tuple[Draft202012Validator, Action, str]] = [
            (compile_schema({"definitions": plan.definitions, "allOf": [schema]}), self._on_violation, "")
        ]
        if guard:
            self._checks.append((compile_schema(guard), unplanned, "unplanned_property"))

    def find(self, event: Event) -> list[Violation]:
        """What is not as planned; of a large or deep part one thing only, which then cannot be mended."""
        content = event.get(self.name) or {}
        large = _is_large(content)
        try:
            violations = [*self._find(content, large=large)]
        except ValueError:
            # What is wrong is more than 255 levels deep: the validator sees it, and cannot tell of it.
            large, violations = True, [Violation(self._on_violation, "too_deep", (self.name,))]
        return [it._replace(action="quarantine") if large and it.action == "omit" else it for it in violations]

    def _find(self, content: Any, *, large: bool) -> Iterator[Violation]:
        for validator, action, rule in self._checks:
            errors = _first(validator, content) if large else validator.iter_errors(content)
            yield from chain.from_iterable(_violations(error, action, rule, self.name) for error in errors)


def _violations(error: ValidationError, action: Action, rule: str, part: str) -> Iterator[Violation]:
    """What an error says; `rule` stands for its keyword."""
    place: Path = (part, *error.instance_path)
    rule = rule or error.kind.name
    match error.kind:
        case (
            ValidationErrorKind.AdditionalProperties(unexpected=names)
            | ValidationErrorKind.UnevaluatedProperties(unexpected=names)
        ):
            for name in names:
                yield Violation(action, rule, (*place, name), removable=True)
        case ValidationErrorKind.PropertyNames(error=inner):
            yield Violation(action, rule, (*place, str(inner.instance)), removable=True)
        case ValidationErrorKind.Required(property=name):
            yield Violation(action, rule, (*place, name))
        case _:
            yield Violation(action, rule, place, removable=len(place) > 1)


def _first(validator: Draft202012Validator, content: Any) -> Iterator[ValidationError]:
    try:
        validator.validate(content)
    except ValidationError as error:
        yield error


def _is_large(content: Any) -> bool:
    count, pending = 0, [content]
    while pending and count <= MAX_CHECKED_VALUES:
        value = pending.pop()
        if isinstance(value, dict | list):
            count += len(value)
            pending += value.values() if isinstance(value, dict) else value
    return count > MAX_CHECKED_VALUES


def _guard(schema: Schema, definitions: Mapping[str, Schema]) -> dict[str, Any] | None:
    """A schema that what is named passes alone; None where the schema names nothing, or says itself what of the rest.

    What it names may stand in any schema that it applies in the same place.
    """
    names: dict[str, Any] = {}
    patterns: dict[str, Any] = {}
    pending, used = [schema], set()
    while pending:
        one = pending.pop()
        if not isinstance(one, dict):
            continue
        if "additionalProperties" in one or "unevaluatedProperties" in one:
            return None
        names |= dict.fromkeys(one.get("properties", ()), True)
        patterns |= dict.fromkeys(one.get("patternProperties", ()), True)
        pending += [each for key in ("allOf", "anyOf", "oneOf") for each in one.get(key, ())]
        pending += [one[key] for key in ("if", "then", "else") if key in one]
        pending += one.get("dependentSchemas", {}).values()
        reference = one.get("$ref")
        if reference and reference not in used:
            used.add(reference)
            pending.append(definitions[reference.removeprefix("#/definitions/")])
    if not names and not patterns:
        return None
    return {"properties": names, "patternProperties": patterns, "additionalProperties": False}


def _words(schema: Any) -> Iterator[str]:
    """All names in schemas."""
    if isinstance(schema, dict):
        yield from schema
    for value in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from [value] if isinstance(value, str) else _words(value)


def without(event: Event, paths: Iterable[Path]) -> Event:
    """The event without the values at these paths; what changes is copied."""
    wanted = set(paths)
    outermost = [path for path in wanted if not any(path[:length] in wanted for length in range(1, len(path)))]
    mended = event.copy()
    copies: dict[Path, Any] = {(): mended}
    # Items of lists go last, the deepest and then the hindmost first, so that no path leads elsewhere meanwhile.
    for path in sorted(outermost, key=_removal_order):
        for length in range(1, len(path)):
            inner = path[:length]
            if inner not in copies:
                holder = copies[inner[:-1]]
                copies[inner] = holder[inner[-1]] = holder[inner[-1]].copy()
        del copies[path[:-1]][path[-1]]
    return mended


def _removal_order(path: Path) -> tuple[int, int]:
    last = path[-1]
    return (-len(path), -last) if isinstance(last, int) else (-1_000_000, 0)
