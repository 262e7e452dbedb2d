"""What an integration makes of an event, offline: by the functions that the workers run, but nothing is sent."""

import json
import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self, TypeVar, get_args, get_origin

import orjson
from pydantic import BaseModel, SecretStr, TypeAdapter, ValidationError

from deploy.configuration import Configuration, ConfigurationError, Integration
from deploy.environment import UNSET, fill
from deploy.files import IntegrationFile
from deploy.mistakes import find_complaints, find_models, find_secrets
from forwarders import registry
from forwarders.contract import Forwarder, HttpForwarder, Item, Request, WriterForwarder
from streams import events
from streams.events import Event, EventError
from streams.gate import find_source, held_back
from streams.ruleset import Route
from streams.sources import Source
from streams.topics import FORWARDED, Outcome, Topics
from transforms import DROP, Failure, RuleError, read_rules
from transforms.documents import Document

M = TypeVar("M", bound=BaseModel)
AnyForwarder = HttpForwarder[Any] | WriterForwarder[Any]

_NOT_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
"""What JSON may hold as it stands and YAML may not."""


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

    `source` is None where it is not known; `dropped` says that the source's rules drop the event.
    """

    event: Event
    message_id: str
    time: str
    source: str | None = None
    dropped: bool = False

    @classmethod
    def of(cls, event: Any, now: datetime | None = None, source: Source | None = None) -> Self:
        """Of a copy of an event; `now` as in `preview`. Raises EventError."""
        checked = events.check(deepcopy(event))
        message_id = events.message_id(checked)
        mended = source.repair(checked) if source and source.repair else checked
        kept = checked if mended is None else mended
        time = events.time_of(kept, (now or datetime.now(UTC)).timestamp())
        return cls(kept, message_id, time, source.name if source else None, mended is None)


def rehearse(route: Route, forwarder: AnyForwarder, prepared: Prepared) -> list[Taken]:
    """What becomes of an event, at least one thing; a source that is not known is one that the integration takes."""
    event, source = prepared.event, prepared.source
    if prepared.dropped:
        return [Taken("", Outcome.FILTERED, f"the rules of the source {source} drop it")]
    if source is not None and route.sources is not None and source not in route.sources:
        return [Taken("", Outcome.FILTERED, f"the source {source} is not one of the integration's")]
    if held := held_back(route, event):
        return [Taken("", held, _WHY[held])]
    return [_take(route, forwarder, prepared, rule, payload) for rule, payload in route.apply(event)]


_WHY = {
    Outcome.OPTED_OUT: "the event's `integrations` says no",
    Outcome.CONSENT: "the consent that the integration wants is not given",
    Outcome.SAMPLED: "it is not in the sample",
}


def _take(route: Route, forwarder: AnyForwarder, prepared: Prepared, rule: str, payload: Any) -> Taken:
    if payload is DROP:
        return Taken(rule, Outcome.FILTERED, "the rule drops it" if rule else "no rule takes it")
    if isinstance(payload, Failure):
        return Taken(rule, Outcome.DEAD, f"{payload.path}:{payload.line}:{payload.column}: {payload.error}")
    if complaint := forwarder.contract.complaint(payload):
        return Taken(rule, Outcome.DEAD, f"payload: {complaint}", payload)
    name, kind = prepared.event.get("event"), prepared.event["type"]
    item_id = prepared.message_id if route.single else f"{prepared.message_id}:{rule}"
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


def offline(integration: Integration) -> AnyForwarder:
    """An integration's forwarder for tests and explanations: `***` stands for each secret, set or not."""
    return _make(integration.forwarder, integration.document.data.get("settings", {}), masked=True)


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
        forwarder = _make(found, data.get("settings", {}), masked=False)
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
    consent = file.consent.filter if file.consent else None
    sample = file.sample.filter if file.sample else None
    topic = Topics().forward(file.integration)
    return Route(file.integration, topic, rules.apply, not rules.match_all, None, consent, sample), forwarder


def _make(kind: type[Forwarder[Any]], data: Mapping[str, Any], *, masked: bool) -> AnyForwarder:
    model = kind.contract.settings
    filled = fill(data, {})
    if masked:
        for place in find_secrets(model, filled):
            _put(filled, place)
    try:
        settings = model.model_validate(filled)
    except ValidationError:
        if UNSET not in _texts(filled):
            raise
        settings = _stand_in(model, filled)
    forwarder = kind(settings)
    assert isinstance(forwarder, HttpForwarder | WriterForwarder)
    return forwarder


def _put(data: Any, place: tuple[str | int, ...]) -> None:
    *path, last = place
    for step in path:
        data = data[step]
    data[last] = UNSET


def _texts(data: Any) -> Iterator[Any]:
    if isinstance(data, dict | list):
        for value in data.values() if isinstance(data, dict) else data:
            yield from _texts(value)
    else:
        yield data


def _stand_in(model: type[M], data: Mapping[str, Any]) -> M:
    """Settings in which `***` stands where its variable is not set, though the model would refuse that."""
    values: dict[str, Any] = {}
    for name, value in data.items():
        field = model.model_fields[name]
        annotation: Any = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
        try:
            values[name] = TypeAdapter(annotation).validate_python(value)
        except ValidationError:
            values[name] = _as_it_stands(field.annotation, value)
    return model.model_construct(**values)


def _as_it_stands(annotation: Any, value: Any) -> Any:
    if isinstance(value, dict):
        fitting = (it for it in find_models(annotation) if value.keys() <= it.model_fields.keys())
        model = next((it for it in fitting if _is_meant(it, value)), None)
        return _stand_in(model, value) if model else value
    return SecretStr(value) if () in find_secrets(annotation, value) else value


def _is_meant(model: type[BaseModel], value: Mapping[str, Any]) -> bool:
    """Whether the fields that tell models of a union apart are this model's."""
    literals = {name: get_args(it.annotation) for name, it in model.model_fields.items() if _is_literal(it.annotation)}
    return all(value[name] in options for name, options in literals.items() if name in value)


def _is_literal(annotation: Any) -> bool:
    return get_origin(annotation) is Literal
