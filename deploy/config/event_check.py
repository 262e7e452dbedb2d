"""A source's rules held against the event spec: a rule that can only make what is no event is a mistake."""

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
    """The mistakes in rules that mend events: what they map to is merged into an event that they match."""
    return _unique(error for rule in _every(rules) for error in _check_repair(rule, last=not rules.match_all))


def check_made(rules: Rules, kinds: Collection[str]) -> list[RuleError]:
    """The mistakes in rules that make whole events, of a source that takes these kinds; none: all."""
    return _unique(error for rule in _every(rules) for error in _check_made(rule, kinds))


def _unique(mistakes: Iterable[RuleError]) -> list[RuleError]:
    """Each once: what all rules share is in each of them."""
    return list({str(mistake): mistake for mistake in mistakes}.values())


def _every(rules: Rules) -> Iterator[Rule]:
    yield from rules.rules
    if rules.otherwise:
        yield rules.otherwise


def _check_repair(rule: Rule, *, last: bool) -> list[RuleError]:
    """`last`: no rule comes after it that could mend what it spoils."""
    if not isinstance(rule.shape, ObjectNode):
        return []
    matched = [kind for kind in TYPES if kind in (derive_selector(rule.condition).types or TYPES)]
    kinds, mistakes = _types(rule.shape, otherwise=matched)
    found = [_check(rule, kind, whole=False, nulls=last) for kind in kinds]
    # What is an event of one of the types is one.
    return mistakes + (found[0] if found and all(found) else [])


def _check_made(rule: Rule, takes: Collection[str]) -> list[RuleError]:
    if not isinstance(rule.shape, ObjectNode):
        return []
    kinds, mistakes = _types(rule.shape, otherwise=TYPES)
    if "type" not in rule.shape.entries:
        message = f"the rule {rule.name!r} does not fill 'type', which {SPEC} requires"
        return [rule.place.error(message, "add type: … to its map")]
    if kinds and takes and not set(kinds) & set(takes):
        place = rule.shape.entries["type"].place
        mistakes.append(place.error(f"the source takes no {kinds[0]} events", f"its kinds are {', '.join(takes)}"))
    if not set(_IDS) & rule.shape.entries.keys():
        message = f"the rule {rule.name!r} fills neither userId nor anonymousId, of which {SPEC} requires one"
        mistakes.append(rule.place.error(message, "add userId: … to its map"))
    found = [_check(rule, kind, whole=True, nulls=True) for kind in kinds]
    return mistakes + (found[0] if found and all(found) else [])


def _types(shape: ObjectNode, otherwise: Collection[str]) -> tuple[list[str], list[RuleError]]:
    """The types that an event may have then, and a mistake where it is none."""
    node = shape.entries.get("type")
    if not isinstance(node, Constant):
        return list(TYPES if node else otherwise), []
    if node.value not in TYPES:
        return [], [node.place.error(f"'type' must be one of {', '.join(TYPES)}")]
    return [node.value], []


def _check(rule: Rule, kind: str, *, whole: bool, nulls: bool) -> list[RuleError]:
    """What is wrong with the event that a rule makes, if it is of this type."""
    assert isinstance(rule.shape, ObjectNode)
    shape = ShapeCheck(SPEC)
    shape.check(rule, _model(kind), whole=whole)
    entries = rule.shape.entries
    empty = {name for name, node in entries.items() if isinstance(node, Constant) and node.value is None}
    for name, field in _model(kind).model_fields.items():
        if nulls and name in empty and field.is_required():
            shape.mistakes.append(entries[name].place.error(f"{name!r} may not be null: {SPEC} requires it"))
    if nulls and empty.issuperset(_IDS):
        message = f"neither userId nor anonymousId is left, of which {SPEC} requires one"
        shape.mistakes.append(entries["anonymousId"].place.error(message))
    return shape.mistakes


@cache
def _model(kind: str) -> type[BaseModel]:
    hints = get_type_hints(MODELS[kind], include_extras=True)
    return create_model(kind, **{name: _field(kind, name, annotation) for name, annotation in hints.items()})


def _field(kind: str, name: str, annotation: Any) -> Any:
    """Return a field as a rule may fill it: the event is normalized after that."""
    optional = get_origin(annotation) is NotRequired
    inner = get_args(annotation)[0] if optional else annotation
    if get_origin(inner) is Literal:
        return Literal[kind], ...
    if name in TIMES:
        inner = Any
    elif name in (*IDS, *NAMES):
        inner = inner | StrictInt
    return (inner | None if optional else inner), None if optional else ...
