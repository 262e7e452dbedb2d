"""The router: the agent from the events topic to the forward topics."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from streams import events
from streams.broker import Broker
from streams.dedupe import Window, Windows, sender_of, source_of
from streams.events import Event, EventError
from streams.gate import find_source, held_back
from streams.guard import INTERNAL, Guard, describe
from streams.ledger import Tally
from streams.metrics import ROUTER_EVENTS, ROUTER_LEFT_OUT, ROUTER_OUTCOMES, ROUTER_REJECTED
from streams.produce import Producer, RecordTooLargeError
from streams.progress import Run
from streams.ruleset import Holder, RuleSet
from streams.settings import RouterSettings
from streams.sources import Source
from streams.steps import Held, take
from streams.suppressed import Follower
from streams.suppression import SuppressedUsers
from streams.times import record_time, rfc3339
from streams.topics import (
    FORWARDED,
    QUARANTINED_REASON,
    VERSION_HEADER,
    DeadLetter,
    DeliveryRecord,
    Origin,
    Outcome,
    RecordError,
    Stage,
    Topics,
    check_version,
    read_notes,
    rejected_headers,
)
from streams.worker import Station, make_station
from transforms import DROP, Failure
from transforms.runtime.numbers import take_left_out

HELD_SECONDS = 5.0
"""How long a stop waits for runs when some are held by the guard, which may not be finished at all."""


class Confirmations:
    """Finishes a run when every record that it led to is confirmed; one refused ends the process, uncommitted."""

    __slots__ = ("_failed", "_open", "run")

    def __init__(self, run: Run) -> None:
        self.run = run
        self._open = 1
        self._failed = False

    def hold(self) -> None:
        """One more confirmation to wait for."""
        self._open += 1

    def release(self, error: BaseException | None) -> None:
        """One confirmation less; also called once by the router when it has appended all."""
        self._open -= 1
        self._failed = self._failed or error is not None
        if not self._open and not self._failed:
            self.run.finish()


_Facts = tuple[str, str, str | None, str, str, str, Origin]
"""What all deliveries of one event share: messageId, type, name, time, time of receipt, source, origin."""


_Prepared = tuple[Event, Source, _Facts]


class _Failed(NamedTuple):
    """A delivery that could not be made because of an error of ours, and where to report it."""

    error: Exception
    integration: str
    delivery: DeliveryRecord


class Router:
    """Decodes, checks and dedupes each event, and maps it for each integration."""

    def __init__(
        self,
        holder: Holder,
        topics: Topics,
        producer: Producer,
        windows: Windows,
        follower: Follower,
        guard: Guard,
        clock: Callable[[], float],
    ) -> None:
        self._holder, self._topics, self._producer, self._windows = holder, topics, producer, windows
        self._follower, self._guard, self._clock = follower, guard, clock

    async def work(self, run: Run) -> None:
        """Route a run of events. One bad event holds up none of its neighbours."""
        await self._follower.catch_up()
        rules = self._holder.current
        topic, partition = run.tp
        window = await self._windows.of(run.tp, run.records[0].offset)
        tally = Tally(Stage.ROUTER, topic, partition, rules.version)
        confirmations = Confirmations(run)
        counted = 0
        for index, record in enumerate(run.records):
            failed = self._route(record, rules, window, tally, confirmations)
            if failed is not None:
                self._guard.passed(index - counted)
                counted = index + 1
                self._set_aside(record, *failed, confirmations)
        self._guard.passed(len(run.records) - counted)
        ROUTER_EVENTS.inc(len(run.records))
        for directive, count in take_left_out():
            ROUTER_LEFT_OUT.labels(directive).inc(count)
        self._write_outcomes(tally, confirmations, partition)
        confirmations.release(None)
        await self._producer.wait_for_room()

    def _route(
        self, record: Any, rules: RuleSet, window: Window, tally: Tally, confirmations: Confirmations
    ) -> tuple[Exception, Callable[[], None]] | None:
        """Route one event; returns an error of ours, and what writes the event's end if the guard allows it."""
        owner = rules.sources.by_topic(record.topic)
        named = owner.name if owner else source_of(record.headers)
        try:
            prepared = self._prepare(record, rules, window, tally, named, confirmations)
        except EventError as error:
            self._reject(record, error.code, str(error), named, confirmations)
            return None
        except RecordError as error:
            self._reject(record, "newer_format", str(error), named, confirmations)
            return None
        except Exception as error:  # noqa: BLE001  # one odd event must not stop the others
            return error, partial(self._reject, record, INTERNAL, describe(error), named, confirmations)
        if prepared is None:
            return None
        failed = self._forward(prepared, record, rules, tally, confirmations)
        if failed:
            return failed[0].error, partial(self._bury_failed, failed, record, rules, confirmations)
        return None

    def _prepare(
        self,
        record: Any,
        rules: RuleSet,
        window: Window,
        tally: Tally,
        named: str | None,
        confirmations: Confirmations,
    ) -> _Prepared | None:
        """Decode an event and take it through its source's steps; returns None if it goes no further.

        Raises EventError and RecordError for events that are to be rejected.
        """
        offset = record.offset
        if record.value is None:
            for route in rules.routes:
                tally.name(route.integration, "", Outcome.FILTERED, offset, "tombstone")
            return None
        check_version(record.headers)
        origin = Origin(record.topic, record.partition, offset)
        notes = read_notes(record.headers)
        event = events.parse(record.value, origin, lambda reason, detail: notes.append((reason, detail)))
        source = find_source(rules.sources, named, event)
        events.check_depth(event, source.limits.depth, record.value)
        for reason, detail in notes:
            tally.note(offset, reason, detail)
        message_id = event["messageId"]
        sender = sender_of(record.headers, event)
        if window.repeats(sender, message_id, offset):
            for route in rules.routes:
                tally.add(route.integration, "", Outcome.DUPLICATE, offset)
            return None
        try:
            if source.steps:
                taken = take(source.steps, event, lambda reason, detail: tally.note(offset, reason, detail))
                if isinstance(taken, Held):
                    for route in rules.routes:
                        tally.record(route.integration, "", taken.outcome, offset, taken.reason, taken.detail)
                    if taken.outcome is Outcome.QUARANTINED:
                        self._reject(record, QUARANTINED_REASON, taken.detail, named, confirmations)
                    return None
                event = taken
            at, received, name = event.get("timestamp"), event.get("receivedAt"), event.get("event")
            if not at or not received:
                stored = rfc3339(record_time(record.timestamp, self._clock))
                at, received = events.time_of(event, stored), received or stored
        except Exception:
            # It is going to be rejected, and may be sent again.
            window.forget(sender, message_id, offset)
            raise
        name = name if type(name) is str else None
        return event, source, (message_id, event["type"], name, at, received, source.name, origin)

    def _forward(
        self,
        prepared: _Prepared,
        record: Any,
        rules: RuleSet,
        tally: Tally,
        confirmations: Confirmations,
    ) -> Sequence[_Failed]:
        """Forward an event to each integration that wants it; returns the deliveries that failed."""
        offset, key, version = record.offset, record.key, rules.version
        partition = record.partition % self._topics.partitions
        event, source, facts = prepared
        message_id, kind, name, at, received, source_name, origin = facts
        failed: list[_Failed] = []
        for route in rules.routes:
            integration = route.integration
            try:
                if route.sources is not None and source_name not in route.sources:
                    tally.add(integration, "", Outcome.FILTERED, offset)
                    continue
                held = held_back(route, event, source)
                if held is not None:
                    tally.add(integration, "", held.outcome, offset, held.detail)
                    continue
                made = route.apply(event)
            except Exception as error:  # noqa: BLE001  # the other integrations are to have the event
                failed.append(_Failed(error, integration, _bare(facts, message_id, "", version)))
                continue
            for rule, payload in made:
                delivery_id = message_id if route.single else f"{message_id}:{rule}"
                try:
                    if payload is DROP:
                        tally.add(integration, rule, Outcome.FILTERED, offset)
                        continue
                    delivery = DeliveryRecord(
                        delivery_id, rule, version, kind, name, at, received, source_name, origin, payload
                    )
                    if type(payload) is Failure:
                        where = f"{payload.path}:{payload.line}:{payload.column}: {payload.error}"
                        self._bury(delivery, integration, key, "mapping", where, tally, confirmations)
                        continue
                    try:
                        self._producer.append(route.topic, partition, confirmations, key=key, value=delivery.encode())
                    except (RecordTooLargeError, TypeError) as error:
                        reason = "too_large" if isinstance(error, RecordTooLargeError) else "not_json"
                        self._bury(delivery, integration, key, reason, str(error), tally, confirmations)
                        continue
                    tally.add(integration, rule, FORWARDED, offset)
                except Exception as error:  # noqa: BLE001  # as above
                    failed.append(_Failed(error, integration, _bare(facts, delivery_id, rule, version)))
        return failed

    def _set_aside(
        self, record: Any, error: Exception, write: Callable[[], None], confirmations: Confirmations
    ) -> None:
        """Let the guard decide when, and whether, `write` rejects or buries a record that failed."""
        confirmations.hold()
        run = confirmations.run
        run.rest()

        def write_and_release() -> None:
            if not run.dropped:
                write()
                confirmations.release(None)

        self._guard.failed(
            error, write_and_release, topic=record.topic, partition=record.partition, offset=record.offset
        )

    def _reject(self, record: Any, reason: str, detail: str, source: str | None, confirmations: Confirmations) -> None:
        ROUTER_REJECTED.labels(reason).inc()
        origin = Origin(record.topic, record.partition, record.offset)
        version = dict(record.headers).get(VERSION_HEADER) if reason == "newer_format" else None
        too_large = f"{len(record.value or b'')} bytes, kept only where it came from ({reason})"
        self._producer.safe_append(
            self._topics.rejected,
            record.partition % self._topics.partitions,
            confirmations,
            key=record.key,
            forms=[
                lambda: (record.value, rejected_headers(reason, detail, source or "", origin, version=version)),
                lambda: (b"", rejected_headers("too_large", too_large, source or "", origin)),
                lambda: (b"", rejected_headers("too_large", too_large, "", origin)),
            ],
        )

    def _bury_failed(
        self, failed: Sequence[_Failed], record: Any, rules: RuleSet, confirmations: Confirmations
    ) -> None:
        tally = Tally(Stage.ROUTER, record.topic, record.partition, rules.version)
        for error, integration, delivery in failed:
            self._bury(delivery, integration, record.key, INTERNAL, describe(error), tally, confirmations)
        self._write_outcomes(tally, confirmations, record.partition)

    def _bury(
        self,
        delivery: DeliveryRecord,
        integration: str,
        key: bytes | None,
        reason: str,
        detail: str,
        tally: Tally,
        confirmations: Confirmations,
    ) -> None:
        origin = delivery.origin
        letter = DeadLetter(
            integration, delivery._replace(payload={}).data(), reason, detail, 0, rfc3339(self._clock())
        )
        self._producer.safe_append(
            self._topics.dead, origin.partition % self._topics.partitions, confirmations, key=key, forms=letter.forms()
        )
        tally.name(integration, delivery.rule, Outcome.DEAD, origin.offset, reason, detail)

    def _write_outcomes(self, tally: Tally, confirmations: Confirmations, partition: int) -> None:
        tally.count(ROUTER_OUTCOMES)
        for outcomes in tally.records():
            self._producer.append(
                self._topics.outcomes,
                partition % self._topics.partitions,
                confirmations,
                key=f"{outcomes.topic}:{partition}".encode(),
                value=outcomes.encode(),
            )


