"""Route events from the events topic to the forward topics."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from time import perf_counter
from typing import Any

from streams.clock import time
from streams.events import EventError, Note
from streams.kafka.acks import PendingAcks
from streams.kafka.gaps import RECORD_SECONDS, Gap, OnGap
from streams.kafka.offsets import TP, RecordBatch
from streams.kafka.producer import Producer
from streams.kafka.settings import Broker
from streams.ledger.outcome_buffer import OutcomeBuffer
from streams.observability.internal_error import INTERNAL, describe, to_exception
from streams.observability.metrics import ROUTER_EVENTS, ROUTER_LEFT_OUT, ROUTER_OUTCOMES, ROUTER_REJECTED
from streams.parsing.times import rfc3339
from streams.records.dead_letter import DeadLetter
from streams.records.delivery import DeliveryRecord
from streams.records.event import Origin, valid_trace
from streams.records.format import TRACE_HEADER, VERSION_HEADER
from streams.records.memory import MemoryCipher
from streams.records.outcomes import RETENTION, Outcome, Stage
from streams.records.rejected import rejected_headers
from streams.routing.decision import REPEATED, TOMBSTONE, Decision, RouteDecision, block_for_all, decide
from streams.routing.decoding import NEWER_FORMAT, IncomingEvent, decode, named_source
from streams.routing.dedupe import Window, Windows, sender_of
from streams.routing.memory import MemoryLimits, MemoryTable, MemoryTables
from streams.routing.ruleset import CurrentRules, RuleSet
from streams.routing.settings import RouterSettings
from streams.steps.enrichment.memory import VisitorMemorySettings
from streams.suppression.filter import SuppressedUsers
from streams.suppression.follower import SuppressionFollower
from streams.topics import DAY, Topics
from streams.worker.guard import Guard
from streams.worker.pipeline import ConsumerPipeline, PipelineControl, Processor, make_pipeline
from transforms.runtime.numbers import take_left_out

YIELD_SECONDS = 0.01
"""Seconds of routing after which the event loop runs other tasks."""

HELD_STOP_SECONDS = 5.0
"""Seconds that a stop waits for batches if the guard holds some of them, which may never finish."""


class Router:
    """Decodes, checks and dedupes each event, and maps it for each integration."""

    def __init__(
        self,
        holder: CurrentRules,
        topics: Topics,
        producer: Producer,
        windows: Windows,
        follower: SuppressionFollower,
        guard: Guard,
        clock: Callable[[], float],
        memories: MemoryTables | None = None,
    ) -> None:
        self._holder, self._topics, self._producer, self._windows = holder, topics, producer, windows
        self._follower, self._guard, self._clock = follower, guard, clock
        self._memories = memories

    async def work(self, batch: RecordBatch) -> None:
        """Route a batch of events. An event that fails does not hold up the others."""
        await self._follower.catch_up()
        rules = self._holder.current
        topic, partition = batch.tp
        window = await self._windows.of(batch.tp, batch.records[0].offset)
        table = await self._memories.of(batch.tp) if self._memories is not None and rules.memory is not None else None
        if batch.dropped:
            return
        buffer = OutcomeBuffer(Stage.ROUTER, topic, partition, rules.version)
        acks = PendingAcks(lambda error: batch.finish() if error is None else None)
        counted = 0
        began = perf_counter()
        for index, record in enumerate(batch.records):
            if perf_counter() - began > YIELD_SECONDS:
                await asyncio.sleep(0)
                if batch.dropped:
                    return
                began = perf_counter()
            failed = self._route(record, rules, window, table, buffer, acks)
            if failed is not None:
                self._guard.passed(index - counted)
                counted = index + 1
                self._defer_failure(batch, record, *failed, acks)
        self._guard.passed(len(batch.records) - counted)
        ROUTER_EVENTS.inc(len(batch.records))
        for directive, count in take_left_out():
            ROUTER_LEFT_OUT.labels(directive).inc(count)
        if table is not None and self._memories is not None:
            self._memories.write(table, acks)
        self._write_outcomes(buffer, acks, partition, batch.records)
        acks.seal()
        await self._producer.wait_for_room()

    def _route(
        self,
        record: Any,
        rules: RuleSet,
        window: Window,
        table: MemoryTable | None,
        buffer: OutcomeBuffer,
        acks: PendingAcks,
    ) -> tuple[Exception, Callable[[], None]] | None:
        """Route one event. Returns an internal error, and a function that records it if the guard allows that."""
        named = named_source(record, rules.sources)
        try:
            decision = self._decide(record, rules, window, table, buffer, named)
        except EventError as error:
            self._reject(record, error.code, str(error), named, acks)
            return None
        except BaseException as error:  # noqa: BLE001  # one bad event must not stop the others
            return to_exception(error), partial(self._reject, record, INTERNAL, describe(error), named, acks)
        if decision.rejected is not None:
            self._reject(record, *decision.rejected, named, acks)
        failed = self._write(decision.outcomes, record, buffer, acks)
        if failed:
            return failed[0][1], partial(self._write_failed, failed, record, rules, acks)
        return None

    def _decide(
        self,
        record: Any,
        rules: RuleSet,
        window: Window,
        table: MemoryTable | None,
        buffer: OutcomeBuffer,
        named: str | None,
    ) -> Decision:
        """Decode an event, check for repeats, and decide; raises EventError if the event is rejected."""
        offset = record.offset
        if record.value is None:
            return Decision({}, block_for_all(rules.routes, TOMBSTONE))
        incoming = decode(record, rules.sources, named)
        event = incoming.event
        for reason, detail in incoming.notes:
            buffer.note(offset, reason, detail)
        message_id = event["messageId"]
        buffer.read.append(
            (offset, message_id, incoming.source.name if incoming.source else "", event["type"], event.get("event"))
        )
        sender = sender_of(record.headers, event)
        if window.repeats(sender, message_id, offset):
            return Decision(event, block_for_all(rules.routes, REPEATED))
        try:
            decision = self._decide_with(table, incoming, rules, partial(buffer.note, offset))
        except BaseException:
            window.forget(sender, message_id, offset)
            raise
        if decision.is_rejected:
            window.forget(sender, message_id, offset)
        return decision

    def _decide_with(self, table: MemoryTable | None, incoming: IncomingEvent, rules: RuleSet, note: Note) -> Decision:
        """Decide with the memory of the event's partition. A suppressed user is removed from the memory."""
        if table is None or rules.memory is None or self._memories is None:
            return decide(incoming, rules, self._clock, note)
        rules.memory.opened = self._memories.open(table, incoming.timestamp)
        try:
            decision = decide(incoming, rules, self._clock, note)
        finally:
            rules.memory.opened = None
        if decision.held is not None and decision.held.outcome is Outcome.SUPPRESSED:
            table.forget(decision.event)
        return decision

    def _write(
        self, outcomes: Sequence[RouteDecision], record: Any, buffer: OutcomeBuffer, acks: PendingAcks
    ) -> list[tuple[RouteDecision, Exception]]:
        """Write the outcomes; returns the deliveries that failed with an internal error."""
        offset, key = record.offset, record.key
        partition = record.partition % self._topics.partitions
        failed: list[tuple[RouteDecision, Exception]] = []
        for decided in outcomes:
            route, rule, outcome, reason, detail, value, dead, _, error = decided
            try:
                if error is not None:
                    failed.append((decided, error))
                elif value is not None:
                    self._producer.append(route.topic, partition, acks, key=key, value=value)
                    buffer.add(route.integration, rule, outcome, offset)
                elif dead is not None:
                    self._write_dead_letter(dead, route.integration, key, reason, detail, buffer, acks)
                else:
                    buffer.record(route.integration, rule, outcome, offset, reason, detail)
            except BaseException as unexpected:  # noqa: BLE001  # one integration's failure must not affect the others
                failed.append((decided, to_exception(unexpected)))
        return failed

    def _defer_failure(
        self, batch: RecordBatch, record: Any, error: Exception, write: Callable[[], None], acks: PendingAcks
    ) -> None:
        """Let the guard decide whether and when `write` rejects a failed record or writes its dead letter."""
        acks.hold()
        batch.exclude_from_budget()

        def write_and_release() -> None:
            if not batch.dropped:
                write()
                acks.release(None)

        self._guard.failed(
            error, write_and_release, topic=record.topic, partition=record.partition, offset=record.offset
        )

    def _reject(self, record: Any, reason: str, detail: str, source: str | None, acks: PendingAcks) -> None:
        ROUTER_REJECTED.labels(reason).inc()
        origin = Origin(record.topic, record.partition, record.offset)
        headers = dict(record.headers)
        version = headers.get(VERSION_HEADER) if reason == NEWER_FORMAT else None
        trace = valid_trace(headers.get(TRACE_HEADER))
        too_large = f"{len(record.value or b'')} bytes: too large to copy, see the original record ({reason})"
        self._producer.safe_append(
            self._topics.rejected,
            record.partition % self._topics.partitions,
            acks,
            key=record.key,
            forms=[
                lambda: (
                    record.value,
                    rejected_headers(reason, detail, source or "", origin, version=version, trace=trace),
                ),
                lambda: (b"", rejected_headers("too_large", too_large, source or "", origin, trace=trace)),
                lambda: (b"", rejected_headers("too_large", too_large, "", origin)),
            ],
        )

    def _write_failed(
        self, failed: Sequence[tuple[RouteDecision, Exception]], record: Any, rules: RuleSet, acks: PendingAcks
    ) -> None:
        buffer = OutcomeBuffer(Stage.ROUTER, record.topic, record.partition, rules.version)
        for decided, error in failed:
            integration, dead = decided.route.integration, decided.dead
            if dead is None and decided.value is not None:
                dead = DeliveryRecord.decode(decided.value)
            if dead is None:
                buffer.name(integration, decided.rule, Outcome.DEAD, record.offset, INTERNAL, describe(error))
            else:
                self._write_dead_letter(dead, integration, record.key, INTERNAL, describe(error), buffer, acks)
        self._write_outcomes(buffer, acks, record.partition)

    def _write_dead_letter(
        self,
        delivery: DeliveryRecord,
        integration: str,
        key: bytes | None,
        reason: str,
        detail: str,
        buffer: OutcomeBuffer,
        acks: PendingAcks,
    ) -> None:
        origin = delivery.origin
        letter = DeadLetter(
            integration, delivery._replace(payload={}).data(), reason, detail, 0, rfc3339(self._clock())
        )
        self._producer.safe_append(
            self._topics.dead, origin.partition % self._topics.partitions, acks, key=key, forms=letter.forms()
        )
        buffer.name(integration, delivery.rule, Outcome.DEAD, origin.offset, reason, detail)

    async def record_gap(self, gap: Gap) -> None:
        """Record that events are lost, because retention removed them before they were read. Raises BrokerError."""
        buffer = OutcomeBuffer(Stage.ROUTER, gap.topic, gap.partition, self._holder.current.version)
        for start, end in gap.lost:
            buffer.add_range("", "", Outcome.LOST, start, end - 1, RETENTION)
        acks = PendingAcks()
        self._write_outcomes(buffer, acks, gap.partition)
        await acks.confirmed(RECORD_SECONDS)

    def _write_outcomes(
        self, buffer: OutcomeBuffer, acks: PendingAcks, partition: int, records: Sequence[Any] = ()
    ) -> None:
        """Write the outcomes of a batch; `records` is the batch, or empty for outcomes that are added later."""
        buffer.count(ROUTER_OUTCOMES)
        for value, headers in buffer.encoded(records):
            self._producer.append(
                self._topics.outcomes,
                partition % self._topics.partitions,
                acks,
                key=buffer.key,
                value=value,
                headers=headers,
            )


