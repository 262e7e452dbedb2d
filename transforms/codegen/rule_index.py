"""Index rules by `type` and `event`, so that an event's rules are looked up instead of tried one after another."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from transforms.model.nodes import And, Compare, Condition, JsonPath, Key, OneOf, Operand, Or
from transforms.model.values import words

_TYPE = Operand(JsonPath((Key("type"),)))
_EVENT = Operand(JsonPath((Key("event"),)))
_EVENT_WORDS = Operand(JsonPath((Key("event"),)), "words")
Texts = frozenset[str] | None
"""The texts that a field may have; None if any."""


@dataclass(frozen=True, slots=True)
class Selector:
    """The event types and names that a rule can match, and the rest of its condition.

    `events` has exact names, `words` names in any spelling, and `spellings` the spellings in the rule.
    """

    types: Texts
    events: Texts
    rest: Condition | None
    words: Texts = None
    spellings: frozenset[str] = frozenset()

    @property
    def impossible(self) -> bool:
        """Whether no event can match because two parts of the condition exclude each other."""
        return frozenset() in (self.types, self.events, self.words)

    def allows(self, name: str) -> bool:
        """Return whether an event with this name may match."""
        return (self.events is None or name in self.events) and (self.words is None or words(name) in self.words)

    def covers(self, other: "Selector") -> bool:
        """Return whether this rule matches every event that the other one matches."""
        if self.rest is not None or not _within(other.types, self.types):
            return False
        if self.words is not None and other.words is None:
            return other.events is not None and all(map(self.allows, other.events))
        return _within(other.events, self.events) and _within(other.words, self.words)


def derive_selector(condition: Condition | None) -> Selector:
    """Derive from a condition which types and event names can match."""
    if condition is None:
        return Selector(None, None, None)
    found: dict[Operand, Texts] = dict.fromkeys((_TYPE, _EVENT, _EVENT_WORDS))
    spellings: frozenset[str] = frozenset()
    rest: list[Condition] = []
    for part in _conjuncts(condition):
        for field, before in found.items():
            texts = _texts(part, field)
            if field is _EVENT_WORDS and texts is not None:
                spellings |= texts
                texts = frozenset(map(words, texts))
            found[field] = _both(before, texts)
        if not any(_is_exact(part, field) for field in found):
            rest.append(part)
    left = (And(tuple(rest)) if len(rest) > 1 else rest[0]) if rest else None
    types, events, in_words = found.values()
    if events is not None and in_words is not None:
        events, in_words = frozenset(name for name in events if words(name) in in_words), None
    return Selector(types, events, left, in_words, spellings)


def _conjuncts(condition: Condition) -> Iterator[Condition]:
    if isinstance(condition, And):
        for each in condition.conditions:
            yield from _conjuncts(each)
    else:
        yield condition


def _texts(condition: Condition, field: Operand) -> Texts:
    """Return the texts with which the condition can hold; None if it can hold with any."""
    match condition:
        case Compare(operand=operand, operator="=", value=str(text)) if operand == field:
            return frozenset({text})
        case OneOf(operand=operand, values=values) if operand == field:
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


def _is_exact(condition: Condition, field: Operand) -> bool:
    """Return whether the condition tests nothing but the texts of the field."""
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


ByEvent = tuple[dict[str, tuple[Any, ...]], dict[str, tuple[Any, ...]], tuple[Any, ...]]
"""Targets by exact event name, by words, and for any other event."""


def make_table(selectors: Sequence[Selector], targets: Sequence[Any]) -> tuple[dict[str, ByEvent], ByEvent]:
    """Return the candidate targets by type, then by event name, in order; and the targets for any other type."""
    types = dict.fromkeys(text for each in selectors for text in sorted(each.types or ()))
    pairs = list(zip(selectors, targets, strict=True))
    return (
        {
            name: _by_event([(each, target) for each, target in pairs if _within(frozenset({name}), each.types)])
            for name in types
        },
        _by_event([(each, target) for each, target in pairs if each.types is None]),
    )


def _by_event(pairs: Sequence[tuple[Selector, Any]]) -> ByEvent:
    # A name in words is looked up exactly first, since most events have the spelling of the rule.
    names = {name for each, _ in pairs for name in (*(each.events or ()), *each.spellings)}
    spelled = {text for each, _ in pairs for text in each.words or ()}
    return (
        {name: tuple(target for each, target in pairs if each.allows(name)) for name in sorted(names)},
        {
            text: tuple(
                target for each, target in pairs if each.events is None and (each.words is None or text in each.words)
            )
            for text in sorted(spelled)
        },
        tuple(target for each, target in pairs if each.events is None and each.words is None),
    )
