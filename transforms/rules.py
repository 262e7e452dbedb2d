"""The rules of an integration's file: read, merged with a preset's, checked and compiled."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from transforms import dispatch
from transforms.codegen import conditions
from transforms.codegen.emitter import Emitter
from transforms.codegen.writer import Module
from transforms.directives import DIRECTIVES
from transforms.documents import Document
from transforms.errors import RuleError
from transforms.parser import Parser
from transforms.tree import And, Call, Condition, Node, Place, Remove, Shape

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_. -]*")
_RULE_KEYS = ("name", "when", "map", "drop")


class Drop(Enum):
    """What a rule says instead of a payload: the integration does not get this event."""

    DROP = "drop"

    def __repr__(self) -> str:
        return "DROP"


DROP: Final = Drop.DROP


@dataclass(frozen=True, slots=True)
class Failure:
    """A mapping that raised or gave no object: which rule and where, and why, without any value of the event."""

    rule: str
    line: int | None
    column: int | None
    path: str | None
    error: str


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule as it was read; `shape` is what it maps to, None if it drops the event."""

    name: str
    place: Place
    condition: Condition | None
    shape: Node | None
    reach: dispatch.Reach


Result = Sequence[tuple[str, Any]]


class Rules:
    """The rules of one file, compiled.

    `apply(event)` gives `(rule name, payload)` for the first rule that matches, or for all if `match_all`; if none
    does, for `otherwise`. A payload is a dict, DROP (with the name "" where `otherwise` drops) or a Failure. It never
    raises.
    """

    def __init__(self, rules: Sequence[Rule], otherwise: Rule | None, title: str, *, match_all: bool) -> None:
        self.rules = tuple(rules)
        self.otherwise = otherwise
        self.match_all = match_all
        self.names = tuple(rule.name for rule in rules)
        self._module = self._compile(title)
        self.source = self._module.source
        self.apply: Callable[[Any], Result] = self._module.namespace["apply"]

    def _compile(self, title: str) -> Module:
        out = Emitter()
        functions = [self._rule_function(out, rule, f"rule_{number}") for number, rule in enumerate(self.rules, 1)]
        otherwise = self._rule_function(out, self.otherwise, "otherwise") if self.otherwise else None
        self._apply_function(out, otherwise)
        out.namespace["failure"] = self._failure
        module = out.compile(title)
        named = [(rule.name, module.namespace[function]) for rule, function in zip(self.rules, functions, strict=True)]
        by_type, other_types = dispatch.table([rule.reach for rule in self.rules], named)
        module.namespace |= {"BY_TYPE": by_type, "OTHER_TYPES": other_types}
        return module

    @staticmethod
    def _rule_function(out: Emitter, rule: Rule, name: str) -> str:
        """A function from an event to the payload; to None where the rest of the condition does not hold."""
        out.place = rule.place
        with out.function_body(f"def {name}(event):"):
            out.line(repr(rule.name))
            rest = rule.reach.rest
            for condition in rest.conditions if isinstance(rest, And) else [rest] if rest else []:
                with out.indented(f"if not {conditions.test(out, condition)}:"):
                    out.line("return None")
            if rule.shape is None:
                out.namespace["DROP"] = DROP
                out.line("return DROP")
            elif isinstance(rule.shape, Shape):
                out.line(f"return {out.emit(rule.shape).code}")
            else:
                out.line(f"return {out.call(_object, out.emit(rule.shape).code).code}")
        out.line()
        out.line()
        return name

    def _apply_function(self, out: Emitter, otherwise: str | None) -> None:
        out.place = None
        out.namespace["AttributeError"] = AttributeError
        out.namespace["TypeError"] = TypeError
        out.namespace["Exception"] = Exception
        out.namespace["OTHERWISE"] = (("", DROP),)
        with out.function_body("def apply(event):"):
            with out.indented("try:"):
                out.line("by_event, others = BY_TYPE.get(event.get('type'), OTHER_TYPES)")
                out.line("rules = by_event.get(event.get('event'), others)")
            with out.indented("except (AttributeError, TypeError):"):
                out.line(f"rules = {out.function(_unusual)}(event, BY_TYPE, OTHER_TYPES)")
            if self.match_all:
                out.line("results = []")
            with out.indented("for name, rule in rules:"):
                with out.indented("try:"):
                    out.line("payload = rule(event)")
                with out.indented("except Exception as error:"):
                    out.line("payload = failure(name, error)")
                with out.indented("if payload is not None:"):
                    out.line("results.append((name, payload))" if self.match_all else "return ((name, payload),)")
            if self.match_all:
                with out.indented("if results:"):
                    out.line("return results")
            if otherwise:
                with out.indented("try:"):
                    out.line(f"return (('otherwise', {otherwise}(event)),)")
                with out.indented("except Exception as error:"):
                    out.line("return (('otherwise', failure('otherwise', error)),)")
            else:
                out.line("return OTHERWISE")

    def _failure(self, rule: str, error: Exception) -> Failure:
        place = self._module.place(error)
        message = str(error) if isinstance(error, _NoObjectError) else f"the mapping raised {type(error).__name__}"
        if place is None:
            return Failure(rule, None, None, None, message)
        return Failure(rule, place.line, place.column, place.path, message)


