"""What becomes of one event and why, step by step, as JSON data that the terminal or a program can show."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from deploy.config.configuration import Configuration
from deploy.config.integrations import Integration
from deploy.config.mistakes import Place as Keys
from deploy.rehearsal.comparison import Difference, compare, dotted
from deploy.rehearsal.offline import offline
from deploy.rehearsal.preview import Prepared, Taken, find_source_of, held_reason, rehearse
from streams.consent import Assumption, Consent
from streams.events import Event, EventError, Note
from streams.gate import in_sample
from streams.repair import Repair
from streams.ruleset import Route
from streams.steps import Held
from streams.steps import Step as SourceStep
from transforms.tracing import ConditionTrace, RuleTrace, Trace, Tracer
from transforms.tree import MISSING, Call, Items, Place, Read, Shape, Template
from transforms.wording import condition_text, path_text
from turnout_tracking.optout import opts_out


@dataclass(frozen=True, slots=True)
class Step:
    """A test that the event passed, or not; `rules` are those it tried, `differences` what it made of the event."""

    name: str
    passed: bool
    detail: str
    rules: Sequence["TriedRule"] = ()
    differences: Sequence[Difference] = ()

    def data(self) -> dict[str, Any]:
        """As JSON data."""
        data: dict[str, Any] = {"step": self.name, "passed": self.passed, "detail": self.detail}
        if self.rules:
            data["rules"] = [it.data() for it in self.rules]
        if self.differences:
            data["fields"] = [it.data() for it in self.differences]
        return data


@dataclass(frozen=True, slots=True)
class TriedRule:
    """A rule; `untrue` are the smallest parts of a condition for which it did not match, with what they found."""

    name: str
    where: str
    matched: bool
    condition: str | None
    untrue: Sequence[tuple[str, Any]]

    def data(self) -> dict[str, Any]:
        """As JSON data."""
        return {
            "name": self.name,
            "where": self.where,
            "matched": self.matched,
            "condition": self.condition,
            "untrue": [{"test": test} | _value(found) for test, found in self.untrue],
        }


@dataclass(frozen=True, slots=True)
class PayloadField:
    """One field of a payload: its value (MISSING: it is left out), and how it came to it.

    `reads` are the event's paths with what they found; `failed`: a cast or the like that could do nothing with them.
    """

    name: str
    value: Any
    directive: str | None
    where: str
    reads: Sequence[tuple[str, Any]]
    failed: bool

    def data(self) -> dict[str, Any]:
        """As JSON data."""
        return {
            "field": self.name,
            **_value(self.value),
            "directive": self.directive,
            "where": self.where,
            "reads": [{"path": path, **_value(value)} for path, value in self.reads],
            "failed": self.failed,
        }


@dataclass(frozen=True, slots=True)
class Delivery:
    """What one rule made of the event."""

    taken: Taken
    fields: Sequence[PayloadField]

    def data(self) -> dict[str, Any]:
        """As JSON data."""
        return {**self.taken.data(), "fields": [each.data() for each in self.fields]}


@dataclass(frozen=True, slots=True)
class Account:
    """What becomes of the event for one integration."""

    integration: str
    path: str
    steps: Sequence[Step]
    rules: Sequence[TriedRule]
    deliveries: Sequence[Delivery]

    def data(self) -> dict[str, Any]:
        """As JSON data; a value that is missing is left out."""
        return {
            "integration": self.integration,
            "path": self.path,
            "steps": [it.data() for it in self.steps],
            "rules": [it.data() for it in self.rules],
            "deliveries": [it.data() for it in self.deliveries],
        }


@dataclass(frozen=True, slots=True)
class Explanation:
    """The steps before the integrations, and an account for each of them; none where the event is rejected."""

    steps: Sequence[Step]
    accounts: Sequence[Account] = field(default_factory=tuple)
    rejected: bool = False

    def data(self) -> dict[str, Any]:
        """As JSON data."""
        return {
            "steps": [it.data() for it in self.steps],
            "integrations": [account.data() for account in self.accounts],
        }


def explain(
    configuration: Configuration,
    event: Any,
    *,
    integrations: Sequence[str] = (),
    source: str | None = None,
    now: datetime | None = None,
) -> Explanation:
    """What becomes of an event. Without a `source` it is found as the router does; where it cannot be, any will do."""
    found = find_source_of(configuration, event, source)
    try:
        whole = Prepared.of(event, now, found and replace(found, steps=()))
    except EventError as error:
        return Explanation([Step("validation", False, f"{error} ({error.code})")], rejected=True)
    steps = [
        Step("validation", True, "; ".join([f"a {whole.event['type']} event", *map(": ".join, whole.notes)])),
        Step("source", True, found.name if found else "not known here, so taken to be one that each integration takes"),
    ]
    try:
        watched = found and replace(found, steps=tuple(_Watched(step, steps) for step in found.steps))
        prepared = Prepared.of(event, now, watched)
    except EventError:
        return Explanation(steps, rejected=True)
    chosen = [configuration.integrations[name] for name in integrations or configuration.integrations]
    return Explanation(steps, [_account(configuration, it, prepared) for it in chosen])


class _Watched:
    """A step of the source that leaves an account of what it did in `seen`."""

    def __init__(self, step: SourceStep, seen: list[Step]) -> None:
        self.name = step.name
        self._step, self._seen = step, seen

    def __call__(self, event: Event, note: Note, /) -> Event | Held:
        """As the step."""
        before = deepcopy(event)
        remarks: list[str] = []

        def remark(reason: str, detail: str) -> None:
            remarks.append(f"{reason}: {detail}")
            note(reason, detail)

        tried: list[TriedRule] = []
        if isinstance(self._step, Repair):
            tried = [_tried(each) for each in Tracer(self._step.rules).trace(before)]
        try:
            taken = self._step(event, remark)
        except EventError as error:
            self._seen.append(Step(self.name, False, str(error), tried))
            raise
        if isinstance(taken, Held):
            detail = f"{taken.outcome}: {held_reason(taken)}"
            self._seen.append(Step(self.name, False, "; ".join([detail, *remarks]), tried))
            return taken
        differences = list(compare(before, taken))
        detail = "; ".join(remarks) or ("see below" if differences else "nothing to change")
        self._seen.append(Step(self.name, True, detail, tried, differences))
        return taken


def _account(configuration: Configuration, integration: Integration, prepared: Prepared) -> Account:
    route = integration.route(configuration.topics)
    steps = list(_steps(integration, route, prepared))
    if integration.state == "draining":
        return Account(integration.name, integration.document.path, steps, (), ())
    taken = rehearse(route, offline(integration), prepared)
    if prepared.held or not all(step.passed for step in steps):
        return Account(integration.name, integration.document.path, steps, (), [Delivery(each, ()) for each in taken])
    tried = Tracer(integration.rules).trace(prepared.event)
    payloads = {each.rule.name: each.payload for each in tried if each.matched}
    deliveries = []
    for each in taken:
        payload = payloads.get(each.rule)
        deliveries.append(Delivery(each, list(_fields(payload, ())) if payload else ()))
    return Account(integration.name, integration.document.path, steps, [_tried(each) for each in tried], deliveries)


def _steps(integration: Integration, route: Route, prepared: Prepared) -> Iterator[Step]:
    event, source = prepared.event, prepared.source
    if integration.state == "draining":
        yield Step("state", False, "draining: nothing new is taken up")
    if route.sources is not None and source is not None:
        yield Step("source", source.name in route.sources, f"of {', '.join(sorted(route.sources))}")
    if event.get("integrations"):
        opted_out = opts_out(route.names, event["integrations"])
        yield Step("opt-out", not opted_out, f"the event's integrations say {'no' if opted_out else 'yes'}")
    if consent := route.consent:
        yield _consent_step(consent, event, (source and source.assume) or consent.assume)
    if route.sample:
        yield Step("sample", in_sample(route.sample, event), f"{route.sample.rate:.0%} by {route.sample.by}")


def _consent_step(consent: Consent, event: Event, assume: Assumption) -> Step:
    lacking = consent.lacking(event, assume)
    wanted = f"{consent.match} of {', '.join(category.name for category in consent.categories)}"
    found = f"{lacking} not granted" if lacking else "granted"
    return Step("consent", not lacking, f"{wanted}: {found}; without information {assume}")


def _tried(tried: RuleTrace) -> TriedRule:
    rule, condition = tried.rule, tried.condition
    untrue: list[tuple[str, Any]] = []
    if condition is not None and not tried.matched:
        untrue = [(condition_text(part.condition), part.found) for part in condition.blame()]
    text = condition_text(condition.condition) if condition else None
    return TriedRule(rule.name, _where(rule.place), tried.matched, text, untrue)


def _fields(trace: Trace, at: Keys) -> Iterator[PayloadField]:
    """A row for each value of a payload; a directive that gives an object or list, as its parts where it is traced."""
    node = trace.node
    if isinstance(node, Shape | Items):
        for key, inner in trace.inputs.items():
            yield from _fields(inner, (*at, key))
        return
    if isinstance(node, Call) and trace.value is not MISSING:
        items = {key: inner for key, inner in trace.inputs.items() if isinstance(key, int)}
        if node.directive.rooted and items:
            for key, inner in items.items():
                yield from _fields(inner, (*at, key))
            return
        taken = trace.inputs.get("then") or trace.inputs.get("else") or trace.inputs.get("mapping")
        if node.directive.name in {"@if", "@transform"} and taken and isinstance(taken.node, Shape | Items | Call):
            yield from _fields(taken, at)
            return
    directive = node.directive.name if isinstance(node, Call) else "@template" if isinstance(node, Template) else None
    reads = [(path_text(path), value) for path, value in trace.reads]
    tests = [path for test in trace.tests for path in _tested(test)]
    failed = trace.failed_within
    if isinstance(node, Read):
        directive = "path"
    yield PayloadField(dotted(at), trace.value, directive, _where(node.place), [*tests, *reads], failed)


def _tested(test: ConditionTrace) -> Iterator[tuple[str, Any]]:
    if not test.parts:
        yield condition_text(test.condition), test.found
    for part in test.parts:
        yield from _tested(part)


def _where(place: Place) -> str:
    return f"{place.path}:{place.line}"


def _value(value: Any) -> dict[str, Any]:
    return {} if value is MISSING else {"value": value}
