"""Read the rules of an integration, merge them with its preset, check and compile them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transforms.codegen.module import DROP, NoObjectError, compile_rules
from transforms.codegen.rule_index import derive_selector
from transforms.directives import DIRECTIVES
from transforms.documents import Document, Location, RuleError
from transforms.model.nodes import Call, Node, ObjectNode, Remove, Rule
from transforms.syntax.rule_file import RuleFile, WrittenRule

__all__ = ["DROP", "Failure", "Rule", "Rules", "merge", "read_rules"]


@dataclass(frozen=True, slots=True)
class Failure:
    """A map that raised or did not return an object: the rule, its location and the reason, without event data."""

    rule: str
    line: int | None
    column: int | None
    path: str | None
    error: str


class Rules:
    """The compiled rules of one integration.

    `apply(event)` returns `(rule name, payload)` for the first rule that matches, or for all with `match_all`; if no
    rule matches, for `otherwise`. A payload is a dict, DROP (with the name "" if `otherwise` drops) or a Failure.
    `apply` never raises.
    """

    def __init__(self, rules: Sequence[Rule], otherwise: Rule | None, title: str, *, match_all: bool) -> None:
        self.rules = tuple(rules)
        self.otherwise = otherwise
        self.match_all = match_all
        self.names = tuple(rule.name for rule in rules)
        self._module = compile_rules(rules, otherwise, self._failure, title, match_all=match_all)
        self.source = self._module.source
        self.apply: Callable[[Any], Sequence[tuple[str, Any]]] = self._module.namespace["apply"]
        functions = self._module.namespace
        self._by_function: dict[Any, Rule | None] = {functions["otherwise"]: otherwise}
        self._by_function |= {functions[f"rule_{number}"]: rule for number, rule in enumerate(rules, 1)}

    def candidates(self, event: Mapping[str, Any]) -> Sequence[tuple[str, Rule | None]]:
        """Return the rules that may take events with this type and name, in order, with their names in results.

        The last one is `otherwise`; None if it drops.
        """
        return [(name, self._by_function[function]) for name, function in self._module.namespace["find"](event)]

    def _failure(self, rule: str, error: Exception) -> Failure:
        place = self._module.place(error) or Location()
        message = str(error) if isinstance(error, NoObjectError) else f"the mapping raised {type(error).__name__}"
        return Failure(rule, place.line, place.column, place.path, message)


def read_rules(document: Document, *, preset: Document | None = None) -> tuple[Rules | None, list[RuleError]]:
    """Return the rules of a file merged over its preset, or every error in them, in the order of their lines."""
    errors: list[RuleError] = []
    own = RuleFile(document, errors, DIRECTIVES)
    base = RuleFile(preset, errors, DIRECTIVES, "preset-rule-") if preset else None
    common = merge(base.common if base else None, own.common)
    written = _in_place(own.rules, base.rules) if base else own.rules
    otherwise = own.otherwise if own.says_otherwise or base is None else base.otherwise
    match_all = own.match_all if own.match_all is not None or base is None else base.match_all
    rules = [_finish(rule, common, errors) for rule in written if rule.sound]
    last = _finish(otherwise, common, errors) if otherwise else None
    _refuse_what_never_matches(rules, errors, first_only=not match_all)
    if errors:
        return None, sorted(errors, key=lambda error: (error.path or "", error.line or 0, error.column or 0))
    try:
        return Rules(rules, last, document.path, match_all=bool(match_all)), []
    except RuleError as error:
        return None, [document.error(error.message, error.hint)]


def merge(base: Node | None, over: Node | None) -> Node | None:
    """Merge one map over another, deeply if both are plain objects; `@remove: true` removes a key."""
    if base is None or over is None:
        return _without_removed(over if base is None else base)
    if not isinstance(base, ObjectNode) or not isinstance(over, ObjectNode):
        return Call(over.place, DIRECTIVES["@merge"], {"objects": (base, over)})
    entries = dict(base.entries)
    for key, node in over.entries.items():
        below = entries.get(key)
        if isinstance(node, Remove):
            entries.pop(key, None)
        elif isinstance(node, ObjectNode) and isinstance(below, ObjectNode):
            entries[key] = merge(below, node) or node
        else:
            entries[key] = _without_removed(node) or node
    return ObjectNode(over.place, entries)


def _without_removed(node: Node | None) -> Node | None:
    if not isinstance(node, ObjectNode):
        return node
    kept = {key: _without_removed(each) for key, each in node.entries.items() if not isinstance(each, Remove)}
    return ObjectNode(node.place, {key: each for key, each in kept.items() if each is not None})


def _in_place(own: Sequence[WrittenRule], base: Sequence[WrittenRule]) -> list[WrittenRule]:
    """Replace the preset's rules by the file's rules with the same name; put its other rules first."""
    base_names = {rule.name for rule in base}
    by_name = {rule.name: rule for rule in own}
    return [rule for rule in own if rule.name not in base_names] + [by_name.get(rule.name, rule) for rule in base]


def _finish(written: WrittenRule, common: Node | None, errors: list[RuleError]) -> Rule:
    """Return the rule with its map merged over the common map."""
    shape = None if written.drop else merge(common, written.own)
    if shape is None and not written.drop:
        errors.append(written.place.error("the rule has neither map nor drop", "add map: or drop: true"))
    return Rule(written.name, written.place, written.condition, shape)


def _refuse_what_never_matches(rules: Sequence[Rule], errors: list[RuleError], *, first_only: bool) -> None:
    """Report rules that can never match: by themselves, or because an earlier rule of the file matches first."""
    selectors = [derive_selector(rule.condition) for rule in rules]
    for number, (rule, reach) in enumerate(zip(rules, selectors, strict=True)):
        if reach.impossible:
            message = f"the rule {rule.name!r} can never match"
            errors.append(rule.place.at("when").error(message, "its tests exclude each other"))
            continue
        before = zip(rules[:number], selectors, strict=False)
        covering = (each for each, its in before if each.place.document is rule.place.document and its.covers(reach))
        if first_only and (earlier := next(covering, None)):
            message = f"the rule {rule.name!r} can never match: {earlier.name!r} always matches first"
            errors.append(rule.place.error(message, f"put it before line {earlier.place.line}, or set match: all"))
