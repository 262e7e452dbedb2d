"""Sends again what died or was rejected: through today's rules, as it was, or repaired."""

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import orjson

from deploy.config.configuration import Configuration
from deploy.recovery.kept import Again, Events, Kept, portions
from deploy.rehearsal.preview import Prepared
from streams import events
from streams.dedupe import source_of
from streams.events import EventError
from streams.gate import find_source, held_back
from streams.repair import merge
from streams.topics import DeadLetter, Delivery, Origin, Rejected, event_headers
from transforms import DROP, Failure, Rules

Advance = Callable[[int], object]
Report = Counter[str]
"""How many were `replayed`, and how many were left, by the reason."""


def replay_as_was(
    configuration: Configuration, again: Again, dead: Iterable[Kept[DeadLetter]], advance: Advance
) -> Report:
    """Send dead letters with the payload that they died with."""
    report: Report = Counter()
    for some in portions(dead):
        done = []
        for kept in some:
            letter = kept.letter
            left = _cannot(configuration, letter) or ("without a payload" if not letter.delivery["payload"] else None)
            if left is None:
                _send(configuration, again, kept, Delivery.decode(orjson.dumps(letter.delivery)))
                done.append(kept.place)
            report[left or "replayed"] += 1
        again.note("replayed", done)
        advance(len(some))
    return report


def replay_through_rules(
    configuration: Configuration, again: Again, dead: Iterable[Kept[DeadLetter]], advance: Advance
) -> Report:
    """Map the events of dead letters by today's rules, and send what comes out; what they drop is handled with it."""
    report: Report = Counter()
    source_events = Events(configuration.settings.broker)
    for some in portions(dead):
        records = source_events.at(Origin(*kept.letter.delivery["from"]) for kept in some)
        done = []
        for kept in some:
            left = _cannot(configuration, kept.letter)
            if left is None:
                record = records.get(Origin(*kept.letter.delivery["from"]))
                left = _map_again(configuration, again, kept, record) if record else "its event is no longer kept"
            if left is None or left == DROPPED:
                done.append(kept.place)
            report[left or "replayed"] += 1
        again.note("replayed", done)
        advance(len(some))
    return report


DROPPED = "dropped by today's rules"


def _cannot(configuration: Configuration, letter: DeadLetter) -> str | None:
    return None if letter.integration in configuration.integrations else "its integration is gone"


def _map_again(configuration: Configuration, again: Again, kept: "Kept[DeadLetter]", record: object) -> str | None:
    """Send what today's rules make of an event; returns why nothing was sent."""
    letter = kept.letter
    route = configuration.integrations[letter.integration].route(configuration.topics)
    value, headers, timestamp = (getattr(record, name) for name in ("value", "headers", "timestamp"))
    try:
        event = events.parse(value)
        source = find_source(configuration.sources, source_of(headers), event)
        prepared = Prepared.of(event, datetime.fromtimestamp(timestamp / 1000, UTC), source)
    except EventError as error:
        return f"rejected today ({error.code})"
    if prepared.held or held_back(route, prepared.event):
        return DROPPED
    made = 0
    for rule, payload in route.apply(prepared.event):
        # Where all rules may match, the others have outcomes of their own.
        if payload is DROP or (not route.single and rule != letter.delivery["rule"]):
            continue
        if isinstance(payload, Failure):
            return f"cannot be mapped at {payload.path}:{payload.line}:{payload.column}"
        delivery = Delivery(
            prepared.message_id if route.single else f"{prepared.message_id}:{rule}",
            rule,
            configuration.version,
            prepared.event["type"],
            prepared.event.get("event"),
            prepared.time,
            letter.delivery["received"],
            source.name,
            Origin(*letter.delivery["from"]),
            payload,
        )
        _send(configuration, again, kept, delivery)
        made += 1
    return None if made else DROPPED


def _send(configuration: Configuration, again: Again, kept: "Kept[DeadLetter]", delivery: Delivery) -> None:
    topics = configuration.topics
    partition = delivery.origin.partition % topics.partitions
    again.send(topics.forward(kept.letter.integration), kept.key, delivery.encode(), partition)


def replay_rejected(
    configuration: Configuration,
    again: Again,
    rejected: Iterable[Kept[Rejected]],
    advance: Advance,
    repair: Rules | None,
    source: str | None,
) -> Report:
    """Send rejected events to the events topic again, where `repair` has mended them: a JSON merge patch of the event.

    They keep the messageId that they had, or would have got. What is still no event is left.
    """
    report: Report = Counter()
    for some in portions(rejected):
        done = []
        for kept in some:
            try:
                value = _mend(kept.letter, repair)
            except EventError as error:
                report[f"still rejected ({error.code})"] += 1
                continue
            name = source or kept.letter.source
            origin = kept.letter.origin
            again.send(
                configuration.topics.events,
                kept.key or _key(value),
                value,
                origin.partition if origin else None,
                event_headers(name) if name else None,
            )
            done.append(kept.place)
            report["replayed"] += 1
        again.note("replayed", done)
        advance(len(some))
    return report


def _mend(letter: Rejected, repair: Rules | None) -> bytes:
    try:
        event = orjson.loads(letter.value or b"")
    except orjson.JSONDecodeError as error:
        raise EventError("json", "", "not JSON") from error
    if not isinstance(event, dict):
        raise EventError("json", "", "not an object")
    mended = event
    for _, patch in repair.apply(event) if repair else ():
        if isinstance(patch, Failure):
            raise EventError("repair", "", patch.error)
        if patch is not DROP:
            mended = merge(mended, patch)
    events.check(dict(mended))
    mended = {**mended, "messageId": mended.get("messageId") or events.message_id(event)}
    return orjson.dumps(mended)


def _key(value: bytes) -> bytes:
    event = orjson.loads(value)
    return str(event.get("userId") or event["anonymousId"]).encode()
