"""Find rules that silently lose data: names that no event has, and text that was meant to be a path."""

from collections.abc import Iterator
from typing import Any

from deploy.config.diagnostics import hint_at
from deploy.config.known_names import KnownNames
from deploy.config.payload_check import SENT_ALONG, Findings
from streams.events import SPEC, TYPES
from transforms import RuleError
from transforms.documents import Location
from transforms.model.nodes import (
    And,
    Call,
    Compare,
    Condition,
    Constant,
    Descendants,
    JsonPath,
    Key,
    ListNode,
    Node,
    Not,
    ObjectNode,
    OneOf,
    Or,
    PathNode,
    Rule,
    Template,
)
from transforms.rules import Rules
from transforms.syntax.unparse import path_text

_TYPE, _EVENT = JsonPath((Key("type"),)), JsonPath((Key("event"),))
_FIELDS = SENT_ALONG.union(*SPEC.values())


def check_losses(rules: Rules, known: KnownNames, *, of_events: bool = True) -> Findings:
    """Find the data that rules lose; `of_events` if they map events of the spec, not requests to a webhook."""
    checker = _LossChecker(known, of_events)
    for rule in (*rules.rules, *([rules.otherwise] if rules.otherwise else [])):
        checker.check(rule)
    return Findings(_unique(checker.errors), _unique(checker.warnings))


def _unique(errors: list[RuleError]) -> list[RuleError]:
    """Return each error once: rules share the common map."""
    return list({str(error): error for error in errors}.values())


class _LossChecker:
    def __init__(self, known: KnownNames, of_events: bool) -> None:
        self._known, self._of_events = known, of_events
        self.errors: list[RuleError] = []
        self.warnings: list[RuleError] = []

    def check(self, rule: Rule) -> None:
        """Check one rule."""
        if rule.condition and self._of_events:
            self._condition(rule.condition, rule.place.at("when"))
        if rule.shape:
            self._node(rule.shape, of_event=self._of_events)

    def _node(self, node: Node, *, of_event: bool, literal: bool = False) -> None:
        """Check a node; `of_event` if its paths begin at the event, `literal` if its texts are literal."""
        match node:
            case ObjectNode(entries=entries):
                for each in entries.values():
                    self._node(each, of_event=of_event, literal=literal)
            case ListNode(items=items):
                for each in items:
                    self._node(each, of_event=of_event, literal=literal)
            case PathNode(path=path) if of_event:
                self._path(path, node.place)
            case Template(parts=parts):
                self._template(node, parts, of_event=of_event)
            case Constant(value=str(text)) if not literal:
                self._text(text, node.place)
            case Call():
                self._call(node, of_event=of_event)

    def _call(self, node: Call, *, of_event: bool) -> None:
        directive = node.directive
        if directive.casts:
            self._cast(node)
        for key, argument in node.arguments.items():
            inner = of_event and not (directive.root and key == directive.root.argument)
            for each in argument if isinstance(argument, tuple) else (argument,):
                if isinstance(each, PathNode) and directive.from_segment:
                    self._descendants(each.path, each.place)
                if isinstance(each, Node):
                    self._node(each, of_event=inner, literal=directive.arguments[key].literal)
                elif isinstance(each, Condition) and inner:
                    self._condition(each, node.place.at(key))

    def _cast(self, node: Call) -> None:
        inner = node.arguments.get("value")
        if not isinstance(inner, Call) or not inner.directive.takes_first:
            return
        first = [value for branch in inner.directive.branches for value in inner.arguments[branch]][:-1]
        if not all(isinstance(each, Call) and each.directive.casts for each in first):
            name = node.directive.name
            message = (
                f"{name} of {inner.directive.name}: if {name} cannot use the first value, the others are not tried"
            )
            hint = f'{{"{inner.directive.name}": [{{"{name}": …}}, {{"{name}": …}}]}}'
            self.warnings.append(node.place.error(message, hint, key=True))

    def _template(self, node: Template, parts: tuple[str | JsonPath, ...], *, of_event: bool) -> None:
        for part in parts:
            if isinstance(part, str):
                self._text(part, node.place)
                continue
            self._descendants(part, node.place)
            if of_event:
                self._path(part, node.place)

    def _text(self, text: str, place: Location) -> None:
        if "{{" in text:
            hint = 'write {{properties.name}}, or {"@literal": …} if it is text'
            self.warnings.append(place.error("`{{` is not closed, so that nothing is filled in", hint))

    def _descendants(self, path: JsonPath, place: Location) -> None:
        if Descendants() in path.segments:
            plain = path_text(JsonPath(tuple(each for each in path.segments if each != Descendants())))
            message = f"{path_text(path)} finds a list of all values below; Segment reads `..` as one dot"
            hint = f"write {plain} for Segment's meaning, or the path without @path for the list"
            self.warnings.append(place.error(message, hint))

    def _path(self, path: JsonPath, place: Location) -> None:
        """Warn about a path that no event has, or that resembles a name in the spec or in plans."""
        names = [each.name for each in path.segments[:3] if isinstance(each, Key)]
        if not names or not isinstance(path.segments[0], Key):
            return
        part, *rest = names
        if part not in _FIELDS:
            message = f"no event of the spec has {path_text(JsonPath(path.segments[:1]))!r}"
            self.warnings.append(place.error(message, hint_at(part, sorted(_FIELDS))))
            return
        if names[:2] == ["context", "traits"]:
            part, rest = "traits", rest[1:]
        if rest and (near := self._known.key_near(part, rest[0])):
            message = f"neither a plan nor the spec has {rest[0]!r} in {part}"
            self.warnings.append(place.error(message, f"did you mean {near!r}?"))

    def _condition(self, condition: Condition, place: Location) -> None:
        leaves = list(_leaves(condition))
        tested = {text for leaf in leaves for text in _texts(leaf, _EVENT)}
        for leaf in leaves:
            if operand := getattr(leaf, "operand", None):
                self._path(operand.path, place)
            for text in _texts(leaf, _TYPE):
                if text not in TYPES:
                    message = f"no event has the type {text!r}"
                    self.errors.append(_at_text(place, text, message, hint_at(text, TYPES)))
            for text in _texts(leaf, _EVENT) if getattr(leaf, "operator", "=") == "=" else ():
                if (near := self._known.event_near(text)) and near not in tested:
                    message = f"neither a plan nor the spec has the event {text!r}"
                    self.warnings.append(_at_text(place, text, message, f"did you mean {near!r}?"))


def _leaves(condition: Condition) -> Iterator[Any]:
    """Yield the parts of a condition that have no parts."""
    match condition:
        case And(conditions=parts) | Or(conditions=parts):
            for part in parts:
                yield from _leaves(part)
        case Not(condition=part):
            yield from _leaves(part)
        case _:
            yield condition


def _texts(leaf: Any, field: JsonPath) -> Iterator[str]:
    """Yield the texts with which a comparison compares a field."""
    if not isinstance(leaf, Compare | OneOf) or leaf.operand.path != field or leaf.operand.through:
        return
    for value in leaf.values if isinstance(leaf, OneOf) else (leaf.value,):
        if isinstance(value, str):
            yield value


def _at_text(place: Location, text: str, message: str, hint: str) -> RuleError:
    """Return an error at the place of a text within a condition."""
    written: Any = place.document.data if place.document else ""
    for key in place.keys:
        written = written[key]
    return place.error(message, hint, offset=max(0, str(written).find(text) - 1))
