"""Explain what happens to an event and why, step by step, as data for the terminal and for programs."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from deploy.config.configuration import Configuration
from deploy.config.diagnostics import Place as Keys
from deploy.config.integrations import Integration
from deploy.config.json_diff import Difference, compare, dotted
from deploy.dryrun.masked import make_masked_forwarder
from deploy.dryrun.preview import (
    NO_HEADERS,
    RuleOutcome,
    blocked_reason,
    decide_now,
    decode_event,
    preview_delivery,
    rejected_reason,
)
from streams.events import Event, EventError
from streams.records.format import Headers
from streams.records.rejected import QUARANTINED_REASON
from streams.routing.decision import Decision, Rejection
from streams.routing.ruleset import Route, RuleSet
from streams.sources.source import Source
from streams.steps.source_rules import SourceRulesStep
from streams.steps.step import Blocked
from streams.steps.step import Step as SourceStep
from transforms.documents import Location
from transforms.model.nodes import Call, ListNode, ObjectNode, PathNode, Template
from transforms.model.values import MISSING
from transforms.syntax.unparse import condition_text, path_text
from transforms.tracing import ConditionTrace, RuleTrace, Trace, Tracer


@dataclass(frozen=True, slots=True)
class ExplainedStep:
    """A step that the event passed or not, with the rules that it tried and the changes that it made."""

    name: str
    passed: bool
    detail: str
    rules: Sequence["TriedRule"] = ()
    differences: Sequence[Difference] = ()

    def data(self) -> dict[str, Any]:
        """Return JSON data."""
        data: dict[str, Any] = {"step": self.name, "passed": self.passed, "detail": self.detail}
        if self.rules:
            data["rules"] = [it.data() for it in self.rules]
        if self.differences:
            data["fields"] = [it.data() for it in self.differences]
        return data


@dataclass(frozen=True, slots=True)
class TriedRule:
    """A tried rule; `untrue` lists the smallest false parts of its condition, with the values that they found.

    `fields` are those of the payload if it matched.
    """

    name: str
    where: str
    matched: bool
    condition: str | None
    untrue: Sequence[tuple[str, Any]]
    fields: Sequence["PayloadField"] = ()

    def data(self) -> dict[str, Any]:
        """Return JSON data."""
        return {
            "name": self.name,
            "where": self.where,
            "matched": self.matched,
            "condition": self.condition,
            "untrue": [{"test": test} | _value(found) for test, found in self.untrue],
        }


@dataclass(frozen=True, slots=True)
class PayloadField:
    """A field of a payload: its value (MISSING if left out), and the directive and paths that made it.

    `reads` are paths in the event with the values found; `failed` if the directive cannot use these values.
    """

    name: str
    value: Any
    directive: str | None
    where: str
    reads: Sequence[tuple[str, Any]]
    failed: bool

    def data(self) -> dict[str, Any]:
        """Return JSON data."""
        return {
            "field": self.name,
            **_value(self.value),
            "directive": self.directive,
            "where": self.where,
            "reads": [{"path": path, **_value(value)} for path, value in self.reads],
            "failed": self.failed,
        }


@dataclass(frozen=True, slots=True)
class ExplainedDelivery:
    """The outcome of one rule, with the payload's fields."""

    result: RuleOutcome
    fields: Sequence[PayloadField]

    def data(self) -> dict[str, Any]:
        """Return JSON data."""
        return {
            **self.result.data(),
            "router": self.result.router_data(),
            "fields": [each.data() for each in self.fields],
        }


@dataclass(frozen=True, slots=True)
class Account:
    """The steps, rules and deliveries of one integration."""

    integration: str
    path: str
    steps: Sequence[ExplainedStep]
    rules: Sequence[TriedRule]
    deliveries: Sequence[ExplainedDelivery]

    def data(self) -> dict[str, Any]:
        """Return JSON data, without missing values."""
        return {
            "integration": self.integration,
            "path": self.path,
            "steps": [it.data() for it in self.steps],
            "rules": [it.data() for it in self.rules],
            "deliveries": [it.data() for it in self.deliveries],
        }


