"""Turn Kafka's records into batches for a store."""

from typing import Any

import structlog

from streams.ledger.dead_group import group_of
from streams.ledger.store import (
    BuriedLetter,
    DeadLetterPlace,
    LedgerBatch,
    LostEvents,
    LostForwards,
    Partition,
    RejectedEvent,
    Run,
)
from streams.observability.logging import error_fields
from streams.parsing.lenient_json import read_object
from streams.records.dead_letter import DeadLetter
from streams.records.event import Origin
from streams.records.format import NewerFormatError, RecordError
from streams.records.handled import Handled
from streams.records.outcomes import MAX_OFFSET, LostDeliveries, Outcome, Outcomes, Stage
from streams.records.rejected import QUARANTINED_REASON, Rejected
from streams.records.run_header import MINUTE_MS, NO_HASH, RUN_HEADER, Kind, RunHeader, decode_run, hash_id
from streams.topics import Topics

log = structlog.get_logger()

EARLIEST_MS = 400 * 24 * 60 * MINUTE_MS
LATEST_MS = 60 * MINUTE_MS
"""How much earlier or later than its outcome an event may be; the time of another one is not believed."""

MAX_SPAN = 1 << 24
MAX_NUMBER = 1 << 31
"""Bounds of lengths of intervals and other numbers; records beyond them are invalid."""

REJECTED_KIND = ""
"""The type of events that the collector rejected."""


