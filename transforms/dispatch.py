"""Which rules an event's `type` and `event` leave in question: looked up in a table, not tried one after another."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from transforms.tree import And, Compare, Condition, Name, OneOf, Or, Path

_TYPE = Path((Name("type"),))
_EVENT = Path((Name("event"),))
Texts = frozenset[str] | None
"""The values that a field may have; None: any."""


@dataclass(frozen=True, slots=True)
class Reach:
    """The types and event names at which a rule may match, and what of its condition is then still to be tested."""

    types: Texts
    events: Texts
    rest: Condition | None

    @property
    def impossible(self) -> bool:
        """Whether no event can match: two tests exclude each other."""
        return self.types == frozenset() or self.events == frozenset()

    def covers(self, other: "Reach") -> bool:
        """Whether it matches whatever the other one does."""
        return self.rest is None and _within(other.types, self.types) and _within(other.events, self.events)


def reach(condition: Condition | None) -> Reach:
    """What a condition says of `type` and `event`."""
    if condition is None:
        return Reach(None, None, None)
    types: Texts = None
    events: Texts = None
    rest: list[Condition] = []
    for part in _conjuncts(condition):
        its_types, its_events = _texts(part, _TYPE), _texts(part, _EVENT)
        types, events = _both(types, its_types), _both(events, its_events)
        if not (_is_exact(part, _TYPE) or _is_exact(part, _EVENT)):
            rest.append(part)
    return Reach(types, events, (And(tuple(rest)) if len(rest) > 1 else rest[0]) if rest else None)


def _conjuncts(condition: Condition) -> Iterator[Condition]:
    if isinstance(condition, And):
        for each in condition.conditions:
            yield from _conjuncts(each)
    else:
        yield condition


def _texts(condition: Condition, field: Path) -> Texts:
    """The texts that the field must have one of for the condition to hold; None if it may hold with any."""
    match condition:
        case Compare(operand=operand, operator="=", value=str(text)) if operand.path == field and not operand.through:
            return frozenset({text})
        case OneOf(operand=operand, values=values) if operand.path == field and not operand.through:
            texts = frozenset(value for value in values if isinstance(value, str))
            return texts if len(texts) == len(set(values)) else None
        case And(conditions=conditions):
            found: Texts = None
            for each in conditions:
                found = _both(found, _texts(each, field))
            return found
        case Or(conditions=conditions):
            parts = [_texts(each, field) for each in conditions]
            return None if None in parts else frozenset[str]().union(*(part for part in parts if part is not None))
    return None


def _is_exact(condition: Condition, field: Path) -> bool:
    """Whether the condition says nothing but which texts the field may have."""
    match condition:
        case Compare() | OneOf():
            return _texts(condition, field) is not None
        case Or(conditions=conditions):
            return all(_is_exact(each, field) for each in conditions)
    return False


def _both(left: Texts, right: Texts) -> Texts:
    if left is None or right is None:
        return right if left is None else left
    return left & right


def _within(inner: Texts, outer: Texts) -> bool:
    return outer is None or (inner is not None and inner <= outer)


ByEvent = tuple[dict[str, tuple[Any, ...]], tuple[Any, ...]]


def table(reaches: Sequence[Reach], targets: Sequence[Any]) -> tuple[dict[str, ByEvent], ByEvent]:
    """By type, then by event name, the targets in question in order; beside each table those for any other value."""
    types = dict.fromkeys(text for each in reaches for text in sorted(each.types or ()))
    pairs = list(zip(reaches, targets, strict=True))
    return (
        {
            name: _by_event([(each, target) for each, target in pairs if _within(frozenset({name}), each.types)])
            for name in types
        },
        _by_event([(each, target) for each, target in pairs if each.types is None]),
    )


def _by_event(pairs: Sequence[tuple[Reach, Any]]) -> ByEvent:
    by_event: dict[str, list[Any]] = {text: [] for each, _ in pairs for text in each.events or ()}
    others: list[Any] = []
    for each, target in pairs:
        for text in by_event if each.events is None else each.events:
            by_event[text].append(target)
        if each.events is None:
            others.append(target)
    return {text: tuple(found) for text, found in by_event.items()}, tuple(others)
