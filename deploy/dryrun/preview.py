"""Preview an integration's requests for an event with the workers' own functions, without sending anything."""

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from pydantic import ValidationError

from deploy.config.configuration import ConfigurationError
from deploy.config.diagnostics import find_issues
from deploy.config.models.integration import IntegrationFile
from deploy.dryrun.masked import AnyForwarder, make_forwarder
from forwarders import registry
from forwarders.api.contract import Delivery, HttpForwarder, Request, check_payload
from streams import events
from streams.consent.policy import ConsentSettings
from streams.events import EventError, Note
from streams.observability.internal_error import INTERNAL, describe, to_exception
from streams.records.delivery import DeliveryRecord
from streams.records.format import Headers
from streams.records.outcomes import FORWARDED, Outcome
from streams.routing.decision import MAPPING, Decision, DecisionTrace, Rejection, RouteDecision, decide
from streams.routing.decoding import EventRecord, IncomingEvent, decode, named_source
from streams.routing.eligibility import OTHER_SOURCE
from streams.routing.ruleset import Route, RuleSet
from streams.sources.source import Sources
from streams.steps.step import Blocked
from streams.topics import Topics
from transforms import RuleError, read_rules
from transforms.documents import Document
from turnout_tracking.optout import names_of

NO_HEADERS: Headers = []

NO_PLACE = ":0:0"
"""The record's position in the messageId that is derived for an event without messageId and time."""

_NOT_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
"""Characters that are allowed in JSON but not in YAML."""

FIXED_NOW = datetime(2026, 1, 1, tzinfo=UTC)
"""The record's time if results must be the same every day."""


@dataclass(frozen=True, slots=True)
class RuleOutcome:
    """The outcome of an event for one rule ("" if none matched); FORWARDED has a request, others have a `reason`.

    `decided` is the router's decision. A delivery that the router forwards may still be dead here, because of checks
    before sending. `left_out` has a note per invalid optional value that is not sent.
    """

    rule: str
    outcome: str
    reason: str = ""
    payload: Mapping[str, Any] | None = None
    request: Request | None = None
    decided: RouteDecision | None = None
    left_out: Sequence[str] = ()

    def data(self) -> dict[str, Any]:
        """Return JSON data; the rule is None if no rule matched."""
        return {
            "outcome": str(self.outcome),
            "rule": self.rule or None,
            "payload": self.payload,
            "request": self.request and request_data(self.request),
            "reason": self.reason,
            "left_out": list(self.left_out),
        }

    def router_data(self) -> dict[str, Any] | None:
        """Return what the router writes, as JSON data; `record` is the exact value of the forward topic's record."""
        decided = self.decided
        return decided and {
            "outcome": str(decided.outcome),
            "reason": decided.reason,
            "detail": decided.detail,
            "record": decided.value.decode() if decided.value is not None else None,
        }


def request_data(request: Request) -> dict[str, Any]:
    """Return a request as JSON data; the body is parsed JSON if possible, else text."""
    body = request.body
    if isinstance(body, bytes):
        try:
            body = orjson.loads(body)
        except orjson.JSONDecodeError:
            body = request.body.decode(errors="replace")
    return {"method": request.method, "url": request.url, "headers": dict(request.headers), "body": body}


def preview(integration: Mapping[str, Any], event: Mapping[str, Any], now: datetime | None = None) -> list[Request]:
    """Return an integration's requests for an event, one per delivery; blocked and dead deliveries have none.

    `integration` is the data of an integration's file. `${NAME}` in its settings is replaced from the environment, or
    by `***` if the variable is not set. `now` is the time of the event's record, by default the present. Raises
    ConfigurationError if the integration is invalid, EventError if the event is.
    """
    name = str(integration.get("integration", "integration"))
    text = _NOT_YAML.sub(lambda match: f"\\u{ord(match[0]):04x}", json.dumps(integration, ensure_ascii=False))
    route, forwarder = _read(Document.parse(text, f"{name}.yaml"))
    incoming = decode_event(encode(event), Sources())
    decision = decide_now(incoming, RuleSet("", Sources(), [route]), now)
    return [result.request for decided in decision.outcomes if (result := preview_delivery(decided, forwarder)).request]


def encode(event: Any) -> bytes:
    """Return an event as JSON text; raises EventError if it is nested too deeply."""
    try:
        return json.dumps(event).encode()
    except RecursionError:
        raise EventError("too_deep", "", "nested too deeply") from None


