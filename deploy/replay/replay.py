"""Sends again what died or was rejected: through today's rules, as it was, or repaired."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import orjson

from deploy.config.configuration import Configuration
from deploy.dryrun.preview import decide_now, decode_event, encode
from deploy.replay.parked import Events, ParkedRecord, ReplayProducer, portions
from deploy.replay.remapping import REJECTED, Mapped, Remapper
from streams import events
from streams.events import Event, EventError
from streams.observability.internal_error import INTERNAL, describe
from streams.records.dead_letter import DeadLetter
from streams.records.delivery import DeliveryRecord
from streams.records.event import Origin, event_headers, replay_header
from streams.records.format import VERSION_HEADER, NewerFormatError, RecordError, check_version
from streams.records.outcomes import Outcome
from streams.records.rejected import Rejected
from streams.records.size import RecordTooLargeError
from streams.routing.decoding import NEWER_FORMAT
from streams.routing.ruleset import RuleSet
from streams.sources.webhooks import Webhook
from streams.steps.source_rules import merge
from streams.suppression.admin import SuppressedList
from transforms import DROP, Failure, Rules

Advance = Callable[[int], object]
Report = Counter[str]
"""How many were `replayed`, and how many were left, by the reason."""


def replay_as_was(
    configuration: Configuration,
    producer: ReplayProducer,
    suppressed: SuppressedList,
    dead: Iterable[ParkedRecord[DeadLetter]],
    advance: Advance,
) -> Report:
    """Send dead letters with the payload that they died with."""
    report: Report = Counter()
    for some in portions(dead):
        done = []
        suppressed.catch_up()
        for parked in some:
            letter = parked.letter
            left = _cannot(configuration, letter) or ("without a payload" if not letter.delivery["payload"] else None)
            if parked.key and configuration.suppression.includes(parked.key.decode(errors="replace")):
                left = "its user is suppressed"
            if left is None:
                left = _send_as_was(configuration, producer, parked)
            if left is None:
                done.append(parked.place)
            report[left or "replayed"] += 1
        producer.note("replayed", done)
        advance(len(some))
    return report


def replay_through_rules(
    configuration: Configuration,
    producer: ReplayProducer,
    suppressed: SuppressedList,
    dead: Iterable[ParkedRecord[DeadLetter]],
    advance: Advance,
) -> Report:
    """Map the events of dead letters by today's rules, and send what comes out; what they drop is handled with it."""
    report: Report = Counter()
    source_events = Events(configuration.settings.broker)
    mappers = {name: Remapper(configuration, name) for name in configuration.integrations}
    for some in portions(dead):
        suppressed.catch_up()
        records = source_events.at(Origin(*parked.letter.delivery["from"]) for parked in some)
        done = []
        for parked in some:
            left = _cannot(configuration, parked.letter)
            if left is None:
                record = records.get(Origin(*parked.letter.delivery["from"]))
                mapped = mappers[parked.letter.integration].map(record) if record else None
                left = (
                    _send_mapped(configuration, producer, parked, mapped) if mapped else "its event is no longer kept"
                )
            if left is None or left == DROPPED:
                done.append(parked.place)
            report[left or "replayed"] += 1
        producer.note("replayed", done)
        advance(len(some))
    return report


def _send_as_was(
    configuration: Configuration, producer: ReplayProducer, parked: "ParkedRecord[DeadLetter]"
) -> str | None:
    """Send a dead letter's delivery; returns why nothing was sent."""
    try:
        _send(configuration, producer, parked, DeliveryRecord.decode(orjson.dumps(parked.letter.delivery)))
    except RecordTooLargeError:
        return TOO_LARGE
    except (RecordError, TypeError):  # TypeError: it is nested too deeply to be written
        return "its record cannot be read"
    return None


DROPPED = "dropped by today's rules"
TOO_LARGE = "too large for a record"


def _cannot(configuration: Configuration, letter: DeadLetter) -> str | None:
    return None if letter.integration in configuration.integrations else "its integration is gone"


