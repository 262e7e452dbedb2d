"""What an integration makes of an event, offline: by the functions that the workers run, but nothing is sent."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

import orjson
from pydantic import ValidationError

from deploy.config.configuration import Configuration, ConfigurationError
from deploy.config.files import IntegrationFile
from deploy.config.mistakes import find_complaints
from deploy.rehearsal.offline import AnyForwarder, make_forwarder
from forwarders import registry
from forwarders.contract import HttpForwarder, Item, Request
from streams import events
from streams.consent import ConsentSettings
from streams.events import Event, EventError, Note
from streams.gate import find_source, held_back
from streams.ruleset import Route
from streams.sources import Source
from streams.steps import Held, take
from streams.times import rfc3339
from streams.topics import FORWARDED, Delivery, Origin, Outcome, Topics
from transforms import DROP, Failure, RuleError, read_rules
from transforms.documents import Document
from turnout_tracking.optout import names_of

_NOT_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
"""What JSON may hold as it stands and YAML may not."""

_NOWHERE = Origin("", 0, 0)

STANDSTILL = datetime(2026, 1, 1, tzinfo=UTC)
"""For an event without a time where the result must be the same every day."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What becomes of an event by one rule ("" where no rule took it): an outcome, or FORWARDED with a request.

    `reason` says why there is no request. `payload` is None where there is none.
    """

    rule: str
    outcome: str
    reason: str = ""
    payload: Mapping[str, Any] | None = None
    request: Request | None = None

    def data(self) -> dict[str, Any]:
        """As JSON data; the rule is None where none took the event."""
        return {
            "outcome": str(self.outcome),
            "rule": self.rule or None,
            "payload": self.payload,
            "request": self.request and request_data(self.request),
            "reason": self.reason,
        }


def request_data(request: Request) -> dict[str, Any]:
    """A request as JSON data; a body of bytes as the JSON that it is, else as text."""
    body = request.body
    if isinstance(body, bytes):
        try:
            body = orjson.loads(body)
        except orjson.JSONDecodeError:
            body = request.body.decode(errors="replace")
    return {"method": request.method, "url": request.url, "headers": dict(request.headers), "body": body}


def preview(integration: Mapping[str, Any], event: Mapping[str, Any], now: datetime | None = None) -> list[Request]:
    """The requests that an integration makes of an event: one a delivery, none where it is held back or dead.

    `integration` is the data of an integration's file. `${NAME}` in its settings comes from the environment, and is
    `***` where that has none. `now` stands for the time of the event's record, by default the present. Raises
    ConfigurationError for an integration with mistakes, EventError for what is no event.
    """
    name = str(integration.get("integration", "integration"))
    text = _NOT_YAML.sub(lambda match: f"\\u{ord(match[0]):04x}", json.dumps(integration, ensure_ascii=False))
    route, forwarder = _read(Document.parse(text, f"{name}.yaml"))
    taken = rehearse(route, forwarder, Prepared.of(event, now))
    return [each.request for each in taken if each.request]


@dataclass(frozen=True, slots=True)
class Prepared:
    """An event as the router has it when it comes to the integrations: checked, mended, with an id and a time.

    `source` is None where it is not known; `held` says why the event goes no further than a step of the source.
    """

    event: Event
    message_id: str
    time: str
    source: Source | None = None
    held: Held | None = None
    notes: Sequence[tuple[str, str]] = ()

    @classmethod
    def of(cls, event: Any, now: datetime | None = None, source: Source | None = None) -> Self:
        """Of a copy of an event; `now` as in `preview`. Raises EventError."""
        notes: list[tuple[str, str]] = []
        checked = normalize_copy(event, lambda *noted: notes.append(noted), source)
        message_id = checked.setdefault("messageId", events.make_message_id(checked, ""))
        taken = take(source.steps, checked, lambda *noted: notes.append(noted)) if source else checked
        held = taken if isinstance(taken, Held) else None
        kept = checked if isinstance(taken, Held) else taken
        time = events.time_of(kept, rfc3339(_in_utc(now or datetime.now(UTC)).timestamp()))
        return cls(kept, message_id, time, source, held, notes)


def normalize_copy(event: Any, note: Note, source: Source | None = None) -> Event:
    """Return a copy of an event in its normal form, as the router has it; raises EventError."""
    try:
        text = json.dumps(event).encode()
    except RecursionError:
        raise EventError("too_deep", "", "nested too deeply") from None
    return events.normalize(events.read(text, source.limits.depth if source else events.DEPTH), note)


def _in_utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def rehearse(route: Route, forwarder: AnyForwarder, prepared: Prepared) -> list[Taken]:
    """What becomes of an event, at least one thing; a source that is not known is one that the integration takes."""
    event, source = prepared.event, prepared.source
    if held := prepared.held:
        return [Taken("", held.outcome, held_reason(held))]
    if source is not None and route.sources is not None and source.name not in route.sources:
        return [Taken("", Outcome.FILTERED, f"the source {source.name} is not one of the integration's")]
    if held := held_back(route, event, source):
        return [Taken("", held.outcome, held_reason(held))]
    return [_take(route, forwarder, prepared, rule, payload) for rule, payload in route.apply(event)]


def held_reason(held: Held) -> str:
    """Why an event goes no further, in words."""
    return ": ".join(filter(None, (held.reason or _WHY.get(held.outcome), held.detail)))


_WHY = {
    Outcome.FILTERED: "the source's rules drop it",
    Outcome.SUPPRESSED: "its user is suppressed",
    Outcome.OPTED_OUT: "the event's `integrations` says no",
    Outcome.CONSENT: "the consent that the integration wants is not given",
    Outcome.SAMPLED: "it is not in the sample",
}


def _take(route: Route, forwarder: AnyForwarder, prepared: Prepared, rule: str, payload: Any) -> Taken:
    if payload is DROP:
        return Taken(rule, Outcome.FILTERED, "the rule drops it" if rule else "no rule takes it")
    if isinstance(payload, Failure):
        return Taken(rule, Outcome.DEAD, f"{payload.path}:{payload.line}:{payload.column}: {payload.error}")
    name, kind = prepared.event.get("event"), prepared.event["type"]
    item_id = prepared.message_id if route.single else f"{prepared.message_id}:{rule}"
    try:
        Delivery(item_id, rule, "", kind, name, prepared.time, "", "", _NOWHERE, payload).encode()
    except TypeError as error:  # as the router, which makes a dead letter of it
        return Taken(rule, Outcome.DEAD, f"not_json: {error}")
    if complaint := forwarder.complaint(payload):
        return Taken(rule, Outcome.DEAD, f"payload: {complaint}", payload)
    item = Item(item_id, payload, kind, name, prepared.time)
    try:
        request = forwarder.request([item]) if isinstance(forwarder, HttpForwarder) else forwarder.preview([item])
    except Exception as error:  # noqa: BLE001  # delivery makes a dead letter of it, too
        return Taken(rule, Outcome.DEAD, f"the forwarder raised {type(error).__name__}", payload)
    return Taken(rule, FORWARDED, "", payload, request)


def find_source_of(configuration: Configuration, event: Any, name: str | None = None) -> Source | None:
    """The source of a name, else the one of an event's write key, else the default; None where that cannot be told."""
    try:
        return find_source(configuration.sources, name, event if isinstance(event, dict) else {})
    except EventError:
        return None