class _NoObjectError(Exception):
    """A rule's map, which is a directive, gave something else than an object."""


def _object(payload: Any) -> Any:
    if type(payload) is not dict:
        raise _NoObjectError(f"the map gave {Parser.type_of(payload)}, not an object")
    return payload


def _unusual(event: Any, by_type: Mapping[Any, dispatch.ByEvent], other_types: dispatch.ByEvent) -> Sequence[Any]:
    """The rules for an event whose type or name is a list or an object, or that is no object itself."""
    kind, name = (event.get("type"), event.get("event")) if type(event) is dict else (None, None)
    by_event, others = by_type.get(kind, other_types) if isinstance(kind, str) else other_types
    return by_event.get(name, others) if isinstance(name, str) else others


def read_rules(document: Document, *, preset: Document | None = None) -> tuple[Rules | None, list[RuleError]]:
    """The rules of a file over those of its preset, or every mistake in them in the order of their lines."""
    errors: list[RuleError] = []
    own = _File(document, errors)
    base = _File(preset, errors) if preset else None
    common = merge(base.common if base else None, own.common)
    rules = _in_place(own.rules, base.rules if base else [])
    otherwise = own.otherwise if own.says_otherwise or base is None else base.otherwise
    match_all = own.match_all if own.match_all is not None or base is None else base.match_all
    finished = [rule.finish(common, errors) for rule in rules if rule.sound]
    last = otherwise.finish(common, errors) if otherwise else None
    _refuse_what_never_matches(finished, errors, first_only=not match_all)
    if errors:
        return None, sorted(errors, key=lambda error: (error.path or "", error.line or 0, error.column or 0))
    try:
        return Rules(finished, last, document.path, match_all=bool(match_all)), []
    except RuleError as error:
        return None, [document.error(error.message, error.hint)]


def merge(base: Node | None, over: Node | None) -> Node | None:
    """One map over another, key by key and deeply where both are plain objects; `@remove: true` takes a key out."""
    if base is None or over is None:
        return _without_removed(over if base is None else base)
    if not isinstance(base, Shape) or not isinstance(over, Shape):
        return Call(over.place, DIRECTIVES["@merge"], {"objects": (base, over)})
    entries = dict(base.entries)
    for key, node in over.entries.items():
        below = entries.get(key)
        if isinstance(node, Remove):
            entries.pop(key, None)
        elif isinstance(node, Shape) and isinstance(below, Shape):
            entries[key] = merge(below, node) or node
        else:
            entries[key] = _without_removed(node) or node
    return Shape(over.place, entries)


def _without_removed(node: Node | None) -> Node | None:
    if not isinstance(node, Shape):
        return node
    kept = {key: _without_removed(each) for key, each in node.entries.items() if not isinstance(each, Remove)}
    return Shape(node.place, {key: each for key, each in kept.items() if each is not None})


@dataclass(frozen=True, slots=True)
class _Draft:
    """A rule before the file's common map is put under its own."""

    name: str
    place: Place
    condition: Condition | None
    own: Node | None
    drop: bool
    sound: bool = True

    def finish(self, common: Node | None, errors: list[RuleError]) -> Rule:
        shape = None
        if not self.drop:
            shape = merge(common, self.own)
            if shape is None:
                errors.append(
                    self.place.error("the rule says neither what to send nor to drop", "add map: or drop: true")
                )
        return Rule(self.name, self.place, self.condition, shape, dispatch.reach(self.condition))


