"""Run rule tests, compare the results with the expectations, and measure coverage."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import orjson

from deploy.config.configuration import Configuration
from deploy.config.diagnostics import Place as Keys
from deploy.config.integrations import Integration
from deploy.config.json_diff import ABSENT, Difference, compare
from deploy.config.models.tests import Case, Expectation, SourceCase, SourceExpectation
from deploy.config.sources import SourceRules
from deploy.dryrun.masked import make_masked_forwarder
from deploy.dryrun.preview import (
    FIXED_NOW,
    NO_PLACE,
    RuleOutcome,
    blocked_reason,
    decide_now,
    decode_event,
    encode,
    preview_delivery,
)
from streams import events
from streams.events import Event, EventError
from streams.routing.decision import Decision
from streams.routing.decoding import IncomingEvent
from streams.routing.ruleset import RuleSet
from streams.sources.source import Source, Sources
from streams.steps.enrichment.memory import memory_of, remembering
from streams.steps.step import Blocked, run_steps
from transforms.documents import Document, Location
from transforms.model.nodes import Call, ObjectNode
from transforms.rules import Rule
from transforms.syntax.unparse import condition_text
from transforms.tracing import RuleTrace, Tracer, calls

Subject = Integration | SourceRules


@dataclass(frozen=True, slots=True)
class Entry:
    """A test at `keys` of a document, for an integration or for the rules of a source."""

    subject: Subject
    document: Document
    keys: tuple[str | int, ...]
    case: Case | SourceCase

    @property
    def name(self) -> str:
        """The test's name, or its number."""
        return self.case.name or f"test {int(self.keys[-1]) + 1}"

    @property
    def line(self) -> int:
        """The first line of the test."""
        return self.document.where(*self.keys)[0]


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a test: the actual `results`, and their `differences` from the expected ones.

    `lines` maps each different field of the payload to the line of the rule that makes it; `notes` help to see why the
    test failed.
    """

    entry: Entry
    results: Sequence[Mapping[str, Any]]
    differences: Sequence[Difference]
    lines: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @property
    def passed(self) -> bool:
        """Return whether the test passed."""
        return not self.differences


@dataclass(slots=True)
class Coverage:
    """The rules and directives of an integration's or source's file that tests reached."""

    subject: Subject
    rules: set[str] = field(default_factory=set)
    directives: set[Location] = field(default_factory=set)

    def add(self, traces: Iterable[RuleTrace]) -> None:
        """Record the rules and directives that an event reached."""
        for tried in traces:
            if tried.matched:
                self.rules.add(tried.rule.name)
            if tried.payload:
                self.directives |= {it.node.place for it in tried.payload.walk() if isinstance(it.node, Call)}

    def unreached_rules(self) -> list[Rule]:
        """Return the rules that matched in no test."""
        return [rule for rule in self._rules() if rule.name not in self.rules]

    def unreached_directives(self) -> list[Call]:
        """Return the directives that ran in no test."""
        found = {call.place: call for rule in self._rules() for call in calls(rule.shape) if self._own(call.place)}
        return [call for place, call in found.items() if place not in self.directives]

    def _rules(self) -> list[Rule]:
        rules = self.subject.rules
        if rules is None:
            return []
        every = [*rules.rules, rules.otherwise] if rules.otherwise else rules.rules
        return [rule for rule in every if self._own(rule.place)]

    def _own(self, place: Location) -> bool:
        return place.document is self.subject.document


class RuleTestRunner:
    """Run the tests of one integration."""

    def __init__(self, configuration: Configuration, integration: Integration) -> None:
        self.subject = integration
        self._sources = configuration.sources
        self._route = integration.route(configuration.topics)
        self._forwarder = make_masked_forwarder(integration)
        self._tracer = Tracer(integration.rules)

    def run(self, entry: Entry) -> Result:
        """Run a test and compare the results with the expected ones."""
        case = entry.case
        assert isinstance(case, Case)
        results = [each.data() for each in self._actual(case)]
        differences = list(_compare_results(case.expect, results))
        if not differences:
            return Result(entry, results, differences)
        lines = {each.field: line for each in differences if (line := self._line(each, results))}
        return Result(entry, results, differences, lines, list(self._notes(case, results)))

    def _actual(self, case: Case) -> list[RuleOutcome]:
        decision = self._decide(case)
        if isinstance(decision, EventError):
            return [RuleOutcome("", "rejected", str(decision))]
        if decision.rejected and decision.is_rejected:
            return [RuleOutcome("", "rejected", decision.rejected.detail)]
        return [preview_delivery(decided, self._forwarder) for decided in decision.outcomes]

    def cover(self, entry: Entry, coverage: Coverage) -> None:
        """Record the rules and directives that a test's event reaches."""
        assert isinstance(entry.case, Case)
        decision = self._decide(entry.case)
        if isinstance(decision, Decision) and any(not decided.held for decided in decision.outcomes):
            coverage.add(self._tracer.trace(decision.event))

    def _decide(self, case: Case) -> Decision | EventError:
        """Decide about a test's event; without a source in the test, every integration accepts the event."""
        sources = self._sources if case.source else Sources()
        try:
            incoming = decode_event(encode(case.event), sources, case.source)
        except EventError as error:
            return error
        with remembering(sources.memory, case.memory):
            return decide_now(incoming, RuleSet("", sources, [self._route]), case.now or FIXED_NOW)

    def _line(self, difference: Difference, results: Sequence[Mapping[str, Any]]) -> str | None:
        """Return the line of the rule that makes a field of the payload."""
        number, *keys = difference.place if isinstance(difference.place[0], int) else (0, *difference.place)
        if keys[:1] != ["payload"]:
            return None
        every = [*self.subject.rules.rules, self.subject.rules.otherwise]
        rule = next((each for each in every if each and each.name == results[int(number)]["rule"]), None)
        node = rule and rule.shape
        for key in keys[1:]:
            if not isinstance(node, ObjectNode) or key not in node.entries:
                break
            node = node.entries[str(key)]
        return _where(node.place) if node else None

    def _notes(self, case: Case, results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
        rules = {rule.name: rule for rule in self.subject.rules.rules}
        matched = [result["rule"] for result in results if result["rule"] in rules]
        yield from (f"rule {name}, {_where(rules[name].place)}" for name in matched)
        yield from (result["reason"] for result in results if result["reason"])
        wanted = [case.expect] if isinstance(case.expect, Expectation) else case.expect or []
        for name in (each.rule for each in wanted if each.rule in rules and each.rule not in matched):
            assert name is not None
            yield f"rule {name}, {_where(rules[name].place)}: {self._why_not(case, rules[name])}"

    def _why_not(self, case: Case, rule: Rule) -> str:
        """Return why a rule did not match a test's event."""
        decision = self._decide(case)
        if isinstance(decision, EventError) or decision.is_rejected:
            return "the event is rejected before the rules run"
        event = decision.event
        condition = self._tracer.condition(rule.condition, event) if rule.condition else None
        if condition is None or condition.holds:
            return "its condition matches, but an earlier rule matches first"
        return f"not true: {'; '.join(condition_text(part.condition) for part in condition.blame())}"


class SourceTestRunner:
    """Run the tests of one source's steps."""

    def __init__(self, source: Source, rules: SourceRules) -> None:
        self.subject = rules
        self._source = source
        self._tracer = Tracer(rules.rules) if rules.rules else None

    def run(self, entry: Entry) -> Result:
        """Run a test and compare the results with the expected ones."""
        assert isinstance(entry.case, SourceCase)
        with remembering(memory_of(self._source.steps), entry.case.memory):
            results = [self._actual(event) for event in self._events(entry.case)]
        differences = list(_compare_results(entry.case.expect, results))
        return Result(entry, results, differences, {}, [it["reason"] for it in results if it["reason"]])

    def _events(self, case: SourceCase) -> Iterator[Event | EventError | None]:
        """Yield the test's event, or the events that the webhook makes; None for a request without events."""
        if self._source.webhook is None:
            yield deepcopy(case.event)
        else:
            yield from (made.event for made in self._source.webhook.make(deepcopy(case.event)))

    def _actual(self, event: Event | EventError | None) -> dict[str, Any]:
        notes: list[str] = []
        result: dict[str, Any] = {"outcome": "kept", "event": None, "reason": "", "notes": notes}

        def note(reason: str, detail: str) -> None:
            notes.append(f"{reason}: {detail}")

        if event is None:
            return result | {"outcome": "filtered", "reason": "no rule makes an event"}
        try:
            if isinstance(event, EventError):
                raise event
            incoming = self._decode(event)
            for each_note in incoming.notes:
                note(*each_note)
            normal = incoming.event
            # A derived messageId need not be in the expected event.
            has_derived_id = normal["messageId"] == events.make_message_id(normal, NO_PLACE)
            taken = run_steps(self._source.steps, normal, note)
        except EventError as error:
            return result | {"outcome": "rejected", "reason": str(error)}
        if isinstance(taken, Blocked):
            return result | {"outcome": str(taken.outcome), "reason": blocked_reason(taken)}
        if has_derived_id:
            taken.pop("messageId", None)
        return result | {"event": taken}

    def _decode(self, event: Event) -> IncomingEvent:
        return decode_event(encode(event), Sources([self._source]), self._source.name)

    def cover(self, entry: Entry, coverage: Coverage) -> None:
        """Record the rules and directives that a test's event reaches."""
        if self._tracer is None:
            return
        event = deepcopy(entry.case.event)
        with suppress(EventError):
            if not self._source.webhook:
                event = self._decode(event).event
            coverage.add(self._tracer.trace(event))


def _where(place: Location) -> str:
    return f"{place.path}:{place.line}"


def _compare_results(
    expect: Expectation | SourceExpectation | Sequence[Expectation | SourceExpectation] | None,
    results: Sequence[Mapping[str, Any]],
) -> Iterator[Difference]:
    wanted = [expect] if isinstance(expect, Expectation | SourceExpectation) else expect
    if wanted is None:
        yield Difference(("expect",), ABSENT, [dict(result) for result in results])
    elif len(wanted) != len(results):
        yield Difference(("deliveries",), len(wanted), len(results))
    else:
        for number, (each, result) in enumerate(zip(wanted, results, strict=True)):
            yield from _differences(each, result, (number,) if len(wanted) > 1 else ())


def _differences(expect: Expectation | SourceExpectation, result: Mapping[str, Any], at: Keys) -> Iterator[Difference]:
    """Yield the differences from the expectation; only its given fields are compared."""
    for name in ("outcome", "rule", "reason", "payload", "event", "notes"):
        if name in expect.model_fields_set:
            yield from compare(getattr(expect, name), result[name], (*at, name))
    if not isinstance(expect, Expectation) or "request" not in expect.model_fields_set:
        return
    request = result["request"]
    place: Keys = (*at, "request")
    if expect.request is None or request is None:
        wanted = expect.request and expect.request.model_dump(exclude_unset=True)
        yield from compare(wanted, request, place)
        return
    for name in ("method", "url", "body"):
        if name in expect.request.model_fields_set:
            wanted, found = getattr(expect.request, name), request[name]
            if isinstance(wanted, str) and not isinstance(found, str):
                wanted = _from_json(wanted)
            yield from compare(wanted, found, (*place, name))
    headers = {name.lower(): value for name, value in request["headers"].items()}
    for name, value in expect.request.headers.items():
        yield from compare(value, headers.get(name.lower(), ABSENT), (*place, "headers", name))


def _from_json(text: str) -> Any:
    """Return the value of a body that is expected as JSON text; other text is returned unchanged."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def expected(result: Result) -> Any:
    """Return an expectation that makes the test pass: its own keys, or rule and payload if it has none."""
    written = _at(result.entry.document.data, (*result.entry.keys, "expect"))
    wanted = written if isinstance(written, list) else [written] if written else []
    if len(wanted) != len(result.results):
        wanted = [{}] * len(result.results)
    given = [_expectation(each, result) for each, result in zip(wanted, result.results, strict=True)]
    return given[0] if len(given) == 1 and not isinstance(written, list) else given


def _expectation(written: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    if not written:
        keys = ("event",) if result.get("event") else ("rule", "payload") if result.get("request") else None
        return {key: result[key] for key in keys or ("outcome", "reason")}
    given = {key: result[key] for key in written}
    if isinstance(written.get("request"), dict) and result["request"]:
        request, keys = result["request"], written["request"]
        given["request"] = {key: request[key] for key in keys or request}
        if keys.get("headers"):
            given["request"]["headers"] = {
                name: value
                for name, value in request["headers"].items()
                if name.lower() in {each.lower() for each in keys["headers"]}
            }
    return given


def _at(data: Any, keys: Keys) -> Any:
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else data[key]
    return data
