"""Find which fields of events the rules of a configuration read, without running them.

Paths are those of the ledger's catalog: `properties.products[].sku`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.config.configuration import Configuration
from deploy.ledger.event_story import short_place
from streams.ledger.catalog import MAX_DEPTH, PARTS, safe_name
from transforms.codegen.rule_index import Selector, derive_selector
from transforms.documents import Location
from transforms.model.nodes import (
    And,
    Call,
    Condition,
    Descendants,
    Function,
    JsonPath,
    Key,
    ListNode,
    Node,
    Not,
    ObjectNode,
    Or,
    PathNode,
    Rule,
    Several,
    Template,
)
from transforms.rules import Rules

WHOLE_EVENT = ""
"""The path of the event itself."""


@dataclass(frozen=True, slots=True)
class FieldRead:
    """A field that a rule reads.

    Attributes:
        path: The field's path; everything below it is read as well.
        reader: The integration, or `source NAME` for the rules of a source.
        rule: The name of the rule.
        where: The file and line.
        preset: Whether the line is a preset's.
        hashed: Whether the value is hashed.
        selector: The events that the rule may match.
        sources: The sources whose events the rule gets; None for all.

    """

    path: str
    reader: str
    rule: str
    where: str
    preset: bool
    hashed: bool
    selector: Selector
    sources: frozenset[str] | None

    def may_read(self, type_: str, event: str | None, sources: Sequence[str]) -> bool:
        """Return whether the rule may match events of this type and name from one of these sources."""
        return (
            (self.selector.types is None or type_ in self.selector.types)
            and self.selector.allows(event or "")
            and (self.sources is None or not self.sources.isdisjoint(sources))
        )

    def covers(self, path: str) -> bool:
        """Return whether the rule reads this field, a part of it, or an object that contains it."""
        return is_within(path, self.path) or is_within(self.path, path)


def is_within(path: str, outer: str) -> bool:
    """Return whether a field is another one, or below it."""
    return outer in (WHOLE_EVENT, path) or (path.startswith(outer) and path[len(outer)] in ".[")


def find_field_reads(configuration: Configuration) -> list[FieldRead]:
    """Return the fields that the rules of integrations and sources read."""
    found: list[FieldRead] = []
    for integration in configuration.integrations.values():
        document = integration.document.path
        found += _of_rules(integration.rules, integration.name, document, integration.sources, configuration.folder)
    for name, source in configuration.source_rules.items():
        # The rules of a webhook read requests, not events.
        if source.rules is not None and not configuration.source_files[name].webhook:
            document, only = source.document.path, frozenset({name})
            found += _of_rules(source.rules, f"source {name}", document, only, configuration.folder)
    return found


def _of_rules(
    rules: Rules, reader: str, document: str, sources: frozenset[str] | None, folder: Path
) -> Iterator[FieldRead]:
    for rule in (*rules.rules, *([rules.otherwise] if rules.otherwise else [])):
        selector = derive_selector(rule.condition)
        seen: set[tuple[str, bool]] = set()
        for path, place, hashed in _of_rule(rule):
            if (path, hashed) not in seen:
                seen.add((path, hashed))
                where = short_place(f"{place.path}:{place.line}", folder) or ""
                yield FieldRead(path, reader, rule.name, where, place.path != document, hashed, selector, sources)


def _of_rule(rule: Rule) -> Iterator[tuple[str, Location, bool]]:
    walker = _Walker()
    if rule.condition is not None:
        place = rule.place.at("when")
        yield from ((path, place, False) for path in walker.condition(rule.condition, (WHOLE_EVENT,)))
    if rule.shape is not None:
        yield from walker.node(rule.shape, (WHOLE_EVENT,), hashed=False)


class _Walker:
    """Walks over the nodes of a rule; `bases` are the fields at which their paths may start."""

    def node(self, node: Node, bases: tuple[str, ...], *, hashed: bool) -> Iterator[tuple[str, Location, bool]]:
        match node:
            case ObjectNode(entries=entries):
                for each in entries.values():
                    yield from self.node(each, bases, hashed=hashed)
            case ListNode(items=items):
                for each in items:
                    yield from self.node(each, bases, hashed=hashed)
            case PathNode(path=path):
                yield from ((text, node.place, hashed) for text in _texts(path, bases))
            case Template(parts=parts):
                for part in parts:
                    if isinstance(part, JsonPath):
                        yield from ((text, node.place, hashed) for text in _texts(part, bases))
            case Call():
                yield from self._call(node, bases, hashed=hashed)

    def _call(self, node: Call, bases: tuple[str, ...], *, hashed: bool) -> Iterator[tuple[str, Location, bool]]:
        directive = node.directive
        hashed = hashed or directive.hash_algorithm is not None
        for key, argument in node.arguments.items():
            start = bases
            if directive.root and key == directive.root.argument:
                at = node.arguments.get(directive.root.at)
                below = "[]" if directive.root.per_item else ""
                found = self.node(at, bases, hashed=hashed) if isinstance(at, Node) else ()
                # `..[]` would not be in the catalog.
                start = tuple(dict.fromkeys(f"{path.removesuffix('[]')}{below}" for path, _, _ in found))
            for each in argument if isinstance(argument, tuple) else (argument,):
                if isinstance(each, Node):
                    yield from self.node(each, start, hashed=hashed)
                elif isinstance(each, And | Or | Not) or hasattr(each, "operand"):
                    yield from ((path, node.place, False) for path in self.condition(each, start))

    def condition(self, condition: Condition, bases: tuple[str, ...]) -> Iterator[str]:
        match condition:
            case And(conditions=parts) | Or(conditions=parts):
                for part in parts:
                    yield from self.condition(part, bases)
            case Not(condition=part):
                yield from self.condition(part, bases)
            case _:
                yield from _texts(condition.operand.path, bases)


def _texts(path: JsonPath, bases: tuple[str, ...]) -> Iterator[str]:
    """Yield a path as the catalog writes it, from each base; only as deep as the catalog goes."""
    for base in bases:
        texts = [base]
        for segment in path.segments:
            if isinstance(segment, Descendants | Function):
                break
            if isinstance(segment, Key):
                texts = [_below(text, segment.name) for text in texts]
            elif isinstance(segment, Several) and isinstance(segment.keys[0], str):
                texts = [_below(text, str(key)) for text in texts for key in segment.keys]
            else:
                texts = [text if text.endswith("[]") else f"{text}[]" for text in texts]
        yield from (_cut(text) for text in texts)


def _below(text: str, name: str) -> str:
    return f"{text}.{safe_name(name)}" if text else name


def _cut(text: str) -> str:
    """Return a path cut to the catalog's depth, without `[]` at its end."""
    steps = text.split(".")
    return ".".join(steps[: MAX_DEPTH + 1]).removesuffix("[]") if steps[0] in PARTS else text