def _read(document: Document) -> tuple[Route, AnyForwarder]:
    data = document.data
    try:
        file = IntegrationFile.model_validate(data)
        found = registry.find(file.forwarder)
    except ValidationError as error:
        raise ConfigurationError([it.within(document) for it in find_complaints(error, IntegrationFile)]) from None
    except registry.UnknownForwarderError as error:
        raise ConfigurationError([document.error(str(error), at=("forwarder",))]) from None
    try:
        forwarder = make_forwarder(found, data.get("settings", {}), masked=False)
    except ValidationError as error:
        complaints = find_complaints(error, found.contract.settings, ("settings",), data.get("settings", {}))
        raise ConfigurationError([it.within(document) for it in complaints]) from None
    resource = found.preset() if file.preset else None
    preset = Document.parse(resource.read_bytes(), str(resource)) if resource else None
    if file.preset and (preset is None or file.preset != found.contract.name):
        raise ConfigurationError([RuleError(f"no preset {file.preset!r} for this forwarder", path=document.path)])
    rules, mistakes = read_rules(document, preset=preset)
    if rules is None:
        raise ConfigurationError(mistakes)
    consent = file.consent.filter(ConsentSettings()) if file.consent else None
    sample = file.sample.filter if file.sample else None
    topic = Topics().forward(file.integration)
    names = names_of(file.integration, found.contract.names)
    return Route(file.integration, topic, rules.apply, not rules.match_all, None, consent, sample, names), forwarder
