"""Compare a source's rules with the event spec: a rule that can only produce invalid events is an error."""

from collections.abc import Collection, Iterable, Iterator
from functools import cache
from typing import Any, Literal, NotRequired, get_args, get_origin

from pydantic import BaseModel, StrictInt, create_model
from typing_extensions import get_type_hints

from deploy.config.shape_check import ShapeCheck
from streams.events import IDS, MODELS, NAMES, TIMES, TYPES
from transforms import RuleError
from transforms.codegen.rule_index import derive_selector
from transforms.model.nodes import Constant, ObjectNode, Rule
from transforms.rules import Rules

SPEC = "the event spec"
_IDS = ("userId", "anonymousId")


def check_repairs(rules: Rules) -> list[RuleError]:
    """Return the errors in rules that repair events: their result is merged into the event that they match."""
    return _unique(error for rule in _every(rules) for error in _check_repair(rule, last=not rules.match_all))


def check_created(rules: Rules, kinds: Collection[str]) -> list[RuleError]:
    """Return the errors in rules that make whole events; `kinds` are those that the source accepts, empty for all."""
    return _unique(error for rule in _every(rules) for error in _check_created(rule, kinds))


def _unique(errors: Iterable[RuleError]) -> list[RuleError]:
    """Return each error once: the errors of a map that rules share occur in each of them."""
    return list({str(error): error for error in errors}.values())


def _every(rules: Rules) -> Iterator[Rule]:
    yield from rules.rules
    if rules.otherwise:
        yield rules.otherwise


def _check_repair(rule: Rule, *, last: bool) -> list[RuleError]:
    """Check a rule that repairs events; `last` if no later rule can correct its result."""
    if not isinstance(rule.shape, ObjectNode):
        return []
    matched = [kind for kind in TYPES if kind in (derive_selector(rule.condition).types or TYPES)]
    kinds, errors = _types(rule.shape, otherwise=matched)
    found = [_check(rule, kind, whole=False, nulls=last) for kind in kinds]
    # The rule is valid if its event is valid as one of the types.
    return errors + (found[0] if found and all(found) else [])


def _check_created(rule: Rule, accepted: Collection[str]) -> list[RuleError]:
    if not isinstance(rule.shape, ObjectNode):
        return []
    kinds, errors = _types(rule.shape, otherwise=TYPES)
    if "type" not in rule.shape.entries:
        message = f"the rule {rule.name!r} does not fill 'type', which {SPEC} requires"
        return [rule.place.error(message, "add type: … to its map")]
    if kinds and accepted and not set(kinds) & set(accepted):
        place = rule.shape.entries["type"].place
        errors.append(
            place.error(f"the source does not accept {kinds[0]} events", f"its kinds are {', '.join(accepted)}")
        )
    if not set(_IDS) & rule.shape.entries.keys():
        message = f"the rule {rule.name!r} fills neither userId nor anonymousId; {SPEC} requires one of them"
        errors.append(rule.place.error(message, "add userId: … to its map"))
    found = [_check(rule, kind, whole=True, nulls=True) for kind in kinds]
    return errors + (found[0] if found and all(found) else [])


def _types(shape: ObjectNode, otherwise: Collection[str]) -> tuple[list[str], list[RuleError]]:
    """Return the types that the event may have, and an error if the type is invalid."""
    node = shape.entries.get("type")
    if not isinstance(node, Constant):
        return list(TYPES if node else otherwise), []
    if node.value not in TYPES:
        return [], [node.place.error(f"'type' must be one of {', '.join(TYPES)}")]
    return [node.value], []


def _check(rule: Rule, kind: str, *, whole: bool, nulls: bool) -> list[RuleError]:
    """Return the errors in the event that a rule makes, if it is of this type."""
    assert isinstance(rule.shape, ObjectNode)
    shape = ShapeCheck(SPEC)
    shape.check(rule, _model(kind), whole=whole)
    entries = rule.shape.entries
    empty = {name for name, node in entries.items() if isinstance(node, Constant) and node.value is None}
    for name, field in _model(kind).model_fields.items():
        if nulls and name in empty and field.is_required():
            shape.errors.append(entries[name].place.error(f"{name!r} must not be null: {SPEC} requires it"))
    if nulls and empty.issuperset(_IDS):
        message = f"the rule removes both userId and anonymousId; {SPEC} requires one of them"
        shape.errors.append(entries["anonymousId"].place.error(message))
    return shape.errors


@cache
def _model(kind: str) -> type[BaseModel]:
    hints = get_type_hints(MODELS[kind], include_extras=True)
    return create_model(kind, **{name: _field(kind, name, annotation) for name, annotation in hints.items()})


def _field(kind: str, name: str, annotation: Any) -> Any:
    """Return the field as a rule may fill it, before the event is normalized."""
    optional = get_origin(annotation) is NotRequired
    inner = get_args(annotation)[0] if optional else annotation
    if get_origin(inner) is Literal:
        return Literal[kind], ...
    if name in TIMES:
        inner = Any
    elif name in (*IDS, *NAMES):
        inner = inner | StrictInt
    return (inner | None if optional else inner), None if optional else ...