class _File:
    """What one file says: its common map, rules, otherwise and match."""

    def __init__(self, document: Document, errors: list[RuleError]) -> None:
        self._errors = errors
        self._root = Place(document)
        self.common: Node | None = None
        self.rules: list[_Draft] = []
        self.otherwise: _Draft | None = None
        self.match_all: bool | None = None
        data = document.data
        self.says_otherwise = isinstance(data, dict) and "otherwise" in data
        if not isinstance(data, dict):
            errors.append(
                self._root.error(f"an integration is an object, not {Parser.type_of(data)}", "write key: value")
            )
            return
        self.common = self._map(data["map"], self._root.at("map")) if "map" in data else None
        self._read_rules(data.get("rules", []), self._root.at("rules"))
        if self.says_otherwise:
            self._read_otherwise(data["otherwise"], self._root.at("otherwise"))
        if "match" in data:
            self._read_match(data["match"], self._root.at("match"))

    def _read_match(self, data: Any, place: Place) -> None:
        if data in ("first", "all"):
            self.match_all = data == "all"
        else:
            hint = Parser.nearest(data, ("first", "all"))
            self._errors.append(place.error(f"match is first or all, not {Parser.shown(data)}", hint))

    def _read_otherwise(self, data: Any, place: Place) -> None:
        if data == "drop":
            return
        if isinstance(data, dict):
            self.otherwise = _Draft("otherwise", place, None, self._map(data, place), drop=False)
            return
        self._errors.append(place.error(f"otherwise is drop or a map, not {Parser.shown(data)}"))

    def _read_rules(self, data: Any, place: Place) -> None:
        if not isinstance(data, list):
            self._errors.append(place.error(f"rules is a list, not {Parser.type_of(data)}", "begin each with `- `"))
            return
        seen: dict[str, Place] = {}
        for number, item in enumerate(data, 1):
            rule = self._rule(item, place.at(number - 1), number)
            if rule is None:
                continue
            if rule.name in seen:
                line = seen[rule.name].line
                self._errors.append(
                    rule.place.error(f"another rule is called {rule.name!r}, on line {line}", "give each its own name")
                )
            seen.setdefault(rule.name, rule.place)
            self.rules.append(rule)

    def _rule(self, data: Any, place: Place, number: int) -> _Draft | None:
        if not isinstance(data, dict):
            self._errors.append(place.error(f"a rule is an object, not {Parser.type_of(data)}", "name, when and map"))
            return None
        mistakes = len(self._errors)
        for key in data:
            if key not in _RULE_KEYS:
                hint = Parser.nearest(key, _RULE_KEYS) or f"there are {', '.join(_RULE_KEYS)}"
                self._errors.append(place.at(key).error(f"a rule has no {key!r}", hint, key=True))
        parser = Parser(self._errors)
        condition = None
        if "when" in data:
            condition = parser.collect(parser.condition, place.at("when"), data["when"], place.at("when"))
        drop = data.get("drop", False)
        if not isinstance(drop, bool):
            self._errors.append(place.at("drop").error(f"drop is true or false, not {Parser.shown(drop)}"))
        if drop and "map" in data:
            self._errors.append(
                place.at("drop").error("a rule that drops has no map", "take one of them out", key=True)
            )
        own = self._map(data["map"], place.at("map")) if "map" in data else None
        name = self._name(data, place, number)
        return _Draft(name, place, condition, own, drop is True, sound=len(self._errors) == mistakes)

    def _name(self, data: Mapping[str, Any], place: Place, number: int) -> str:
        name = data.get("name", f"rule-{number}")
        if name == "otherwise":
            self._errors.append(place.at("name").error("the name 'otherwise' is taken", "give the rule another"))
            return "otherwise"
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            self._errors.append(
                place.at("name").error(
                    f"{Parser.shown(name)} is no name for a rule", "letters, digits, spaces, `.`, `_` and `-`"
                )
            )
            return f"rule-{number}"
        return name

    def _map(self, data: Any, place: Place) -> Node | None:
        if not isinstance(data, dict):
            self._errors.append(place.error(f"a map is an object, not {Parser.type_of(data)}", "write key: value"))
            return None
        parser = Parser(self._errors)
        node: Node = parser.collect(parser.value, place, data, place)
        return node


def _in_place(own: Sequence[_Draft], base: Sequence[_Draft]) -> list[_Draft]:
    """A rule of the file in place of the preset's of that name; the others before the preset's."""
    base_names = {rule.name for rule in base}
    by_name = {rule.name: rule for rule in own}
    return [rule for rule in own if rule.name not in base_names] + [by_name.get(rule.name, rule) for rule in base]


def _refuse_what_never_matches(rules: Sequence[Rule], errors: list[RuleError], *, first_only: bool) -> None:
    for number, rule in enumerate(rules):
        if rule.reach.impossible:
            errors.append(
                rule.place.at("when").error(f"the rule {rule.name!r} can never match", "its tests exclude each other")
            )
            continue
        before = (
            other
            for other in rules[:number]
            if other.place.document is rule.place.document and other.reach.covers(rule.reach)
        )
        if first_only and (earlier := next(before, None)):
            message = f"the rule {rule.name!r} can never match: {earlier.name!r} always does before it"
            errors.append(rule.place.error(message, f"put it before line {earlier.place.line}, or say match: all"))