@dataclass(frozen=True, slots=True)
class Explanation:
    """The source's steps, and an account per integration unless the event is rejected.

    `rejection` is the reason why the record goes to the rejected topic; quarantined events also have accounts. `source`
    is None if it is unknown. `event` is the event after the source's steps, None if it is invalid.
    """

    steps: Sequence[ExplainedStep]
    accounts: Sequence[Account] = field(default_factory=tuple)
    rejection: Rejection | None = None
    source: str | None = None
    event: Event | None = None

    @property
    def rejected(self) -> bool:
        """Return whether the event is invalid, or rejected by a step of its source."""
        return self.rejection is not None and self.rejection.reason != QUARANTINED_REASON

    def data(self) -> dict[str, Any]:
        """Return JSON data."""
        return {
            "source": self.source,
            "rejected": self.rejection and self.rejection._asdict(),
            "steps": [it.data() for it in self.steps],
            "integrations": [account.data() for account in self.accounts],
        }


def explain(
    configuration: Configuration,
    value: bytes,
    *,
    integrations: Sequence[str] = (),
    source: str | None = None,
    headers: Headers = NO_HEADERS,
    now: datetime | None = None,
    deliveries: bool = True,
) -> Explanation:
    """Explain the outcomes of an event, given as JSON text.

    Without `source`, the source is found like in the router, by the record's `headers` or the write key; if it is not
    found, every integration accepts the event. The event is handled as the first record of the events topic. Without
    `deliveries`, accounts have no deliveries, and vendors' settings are not needed.
    """
    chosen = [configuration.integrations[name] for name in integrations or configuration.integrations]
    return _explain(configuration, value, chosen, source, headers, now, deliveries=deliveries)


def explain_source(
    configuration: Configuration, value: bytes, *, source: str | None = None, headers: Headers = NO_HEADERS
) -> Explanation:
    """Explain how its source's steps change an event, like `explain` without any integration."""
    return _explain(configuration, value, [], source, headers, None, deliveries=False)


def _explain(
    configuration: Configuration,
    value: bytes,
    chosen: Sequence[Integration],
    source: str | None,
    headers: Headers,
    now: datetime | None,
    *,
    deliveries: bool,
) -> Explanation:
    topic = configuration.topics.events
    try:
        incoming = decode_event(value, configuration.sources, source, headers=headers, topic=topic)
    except EventError as error:
        rejection = Rejection(error.code, str(error))
        return Explanation([ExplainedStep("validation", False, rejected_reason(rejection))], rejection=rejection)
    found = incoming.source.name if incoming.source else None
    trace = _Trace()
    trace.steps += [
        ExplainedStep(
            "validation", True, "; ".join([f"a {incoming.event['type']} event", *map(": ".join, incoming.notes)])
        ),
        ExplainedStep("source", True, found or "unknown; assumed to be one that every integration accepts"),
    ]
    routes = [it.route(configuration.topics, takes_new=it.state == "active") for it in chosen]
    rules = RuleSet(configuration.version, configuration.sources, routes)
    decision = decide_now(incoming, rules, now, trace.add_note, trace)
    accounts = (
        []
        if decision.is_rejected
        else [_explain_integration(it, decision, trace, deliveries=deliveries) for it in chosen]
    )
    return Explanation(trace.steps, accounts, decision.rejected, found, decision.event)


