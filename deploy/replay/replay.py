"""Replay dead letters and rejected events: as they were, mapped with today's rules, or repaired."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import orjson

from deploy.config.configuration import Configuration
from deploy.dryrun.preview import decide_now, decode_event, encode
from deploy.replay.parked import Events, ParkedRecord, ReplayProducer, batches
from deploy.replay.remapping import REJECTED, Mapped, Remapper
from streams import events
from streams.events import Event, EventError
from streams.observability.internal_error import INTERNAL, describe, to_exception
from streams.records.dead_letter import DeadLetter
from streams.records.delivery import DeliveryRecord
from streams.records.event import Origin, event_headers, replay_header
from streams.records.format import VERSION_HEADER, NewerFormatError, RecordError, check_version
from streams.records.outcomes import Outcome
from streams.records.rejected import Rejected
from streams.records.size import RecordTooLargeError
from streams.routing.decoding import NEWER_FORMAT
from streams.routing.ruleset import RuleSet
from streams.sources.webhooks import WebhookEndpoint
from streams.steps.source_rules import merge
from streams.suppression.admin import SuppressedList
from transforms import DROP, Failure, Rules

Advance = Callable[[int], object]
Report = Counter[str]
"""The number of records by result: `replayed`, or the reason for not sending them."""


def replay_as_was(
    configuration: Configuration,
    producer: ReplayProducer,
    suppressed: SuppressedList,
    dead: Iterable[ParkedRecord[DeadLetter]],
    advance: Advance,
) -> Report:
    """Send dead letters with their original payload."""
    report: Report = Counter()
    for batch in batches(dead):
        done = []
        suppressed.catch_up()
        for parked in batch:
            letter = parked.letter
            left = _find_obstacle(configuration, letter) or (
                "without a payload" if not letter.delivery["payload"] else None
            )
            if parked.key and configuration.suppression.includes(parked.key.decode(errors="replace")):
                left = "its user is suppressed"
            if left is None:
                left = _send_as_was(configuration, producer, parked)
            if left is None:
                done.append(parked.place)
            report[left or "replayed"] += 1
        producer.mark_handled("replayed", done)
        advance(len(batch))
    return report


def replay_through_rules(
    configuration: Configuration,
    producer: ReplayProducer,
    suppressed: SuppressedList,
    dead: Iterable[ParkedRecord[DeadLetter]],
    advance: Advance,
) -> Report:
    """Map the events of dead letters with today's rules and send the result; dropped ones are marked as handled."""
    report: Report = Counter()
    source_events = Events(configuration.settings.broker)
    mappers = {name: Remapper(configuration, name) for name in configuration.integrations}
    for batch in batches(dead):
        suppressed.catch_up()
        records = source_events.at(Origin(*parked.letter.delivery["from"]) for parked in batch)
        done = []
        for parked in batch:
            left = _find_obstacle(configuration, parked.letter)
            if left is None:
                record = records.get(Origin(*parked.letter.delivery["from"]))
                mapped = mappers[parked.letter.integration].map(record) if record else None
                left = (
                    _send_mapped(configuration, producer, parked, mapped) if mapped else "Kafka has removed its event"
                )
            if left is None or left == DROPPED:
                done.append(parked.place)
            report[left or "replayed"] += 1
        producer.mark_handled("replayed", done)
        advance(len(batch))
    return report


def _send_as_was(
    configuration: Configuration, producer: ReplayProducer, parked: "ParkedRecord[DeadLetter]"
) -> str | None:
    """Send a dead letter's delivery; returns why nothing was sent."""
    try:
        _send(configuration, producer, parked, DeliveryRecord.decode(orjson.dumps(parked.letter.delivery)))
    except RecordTooLargeError:
        return TOO_LARGE
    except (RecordError, TypeError):  # TypeError: it is nested too deeply to be encoded
        return "its record cannot be read"
    return None


DROPPED = "dropped by today's rules"
TOO_LARGE = "too large for a record"


def _find_obstacle(configuration: Configuration, letter: DeadLetter) -> str | None:
    return None if letter.integration in configuration.integrations else "its integration is gone"


def _send_mapped(
    configuration: Configuration, producer: ReplayProducer, parked: "ParkedRecord[DeadLetter]", mapped: Sequence[Mapped]
) -> str | None:
    """Send what today's rules made of a dead letter's event; returns why nothing was sent."""
    if not configuration.integrations[parked.letter.integration].route(configuration.topics).single:
        # The other rules of `match: all` have their own outcomes.
        mapped = [each for each in mapped if each.rule in ("", parked.letter.delivery["rule"])]
    left = next((f"{each.outcome} again ({each.reason})" for each in mapped if each.outcome in FAILED_OUTCOMES), None)
    sent = 0
    for each in mapped:
        if each.delivery is not None:
            try:
                _send(configuration, producer, parked, each.delivery)
                sent += 1
            except RecordTooLargeError:
                left = TOO_LARGE
            except TypeError:
                left = "not JSON"
    return None if sent else left or DROPPED