def make_router(
    holder: CurrentRules,
    topics: Topics,
    broker: Broker,
    producer: Producer,
    settings: RouterSettings,
    suppressed: SuppressedUsers,
    *,
    fail: Callable[[str], None],
    grace: float,
    memory: VisitorMemorySettings | None = None,
    remake: Callable[[], ConsumerPipeline] | None = None,
    on_gap: OnGap = "continue",
    clock: Callable[[], float] = time,
) -> ConsumerPipeline:
    """Create the router as a pipeline of a worker. It reads the topics of the current sources.

    `suppressed` is the list that the rules in `holder` use; without a secret in `memory`, nothing is remembered.
    `fail` and `remake` are those of `ConsumerPipeline`, `on_gap` is that of `make_pipeline`.
    """
    group = topics.router_group

    def make_processor(control: PipelineControl) -> Processor:
        windows = Windows(broker, settings.dedupe_window, group, topics, lambda: control.finished_to)
        follower = SuppressionFollower(broker, topics.suppressed, suppressed, group)
        guard = Guard("router", lambda error: control.give_up(error, "routing"))
        memories = None
        if memory is not None and memory.secret is not None:
            cipher = MemoryCipher(memory.secret.get_secret_value())
            limits = MemoryLimits(memory.days * DAY, memory.entries)
            memories = MemoryTables(
                broker,
                topics,
                producer,
                cipher,
                limits,
                group,
                clock,
                lambda error: control.give_up(error, "following the memory of visitors"),
                lambda: control.finished_to,
            )
        router = Router(holder, topics, producer, windows, follower, guard, clock, memories)

        async def settle(seconds: float) -> bool:
            guard.flush()
            return await control.wait_until_settled(min(seconds, HELD_STOP_SECONDS) if guard.holds else seconds)

        async def stop() -> None:
            guard.drop()
            await follower.stop()
            if memories is not None:
                await memories.stop()

        def is_reading() -> bool:
            return windows.is_reading() or (memories is not None and memories.is_loading())

        def drop(tps: Iterable[TP]) -> None:
            revoked = list(tps)
            windows.drop(revoked)
            if memories is not None:
                memories.drop(revoked)

        return Processor(
            router.work,
            stop=stop,
            waits=is_reading,
            settle=settle,
            on_revoked=drop,
            record_gap=router.record_gap,
        )

    return make_pipeline(
        "router",
        [topics.events, *holder.current.sources.topics],
        make_processor,
        broker,
        fail=fail,
        remake=remake,
        group=group,
        commit_interval=1.0,
        grace=grace,
        budget=settings.fetched_bytes,
        on_gap=on_gap,
    )
