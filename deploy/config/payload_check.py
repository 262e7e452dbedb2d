"""Compare rules with the vendor's payload: unknown fields, missing fields, wrong types and personal data.

A rule's result depends on the event, so only a value that is wrong for every event is an error.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from deploy.config.diagnostics import hint_at
from deploy.config.shape_check import ShapeCheck, entry_of, find_reads
from forwarders.api.contract import Category, Contract
from streams.events import SPEC
from transforms import RuleError
from transforms.codegen.rule_index import derive_selector
from transforms.documents import Location
from transforms.model.nodes import JsonPath, Key, PathNode, Rule
from transforms.rules import Rules
from transforms.syntax.unparse import path_text

PERSONAL = frozenset(
    {"email", "phone", "firstName", "first_name", "lastName", "last_name", "ssn"}
    | {"birthday", "birthdate", "dateOfBirth", "date_of_birth"}
)
"""Names in the event spec, and their usual spellings, of data that identifies a person."""

SENT_ALONG = frozenset(
    {"type", "userId", "anonymousId", "messageId", "context", "integrations", "channel", "version", "writeKey"}
    | {"timestamp", "originalTimestamp", "sentAt", "receivedAt", "projectId", "_metadata", "turnout"}
)
"""Fields that any event may have, in the spec or from the usual clients."""


@dataclass(slots=True)
class Findings:
    """The errors and warnings of a check."""

    errors: list[RuleError] = field(default_factory=list)
    warnings: list[RuleError] = field(default_factory=list)


def check_payload(rules: Rules, contract: Contract) -> Findings:
    """Compare every rule of an integration with its forwarder's contract."""
    checker = _PayloadChecker(contract)
    for rule in (*rules.rules, *([rules.otherwise] if rules.otherwise else [])):
        checker.check(rule)
    unique = {str(error): error for error in checker.shape.errors}
    return Findings(list(unique.values()), [error for error in checker.unknown.values() if error])


class _PayloadChecker:
    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._advertising = contract.category is Category.ADVERTISING
        self.shape = ShapeCheck(contract.title)
        self.unknown: dict[Location, RuleError | None] = {}
        """The warning about each path; None if a rule that shares the path matches events that have it."""

    def check(self, rule: Rule) -> None:
        """Check one rule."""
        if rule.shape is None:
            return
        if self._contract.payload is not None:
            self.shape.check(rule, self._contract.payload)
        types = derive_selector(rule.condition).types or SPEC.keys()
        for node, hashed in find_reads(rule.shape, hashed=False):
            warning = self._spec(node, types & SPEC.keys())
            if self.unknown.setdefault(node.place, warning):
                self.unknown[node.place] = warning
            if self._advertising and not hashed and node.place not in self.shape.unhashed:
                self._personal(node)

    def _personal(self, node: PathNode) -> None:
        vendor = self._contract.title
        names = [segment.name for segment in node.path.segments if isinstance(segment, Key)]
        if names and names[-1] in PERSONAL:
            message = f"{path_text(node.path)} is personal data; send it to {vendor} only hashed"
            self._wrong(entry_of(node), message, '{"@hash": {value: …, normalize: …}}')
        elif names[-1:] == ["traits"]:
            message = f"{path_text(node.path)} may contain personal data; send it to {vendor} only hashed"
            self._wrong(entry_of(node), message, "name each trait to send")

    def _spec(self, node: PathNode, types: AbstractSet[str]) -> RuleError | None:
        """Return a warning if events of these types do not have a path."""
        first = node.path.segments[0] if node.path.segments else None
        if not types or not isinstance(first, Key) or first.name in SENT_ALONG:
            return None
        if any(first.name in SPEC[it] for it in types):
            return None
        kind = f"{next(iter(types))} event" if len(types) == 1 else "event"
        having = sorted(it for it in SPEC if first.name in SPEC[it])
        known = sorted(SENT_ALONG.union(*(SPEC[it] for it in types)))
        hint = f"{' and '.join(having)} events have it" if having else hint_at(first.name, known)
        message = f"no {kind} of the spec has {path_text(JsonPath(node.path.segments[:1]))!r}"
        return node.place.error(message, hint)

    def _wrong(self, place: Location, message: str, hint: str | None = None) -> None:
        self.shape.errors.append(place.error(message, hint))