FAILED_OUTCOMES = {REJECTED, Outcome.DEAD, Outcome.EXPIRED}


def _send(
    configuration: Configuration, producer: ReplayProducer, parked: "ParkedRecord[DeadLetter]", delivery: DeliveryRecord
) -> None:
    topics = configuration.topics
    partition = delivery.origin.partition % topics.partitions
    producer.send(topics.forward(parked.letter.integration), parked.key, delivery.encode(), partition)


def replay_rejected(
    configuration: Configuration,
    producer: ReplayProducer,
    rejected: Iterable[ParkedRecord[Rejected]],
    advance: Advance,
    repair: Rules | None,
    source: str | None,
) -> Report:
    """Send rejected events to the events topic again, after the merge patches of the rules `repair`.

    Events keep their messageId, or get the one that the router would have derived. Events that would be rejected or
    quarantined again are not sent. The events of a webhook's request are made with today's rules.
    """
    report: Report = Counter()
    own = configuration.topics.events
    for batch in batches(rejected):
        done = []
        for parked in batch:
            name = source or parked.letter.source
            found = configuration.sources.by_name(name)
            webhook = found.webhook if found and not parked.letter.origin else None
            try:
                check_format(parked.letter)
                repaired = [
                    _repair(configuration, event, repair, name, _id_position(configuration, parked, index))
                    for index, event in enumerate(_find_events(parked.letter.value, webhook))
                ]
            except EventError as error:
                report[f"still rejected ({error.code})"] += 1
                continue
            except BaseException as error:  # noqa: BLE001  # one bad event must not stop the others
                report[f"still rejected ({INTERNAL}: {describe(to_exception(error))})"] += 1
                continue
            # An external topic may have another number of partitions.
            origin = parked.letter.origin if parked.letter.origin and parked.letter.origin.topic == own else None
            headers = event_headers(name) if name else []
            if not webhook:
                # Some events of a webhook's request may have been accepted before, and must count as repeats.
                headers.append(replay_header(*parked.place))
            partition = origin.partition % configuration.topics.partitions if origin else None
            try:
                for key, value in repaired:
                    producer.send(own, parked.key or key, value, partition, headers)
            except RecordTooLargeError:
                report[TOO_LARGE] += 1
                continue
            done.append(parked.place)
            report["replayed" if repaired else DROPPED] += 1
        producer.mark_handled("replayed", done)
        advance(len(batch))
    return report


def check_format(rejected: Rejected) -> None:
    """Raise EventError if an event was rejected for its format, and this release cannot read the format either.

    A version that is not a number is ignored.
    """
    if rejected.version is not None:
        try:
            check_version([(VERSION_HEADER, rejected.version)])
        except NewerFormatError as error:
            raise EventError(NEWER_FORMAT, "", str(error)) from None
        except RecordError:
            return


def _find_events(value: bytes | None, webhook: WebhookEndpoint | None) -> list[Event]:
    """Return the rejected event, or the events that today's rules make from a webhook's request; raises EventError."""
    data = events.loads(value or b"")
    if not isinstance(data, dict):
        raise EventError("json", "", "not an object")
    made = [it.event for it in webhook.make(data)] if webhook else [data]
    for each in made:
        if isinstance(each, EventError):
            raise each
    return [event for event in made if isinstance(event, dict)]


def _id_position(configuration: Configuration, parked: "ParkedRecord[Rejected]", index: int) -> str:
    """Return the position from which a missing messageId is derived: the original or the rejected record's."""
    origin = parked.letter.origin or Origin(configuration.topics.rejected, *parked.place)
    return f"{origin.topic}:{origin.partition}:{origin.offset}" + (f":{index}" if index else "")


def _repair(
    configuration: Configuration, event: Event, repair: Rules | None, name: str, unique: str
) -> tuple[bytes, bytes]:
    """Return the key and value of the event's record; raises EventError if it would not be accepted now."""
    repaired = event
    for _, patch in repair.apply(event) if repair else ():
        if isinstance(patch, Failure):
            raise EventError("repair", "", patch.error)
        if patch is not DROP:
            repaired = merge(repaired, patch)
    sources = configuration.sources
    incoming = decode_event(encode(repaired), sources, name or None, needs_source=True)
    rejected = decide_now(incoming, RuleSet(configuration.version, sources), None).rejected
    if rejected:
        raise EventError(rejected.reason, "", rejected.detail)
    normal = _normal(repaired)
    if "messageId" not in normal:
        try:
            before = _normal(event)
        except EventError:
            before = normal
        normal["messageId"] = events.make_message_id(before, unique)
    return events.key(normal), orjson.dumps(normal)


def _normal(event: Event) -> Event:
    """Return a copy of an event in normal form; raises EventError."""
    return events.normalize(events.read(encode(event)))
