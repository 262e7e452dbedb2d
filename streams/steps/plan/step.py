"""Check a source's events against its tracking plan.

A valid event costs one call of a compiled validator; only violations need the slow check.
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
"""The keys and indexes of a value's path in an event."""

MAX_CHECKED_VALUES = 2_000
"""Maximum number of values that the slow check examines in a part of an event; each invalid one may cost 15 µs."""

MAX_REPORTED_VIOLATIONS = 5
"""Maximum number of violations in the detail of an outcome."""

_STRENGTH = {action: strength for strength, action in enumerate(get_args(Action))}
_FIELD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}", re.ASCII)


class Violation(NamedTuple):
    """One violation of a plan by an event.

    `rule` is the JSON Schema keyword, `unplanned_event` or `unplanned_property`. `removable` is whether removing the
    value at `path` fixes the violation.
    """

    action: Action
    rule: str
    path: Path = ()
    removable: bool = False


def compile_schema(schema: Mapping[str, Any]) -> Draft202012Validator:
    """Compile a validator that also checks formats, matches patterns in linear time, and fetches nothing.

    Raises jsonschema_rs.ValidationError for an invalid schema; its `instance_path` is the position of the error.
    """
    return Draft202012Validator(
        dict(schema), pattern_options=RegexOptions(), validate_formats=True, ignore_unknown_formats=False, offline=True
    )


class PlanStep:
    """The step that checks events against a plan, whose schemas `streams.steps.plan.schemas` must have validated."""

    name = "plan"

    def __init__(self, plan: Plan) -> None:
        """Compile the plan; raises jsonschema_rs.ValidationError for an invalid schema."""
        self._plan = plan
        self._entries = {(each.type, each.event or each.name): _Entry(each, plan) for each in plan.events}
        self._governed = {"track", *(each.type for each in plan.events)}
        self._words = set(_words([each.schemas for each in plan.events])) | set(_words(plan.definitions))

    def __call__(self, event: Event, note: Note, /) -> Event | Blocked:
        """Return the event, a copy without omitted values, or Blocked if it is quarantined. Raises EventError."""
        kind = event["type"]
        named_by = NAMED_BY.get(kind)
        name = event.get(named_by) if named_by else None
        entry = self._entries.get((kind, name)) or self._entries.get((kind, None))
        if entry is None:
            if kind not in self._governed or self._plan.unplanned_events == "allow":
                return event
            return self._handle(event, kind, [Violation(self._plan.unplanned_events, "unplanned_event")], note)
        if entry.accepts(event):
            return event
        violations = [violation for part in entry.parts for violation in part.find(event)]
        return self._handle(event, entry.label, violations, note) if violations else event

    def _handle(self, event: Event, label: str, violations: list[Violation], note: Note) -> Event | Blocked:
        for violation in violations:
            PLAN_VIOLATIONS.labels(self._plan.plan, label, violation.rule).inc()
        detail = self._describe(label, violations)
        match max((violation.action for violation in violations), key=_STRENGTH.__getitem__):
            case "reject":
                raise EventError("plan", "", detail)
            case "quarantine":
                return Blocked(Outcome.QUARANTINED, "plan", detail)
        note("plan", detail)
        return without(event, {each.path for each in violations if each.action == "omit" and each.removable})

    def _describe(self, label: str, violations: list[Violation]) -> str:
        """Describe the violations without values, and without field names that may be personal data."""
        described = [
            f"{self._path_text(it.path)} {it.rule}" if it.path else it.rule
            for it in violations[:MAX_REPORTED_VIOLATIONS]
        ]
        more = (
            [f"{len(violations) - MAX_REPORTED_VIOLATIONS} more"] if len(violations) > MAX_REPORTED_VIOLATIONS else []
        )
        return f"{self._plan.plan}: {label}: {', '.join([*described, *more])}"

    def _path_text(self, path: Path) -> str:
        """Format a path as JSONPath; `*` replaces names that are not in the plan and not of a property or trait."""
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
    """A planned event with compiled schemas."""

    def __init__(self, planned: PlannedEvent, plan: Plan) -> None:
        self.label = planned.label
        self.parts = [_PlanPart(name, schema, planned, plan) for name, schema in planned.schemas.items()]
        # A part that is missing or null counts as empty, only the slow check handles that.
        whole = {
            "definitions": plan.definitions,
            "properties": {part.name: part.whole for part in self.parts},
            "required": [part.name for part in self.parts],
        }
        self._is_valid = compile_schema(whole).is_valid

    def accepts(self, event: Event) -> bool:
        """Return whether the event is valid; also False if only the slow check can decide."""
        try:
            return self._is_valid(event)
        except ValueError:  # too deeply nested to compare
            return False


class _PlanPart:
    """A part of an event with its schema, and a guard that accepts only names in the schema."""

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
        """Find the violations; for a large or deep part only one, which is not removable."""
        content = event.get(self.name) or {}
        large = _is_large(content)
        try:
            violations = [*self._find(content, large=large)]
        except ValueError:
            # The invalid value is more than 255 levels deep, so the validator cannot report it.
            large, violations = True, [Violation(self._on_violation, "too_deep", (self.name,))]
        return [it._replace(action="quarantine") if large and it.action == "omit" else it for it in violations]

    def _find(self, content: Any, *, large: bool) -> Iterator[Violation]:
        for validator, action, rule in self._checks:
            errors = _first(validator, content) if large else validator.iter_errors(content)
            yield from chain.from_iterable(_violations(error, action, rule, self.name) for error in errors)


def _violations(error: ValidationError, action: Action, rule: str, part: str) -> Iterator[Violation]:
    """Yield the violations in a validation error; `rule` replaces its keyword."""
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
    """Return a schema that accepts only named properties; None if the schema names none or handles others itself.

    Names are also collected from subschemas that apply to the same object.
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
    """Yield all names in schemas."""
    if isinstance(schema, dict):
        yield from schema
    for value in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from [value] if isinstance(value, str) else _words(value)


def without(event: Event, paths: Iterable[Path]) -> Event:
    """Return the event without the values at these paths; changed objects are copied."""
    removed = set(paths)
    outermost = [path for path in removed if not any(path[:length] in removed for length in range(1, len(path)))]
    reduced = event.copy()
    copies: dict[Path, Any] = {(): reduced}
    # List items come last, the deepest and then the last index first, so that the remaining paths stay valid.
    for path in sorted(outermost, key=_removal_order):
        for length in range(1, len(path)):
            inner = path[:length]
            if inner not in copies:
                holder = copies[inner[:-1]]
                copies[inner] = holder[inner[-1]] = holder[inner[-1]].copy()
        del copies[path[:-1]][path[-1]]
    return reduced


def _removal_order(path: Path) -> tuple[int, int]:
    last = path[-1]
    return (-len(path), -last) if isinstance(last, int) else (-1_000_000, 0)