def decode_event(
    value: bytes,
    sources: Sources,
    source: str | None = None,
    *,
    headers: Headers = NO_HEADERS,
    topic: str = "",
    needs_source: bool = False,
) -> IncomingEvent:
    """Decode JSON text like the router decodes the collector's record; raises EventError.

    `source` is the source's name; by default it is found by the headers or the write key. Unless it `needs_source`, an
    event of an unknown source is decoded without a source, and every integration accepts it. The record is the first
    of `topic`.
    """
    record = EventRecord(value, headers, topic=topic)
    incoming = decode(record, sources, source or named_source(record, sources), needs_source=needs_source)
    return incoming._replace(key=events.key(incoming.event))


def decide_now(
    incoming: IncomingEvent,
    rules: RuleSet,
    now: datetime | None,
    note: Note = lambda _reason, _detail: None,
    trace: DecisionTrace | None = None,
) -> Decision:
    """Decide as the router does; `now` is the time of the event's record, by default the present.

    If a step raises an unexpected exception, the event is rejected with the reason INTERNAL.
    """
    clock = (lambda: _in_utc(now).timestamp()) if now else time.time
    try:
        return decide(incoming, rules, clock, note, trace=trace)
    except BaseException as error:  # noqa: BLE001  # the router rejects it
        return Decision(incoming.event, (), Rejection(INTERNAL, describe(to_exception(error))))


def _in_utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def rejected_reason(rejection: Rejection) -> str:
    """Describe why an event is rejected."""
    return f"{rejection.detail} ({rejection.reason})"


def blocked_reason(held: Blocked) -> str:
    """Describe why an event is not forwarded."""
    if held is OTHER_SOURCE:
        return "the integration does not include its source"
    meaning = "the source's rules drop it" if held.outcome is Outcome.FILTERED else held.outcome.meaning
    return ": ".join(filter(None, (held.reason or meaning, held.detail)))


def preview_delivery(decided: RouteDecision, forwarder: AnyForwarder) -> RuleOutcome:
    """Return the request that delivery would make for the router's decision, or the reason for not sending one."""
    rule, outcome = decided.rule, decided.outcome
    if decided.held:
        return RuleOutcome(rule, outcome, blocked_reason(decided.held), decided=decided)
    if decided.value is None:
        if decided.dead is None:
            reason = "the rule drops it" if rule else "no rule matches"
        else:
            reason = decided.detail if decided.reason == MAPPING else f"{decided.reason}: {decided.detail}"
        return RuleOutcome(rule, outcome, reason, decided=decided)
    delivery = DeliveryRecord.decode(decided.value)
    payload = delivery.payload
    sent, left_out, problem = check_payload(forwarder, payload, len(orjson.dumps(payload)))
    if problem:
        return RuleOutcome(rule, Outcome.DEAD, f"{problem.reason}: {problem.detail}", payload, decided=decided)
    item = item_of(delivery._replace(payload=dict(sent)))
    try:
        request = forwarder.build_request([item]) if isinstance(forwarder, HttpForwarder) else forwarder.preview([item])
    except BaseException as error:  # noqa: BLE001  # delivery also makes it a dead letter
        return RuleOutcome(
            rule, Outcome.DEAD, f"the forwarder raised {type(to_exception(error)).__name__}", payload, decided=decided
        )
    return RuleOutcome(rule, FORWARDED, "", sent, request, decided, left_out)


def item_of(delivery: DeliveryRecord) -> Delivery:
    """Return the delivery that is passed to the forwarder."""
    return Delivery(delivery.id, delivery.payload, delivery.type, delivery.event, delivery.time)


def _read(document: Document) -> tuple[Route, AnyForwarder]:
    data = document.data
    try:
        file = IntegrationFile.model_validate(data)
        found = registry.find(file.forwarder)
    except ValidationError as error:
        raise ConfigurationError([it.within(document) for it in find_issues(error, IntegrationFile)]) from None
    except registry.UnknownForwarderError as error:
        raise ConfigurationError([document.error(str(error), at=("forwarder",))]) from None
    try:
        forwarder = make_forwarder(found, data.get("settings", {}), masked=False)
    except ValidationError as error:
        issues = find_issues(error, found.contract.settings, ("settings",), data.get("settings", {}))
        raise ConfigurationError([it.within(document) for it in issues]) from None
    resource = found.preset() if file.preset else None
    preset = Document.parse(resource.read_bytes(), str(resource)) if resource else None
    if file.preset and (preset is None or file.preset != found.contract.name):
        raise ConfigurationError([RuleError(f"no preset {file.preset!r} for this forwarder", path=document.path)])
    rules, errors = read_rules(document, preset=preset)
    if rules is None:
        raise ConfigurationError(errors)
    consent = file.consent.filter(ConsentSettings()) if file.consent else None
    sample = file.sample.filter if file.sample else None
    topic = Topics().forward(file.integration)
    names = names_of(file.integration, found.contract.names)
    return Route(file.integration, topic, rules.apply, not rules.match_all, None, consent, sample, names), forwarder