def _bare(facts: _Facts, delivery_id: str, rule: str, version: str) -> DeliveryRecord:
    """Make a delivery without a payload."""
    _, kind, name, at, received, source, origin = facts
    return DeliveryRecord(delivery_id, rule, version, kind, name, at, received, source, origin, {})


def make_router(
    holder: Holder,
    topics: Topics,
    broker: Broker,
    producer: Producer,
    settings: RouterSettings,
    suppressed: SuppressedUsers,
    *,
    fail: Callable[[str], None],
    grace: float,
    clock: Callable[[], float] = time.time,
) -> Station:
    """The router as a station of a worker. It reads the topics of the sources that are in force when it is made.

    `suppressed` are the users that the rules in `holder` ask about.
    """
    group = f"{topics.prefix}.router"
    windows = Windows(broker, settings.dedupe_window, group, topics)
    follower = Follower(broker, topics.suppressed, suppressed, group)
    guard = Guard("router", lambda error: station.give_up(error, "routing"))
    router = Router(holder, topics, producer, windows, follower, guard, clock)
    station = make_station(
        "router",
        topics.events,
        router.work,
        broker,
        fail=fail,
        group=group,
        commit_interval=1.0,
        grace=grace,
        beside=holder.current.sources.topics,
        budget=settings.fetched_bytes,
    )

    async def settle(patience: float) -> bool:
        guard.flush()
        return await station.progress.wait_until_settled(min(patience, HELD_SECONDS) if guard.holds else patience)

    async def stop() -> None:
        guard.drop()
        await follower.stop()

    station.transport.settle = settle
    station.transport.on_revoked = windows.drop
    station.stopped = [stop]
    return station