def _send_mapped(
    configuration: Configuration, producer: ReplayProducer, parked: "ParkedRecord[DeadLetter]", mapped: Sequence[Mapped]
) -> str | None:
    """Send what today's rules made of a dead letter's event; returns why nothing was sent."""
    if not configuration.integrations[parked.letter.integration].route(configuration.topics).single:
        # The other rules have outcomes of their own.
        mapped = [each for each in mapped if each.rule in ("", parked.letter.delivery["rule"])]
    left = next((f"{each.outcome} again ({each.reason})" for each in mapped if each.outcome in STILL_BAD), None)
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


STILL_BAD = {REJECTED, Outcome.DEAD, Outcome.EXPIRED}


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
    """Send rejected events to the events topic again, where `repair` has mended them: a JSON merge patch of the event.

    They keep the messageId that they had, or would have got. What would be rejected or quarantined again is left. Of a
    webhook's delivery today's rules make the events.
    """
    report: Report = Counter()
    own = configuration.topics.events
    for some in portions(rejected):
        done = []
        for parked in some:
            name = source or parked.letter.source
            found = configuration.sources.by_name(name)
            webhook = found.webhook if found and not parked.letter.origin else None
            try:
                check_format(parked.letter)
                mended = [
                    _mend(configuration, event, repair, name, _unique(configuration, parked, index))
                    for index, event in enumerate(_find_events(parked.letter.value, webhook))
                ]
            except EventError as error:
                report[f"still rejected ({error.code})"] += 1
                continue
            except Exception as error:  # noqa: BLE001  # one odd event must not stop the others
                report[f"still rejected ({INTERNAL}: {describe(error)})"] += 1
                continue
            # Another's topic may have other partitions than ours.
            origin = parked.letter.origin if parked.letter.origin and parked.letter.origin.topic == own else None
            headers = event_headers(name) if name else []
            if not webhook:
                # Of a webhook's delivery some events may have been taken, which must be known for repeats.
                headers.append(replay_header(*parked.place))
            partition = origin.partition % configuration.topics.partitions if origin else None
            try:
                for key, value in mended:
                    producer.send(own, parked.key or key, value, partition, headers)
            except RecordTooLargeError:
                report[TOO_LARGE] += 1
                continue
            done.append(parked.place)
            report["replayed" if mended else DROPPED] += 1
        producer.note("replayed", done)
        advance(len(some))
    return report


def check_format(rejected: Rejected) -> None:
    """Raise EventError if an event was rejected for its format, and this version cannot read that format either.

    A version that is not a number names no format, so that nothing speaks against reading the event.
    """
    if rejected.version is not None:
        try:
            check_version([(VERSION_HEADER, rejected.version)])
        except NewerFormatError as error:
            raise EventError(NEWER_FORMAT, "", str(error)) from None
        except RecordError:
            return


def _find_events(value: bytes | None, webhook: Webhook | None) -> list[Event]:
    """The event that was rejected, or what today's rules make of a webhook's delivery; raises EventError."""
    data = events.loads(value or b"")
    if not isinstance(data, dict):
        raise EventError("json", "", "not an object")
    made = [it.event for it in webhook.make(data)] if webhook else [data]
    for each in made:
        if isinstance(each, EventError):
            raise each
    return [event for event in made if isinstance(event, dict)]


def _unique(configuration: Configuration, parked: "ParkedRecord[Rejected]", index: int) -> str:
    """Return what the id of an event without one is made of: what the router used, or the rejected record's place."""
    origin = parked.letter.origin or Origin(configuration.topics.rejected, *parked.place)
    return f"{origin.topic}:{origin.partition}:{origin.offset}" + (f":{index}" if index else "")


def _mend(
    configuration: Configuration, event: Event, repair: Rules | None, name: str, unique: str
) -> tuple[bytes, bytes]:
    """The key and value of the event's record; raises EventError where it would be rejected or quarantined again."""
    mended = event
    for _, patch in repair.apply(event) if repair else ():
        if isinstance(patch, Failure):
            raise EventError("repair", "", patch.error)
        if patch is not DROP:
            mended = merge(mended, patch)
    sources = configuration.sources
    incoming = decode_event(encode(mended), sources, name or None, needs_source=True)
    rejected = decide_now(incoming, RuleSet(configuration.version, sources), None).rejected
    if rejected:
        raise EventError(rejected.reason, "", rejected.detail)
    normal = _normal(mended)
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