class _Trace:
    """Collects the trace of `decide`: the steps of the source, and the checks of each integration."""

    def __init__(self) -> None:
        self.steps: list[ExplainedStep] = []
        self.checks: dict[str, list[ExplainedStep]] = defaultdict(list)
        self.mapped_events: dict[str, Event] = {}
        self._before: Event = {}
        self._tried: list[TriedRule] = []
        self._notes: list[str] = []

    def add_note(self, reason: str, detail: str) -> None:
        """Collect a note of the current step."""
        self._notes.append(f"{reason}: {detail}")

    def before_step(self, step: SourceStep, event: Event) -> None:
        """Implement StepTrace."""
        self._before, self._notes = deepcopy(event), []
        rules = step.rules if isinstance(step, SourceRulesStep) else None
        self._tried = [_tried_rule(each) for each in Tracer(rules).trace(self._before)] if rules else []

    def after_step(self, step: SourceStep, taken: Event | Blocked | EventError) -> None:
        """Implement StepTrace."""
        if isinstance(taken, EventError):
            self.steps.append(ExplainedStep(step.name, False, str(taken), self._tried))
        elif isinstance(taken, Blocked):
            detail = f"{taken.outcome}: {blocked_reason(taken)}"
            self.steps.append(ExplainedStep(step.name, False, "; ".join([detail, *self._notes]), self._tried))
        else:
            differences = list(compare(self._before, taken))
            detail = "; ".join(self._notes) or ("see below" if differences else "nothing to change")
            self.steps.append(ExplainedStep(step.name, True, detail, self._tried, differences))

    def before_checks(self, route: Route, event: Event, source: Source | None) -> None:
        """Implement DecisionTrace: also keep the checks after the first that fails."""
        for check in route.checks:
            if detail := check.describe(event, source):
                self.checks[route.integration].append(ExplainedStep(check.name, check(event, source) is None, detail))

    def before_rules(self, route: Route, event: Event) -> None:
        """Implement DecisionTrace."""
        self.mapped_events[route.integration] = event


def _explain_integration(integration: Integration, decision: Decision, trace: _Trace, *, deliveries: bool) -> Account:
    name, path = integration.name, integration.document.path
    event = trace.mapped_events.get(name)
    tried = Tracer(integration.rules).trace(event) if event is not None else []
    explained = _explain_deliveries(integration, decision, tried) if deliveries else []
    return Account(name, path, trace.checks[name], [_tried_rule(each) for each in tried], explained)


def _explain_deliveries(
    integration: Integration, decision: Decision, tried: Sequence[RuleTrace]
) -> list[ExplainedDelivery]:
    forwarder = make_masked_forwarder(integration)
    taken = [
        preview_delivery(decided, forwarder)
        for decided in decision.outcomes
        if decided.route.integration == integration.name
    ]
    payloads = {each.rule.name: each.payload for each in tried if each.matched}
    explained = []
    for each in taken:
        payload = payloads.get(each.rule)
        explained.append(ExplainedDelivery(each, list(_fields(payload, ())) if payload else ()))
    return explained


def _tried_rule(tried: RuleTrace) -> TriedRule:
    rule, condition = tried.rule, tried.condition
    untrue: list[tuple[str, Any]] = []
    if condition is not None and not tried.matched:
        untrue = [(condition_text(part.condition), part.found) for part in condition.blame()]
    text = condition_text(condition.condition) if condition else None
    fields = list(_fields(tried.payload, ())) if tried.matched and tried.payload else []
    return TriedRule(rule.name, _where(rule.place), tried.matched, text, untrue, fields)


def _fields(trace: Trace, at: Keys) -> Iterator[PayloadField]:
    """Yield a row per value of a payload; a traced directive that makes an object or list is shown as its parts."""
    node = trace.node
    if isinstance(node, ObjectNode | ListNode):
        for key, inner in trace.inputs.items():
            yield from _fields(inner, (*at, key))
        return
    if isinstance(node, Call) and trace.value is not MISSING:
        items = {key: inner for key, inner in trace.inputs.items() if isinstance(key, int)}
        if node.directive.root and items:
            for key, inner in items.items():
                yield from _fields(inner, (*at, key))
            return
        if trace.taken and isinstance(trace.taken.node, ObjectNode | ListNode | Call):
            yield from _fields(trace.taken, at)
            return
    directive = node.directive.name if isinstance(node, Call) else "@template" if isinstance(node, Template) else None
    reads = [(path_text(path), value) for path, value in trace.reads]
    tests = [path for test in trace.tests for path in _conditions(test)]
    failed = trace.failed_within
    if isinstance(node, PathNode):
        directive = "path"
    yield PayloadField(dotted(at), trace.value, directive, _where(node.place), [*tests, *reads], failed)


def _conditions(test: ConditionTrace) -> Iterator[tuple[str, Any]]:
    if not test.parts:
        yield condition_text(test.condition), test.found
    for part in test.parts:
        yield from _conditions(part)


def _where(place: Location) -> str:
    return f"{place.path}:{place.line}"


def _value(value: Any) -> dict[str, Any]:
    return {} if value is MISSING else {"value": value}