class RecordIntake:
    """Collects the facts of records in a batch.

    Args:
        topics: The topics of this environment.

    """

    def __init__(self, topics: Topics) -> None:
        self._topics = topics
        self._readers = {
            topics.outcomes: self._take_outcomes,
            topics.rejected: self._take_rejected,
            topics.dead: self._take_dead,
        }
        self.batch = LedgerBatch()
        self.events = 0

    @property
    def topics(self) -> list[str]:
        """The topics to read."""
        return list(self._readers)

    def take(self, record: Any) -> None:
        """Add a record's facts; raises NewerFormatError if this version cannot read it.

        A record that is invalid has no facts; it is logged and skipped.
        """
        try:
            self._readers[record.topic](record)
        except NewerFormatError:
            raise
        except RecordError as error:
            log.error(  # noqa: TRY400  # a traceback adds nothing
                "skipped an invalid record",
                topic=record.topic,
                partition=record.partition,
                offset=record.offset,
                **error_fields(error),
            )
        self.batch.offsets[record.topic, record.partition] = record.offset + 1
        self.batch.time_ms = max(self.batch.time_ms, record.timestamp or 0)

    def skip_to(self, partition: Partition, offset: int) -> None:
        """Record that a partition has no further record below an offset."""
        if offset > self.batch.offsets.get(partition, 0):
            self.batch.offsets[partition] = offset

    def finish(self) -> LedgerBatch:
        """Return the batch, and begin a new one."""
        batch, self.batch, self.events = self.batch, LedgerBatch(), 0
        return batch

    def _take_outcomes(self, record: Any) -> None:
        outcomes = Outcomes.decode(record.value)
        _check(outcomes)
        if outcomes.spans or outcomes.named:
            self.batch.outcomes.append(outcomes)
        self.batch.lost_deliveries += [LostForwards(outcomes.topic, outcomes.partition, each) for each in outcomes.lost]
        if outcomes.stage == Stage.ROUTER:
            minute = record.timestamp // MINUTE_MS
            self.batch.lost_events += [
                LostEvents(outcomes.topic, outcomes.partition, span.first, span.last, minute)
                for span in outcomes.spans
                if span.outcome == Outcome.LOST and not span.integration
            ]
            for name, value in record.headers:
                if name == RUN_HEADER:
                    header = _with_credible_minutes(decode_run(value), record.timestamp)
                    if not header.offsets or header.offsets[-1] >= MAX_OFFSET:
                        raise RecordError("a run header names offsets that are out of range")
                    self.batch.runs.append(Run(outcomes.topic, outcomes.partition, outcomes.rules, header))
                    self.events += len(header.offsets)

    def _take_rejected(self, record: Any) -> None:
        if Handled.decode(record.headers) is not None:
            return
        rejected = Rejected.decode(record.key, record.value, record.headers)
        if rejected.reason == QUARANTINED_REASON:
            return  # it has outcomes
        if rejected.origin is not None:
            _check_place(rejected.origin)
        by_collector = rejected.origin is None
        id_hash, user_hash = lenient_hashes(rejected.value)
        self.batch.rejected.append(
            RejectedEvent(
                rejected.origin or Origin(record.topic, record.partition, record.offset),
                rejected.reason,
                id_hash,
                hash_id(rejected.key) if rejected.key else user_hash,
                Kind(rejected.source, REJECTED_KIND, None) if by_collector else None,
                record.timestamp // MINUTE_MS,
            )
        )

    def _take_dead(self, record: Any) -> None:
        handled = Handled.decode(record.headers)
        if handled is not None:
            offsets = [offset for offset in handled.offsets if 0 <= offset < record.offset]
            self.batch.handled += [(record.partition, offset) for offset in offsets]
            return
        letter = DeadLetter.decode(record.value)
        delivery = letter.delivery
        place = Origin(*delivery["from"])
        _check_place(place)
        if (
            type(letter.integration) is not str
            or type(letter.attempts) is not int
            or abs(letter.attempts) >= MAX_NUMBER
        ):
            raise RecordError("a dead letter has a part of another type")
        group = group_of(letter, record.key)
        died = DeadLetterPlace(
            place,
            letter.integration,
            str(delivery.get("rule") or ""),
            record.partition,
            record.offset,
            letter.reason,
            letter.attempts,
            group.status,
        )
        self.batch.dead.append(BuriedLetter(died, group, max(0, record.timestamp or 0) // 1000))


def _check(outcomes: Outcomes) -> None:
    """Raise RecordError if a part of the outcomes has the wrong type, or impossible offsets."""
    try:
        valid = (
            type(outcomes.topic) is type(outcomes.rules) is str
            and type(outcomes.partition) is int
            and 0 <= outcomes.partition < MAX_NUMBER
            # Adding texts is the fastest check that all of them are texts.
            and all(
                integration + rule + outcome + detail is not None and 0 <= first <= last < first + MAX_SPAN < MAX_OFFSET
                for integration, rule, outcome, first, last, detail in outcomes.spans
            )
            and all(
                integration + rule + outcome + reason + detail is not None and 0 <= offset < MAX_OFFSET
                for integration, rule, outcome, offset, reason, detail in outcomes.named
            )
            and all(map(_is_valid, outcomes.lost))
        )
    except TypeError:
        valid = False
    if not valid:
        raise RecordError("an outcome record has a part of another type")


def _is_valid(lost: LostDeliveries) -> bool:
    return (
        type(lost.integration) is type(lost.reason) is str
        and 0 <= lost.start <= lost.end < MAX_OFFSET
        and all(
            type(rule) is str and 0 <= first <= last < first + MAX_SPAN < MAX_OFFSET
            for rule, intervals in lost.waiting
            for first, last in intervals
        )
    )


def _check_place(place: Origin) -> None:
    """Raise RecordError if a place cannot be that of an event."""
    if not (0 <= place.partition < MAX_NUMBER and 0 <= place.offset < MAX_OFFSET):
        raise RecordError("a record names a place that is out of range")


def _with_credible_minutes(header: RunHeader, written_ms: int) -> RunHeader:
    """Replace missing times and times far from that of the outcomes: producers may set any time."""
    earliest, latest = (written_ms - EARLIEST_MS) // MINUTE_MS, (written_ms + LATEST_MS) // MINUTE_MS
    if not header.minutes or (earliest <= min(header.minutes) and max(header.minutes) <= latest):
        return header
    written = written_ms // MINUTE_MS
    return header._replace(minutes=[minute if earliest <= minute <= latest else written for minute in header.minutes])


def lenient_hashes(value: bytes | None) -> tuple[bytes, bytes]:
    """Return the hashes of the messageId and of the user of an event that may be invalid; NO_HASH for missing ones."""
    event = read_object(value)
    if event is None:
        return NO_HASH, NO_HASH
    user = _lenient_hash(event.get("userId"))
    return _lenient_hash(event.get("messageId")), user if user != NO_HASH else _lenient_hash(event.get("anonymousId"))


def _lenient_hash(value: object) -> bytes:
    return hash_id(str(value)) if type(value) in (str, int) else NO_HASH
