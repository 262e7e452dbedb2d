"""The router: the agent from the events topic to the forward topics."""

import time
from collections.abc import Callable
from typing import Any

from streams import events
from streams.broker import Broker
from streams.dedupe import Window, Windows, sender_of, source_of
from streams.events import EventError
from streams.gate import find_source, held_back
from streams.ledger import Tally
from streams.metrics import ROUTER_EVENTS, ROUTER_OUTCOMES, ROUTER_REJECTED
from streams.produce import Producer, RecordTooLargeError
from streams.progress import Run
from streams.ruleset import Holder, RuleSet
from streams.settings import RouterSettings
from streams.steps import Held, take
from streams.suppressed import Follower
from streams.suppression import SuppressedUsers
from streams.times import rfc3339
from streams.topics import (
    FORWARDED,
    QUARANTINED_REASON,
    DeadLetter,
    Delivery,
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


class Confirmations:
    """Finishes a run when every record that it led to is confirmed; one refused ends the process, uncommitted."""

    __slots__ = ("_failed", "_open", "_run")

    def __init__(self, run: Run) -> None:
        self._run = run
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
            self._run.finish()


class Router:
    """Decodes, checks and dedupes each event, and maps it for each integration."""

    def __init__(
        self,
        holder: Holder,
        topics: Topics,
        producer: Producer,
        windows: Windows,
        follower: Follower,
        clock: Callable[[], float],
    ) -> None:
        self._holder, self._topics, self._producer, self._windows = holder, topics, producer, windows
        self._follower, self._clock = follower, clock

    async def work(self, run: Run) -> None:
        """Route a run of events. One bad event holds up none of its neighbours."""
        await self._follower.catch_up()
        rules = self._holder.current
        topic, partition = run.tp
        window = await self._windows.of(run.tp, run.records[0].offset)
        tally = Tally(Stage.ROUTER, topic, partition, rules.version)
        confirmations = Confirmations(run)
        for record in run.records:
            self._route(record, rules, window, tally, confirmations)
        ROUTER_EVENTS.inc(len(run.records))
        tally.count(ROUTER_OUTCOMES)
        target = partition % self._topics.partitions
        for outcomes in tally.records():
            self._producer.append(
                self._topics.outcomes,
                target,
                confirmations,
                key=f"{topic}:{partition}".encode(),
                value=outcomes.encode(),
            )
        confirmations.release(None)
        await self._producer.wait_for_room()

    def _route(self, record: Any, rules: RuleSet, window: Window, tally: Tally, confirmations: Confirmations) -> None:
        offset = record.offset
        if record.value is None:
            for route in rules.routes:
                tally.name(route.integration, "", Outcome.FILTERED, offset, "tombstone")
            return
        owner = rules.sources.by_topic(record.topic)
        named = owner.name if owner else source_of(record.headers)
        try:
            check_version(record.headers)
            origin = Origin(record.topic, record.partition, offset)
            notes = read_notes(record.headers)
            event = events.parse(record.value, origin, lambda reason, detail: notes.append((reason, detail)))
            source = find_source(rules.sources, named, event)
            events.check_depth(event, source.limits.depth, record.value)
        except EventError as error:
            self._reject(record, error.code, str(error), named, confirmations)
            return
        except RecordError as error:
            self._reject(record, "format", str(error), named, confirmations)
            return
        for reason, detail in notes:
            tally.note(offset, reason, detail)
        message_id = event["messageId"]
        if window.repeats(sender_of(record.headers, event), message_id, offset):
            for route in rules.routes:
                tally.add(route.integration, "", Outcome.DUPLICATE, offset)
            return
        if source.steps:
            try:
                taken = take(source.steps, event, lambda reason, detail: tally.note(offset, reason, detail))
            except EventError as error:
                self._reject(record, error.code, str(error), named, confirmations)
                return
            if isinstance(taken, Held):
                for route in rules.routes:
                    tally.record(route.integration, "", taken.outcome, offset, taken.reason, taken.detail)
                if taken.outcome is Outcome.QUARANTINED:
                    self._reject(record, QUARANTINED_REASON, taken.detail, named, confirmations)
                return
            event = taken
        stored = rfc3339(record.timestamp / 1000)
        at, received = events.time_of(event, stored), event.get("receivedAt", stored)
        partition = record.partition % self._topics.partitions
        for route in rules.routes:
            integration = route.integration
            if route.sources is not None and source.name not in route.sources:
                tally.add(integration, "", Outcome.FILTERED, offset)
                continue
            held = held_back(route, event, source)
            if held is not None:
                tally.add(integration, "", held.outcome, offset, held.detail)
                continue
            for rule, payload in route.apply(event):
                if payload is DROP:
                    tally.add(integration, rule, Outcome.FILTERED, offset)
                    continue
                delivery = Delivery(
                    message_id if route.single else f"{message_id}:{rule}",
                    rule,
                    rules.version,
                    event["type"],
                    event.get("event"),
                    at,
                    received,
                    source.name,
                    origin,
                    payload,
                )
                if type(payload) is Failure:
                    where = f"{payload.path}:{payload.line}:{payload.column}: {payload.error}"
                    self._bury(delivery, integration, record.key, "mapping", where, tally, confirmations)
                    continue
                try:
                    self._producer.append(
                        route.topic, partition, confirmations, key=record.key, value=delivery.encode()
                    )
                except (RecordTooLargeError, TypeError) as error:
                    reason = "too_large" if isinstance(error, RecordTooLargeError) else "not_json"
                    self._bury(delivery, integration, record.key, reason, str(error), tally, confirmations)
                    continue
                tally.add(integration, rule, FORWARDED, offset)

    def _reject(self, record: Any, reason: str, detail: str, source: str | None, confirmations: Confirmations) -> None:
        ROUTER_REJECTED.labels(reason).inc()

        def append(reason: str, detail: str, value: bytes) -> None:
            self._producer.append(
                self._topics.rejected,
                record.partition % self._topics.partitions,
                confirmations,
                key=record.key,
                value=value,
                headers=rejected_headers(
                    reason, detail, source or "", Origin(record.topic, record.partition, record.offset)
                ),
            )

        try:
            append(reason, detail, record.value)
        except RecordTooLargeError:
            append("too_large", f"{len(record.value)} bytes, kept only where it came from ({reason})", b"")

    def _bury(
        self,
        delivery: Delivery,
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
        self._producer.append(
            self._topics.dead, origin.partition % self._topics.partitions, confirmations, key=key, value=letter.encode()
        )
        tally.name(integration, delivery.rule, Outcome.DEAD, origin.offset, reason, detail)


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
    windows = Windows(broker, settings.dedupe_window, group)
    follower = Follower(broker, topics.suppressed, suppressed, group)
    router = Router(holder, topics, producer, windows, follower, clock)
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

    station.transport.on_revoked = windows.drop
    station.stopped = [follower.stop]
    return station
