"""Replay the events of a time range through the current rules for one integration."""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Self

import orjson
from kafka import TopicPartition
from kafka.structs import OffsetAndMetadata

from deploy.config.configuration import Configuration
from deploy.config.integrations import Integration
from deploy.replay.remapping import REJECTED, Mapped, Remapper
from deploy.replay.undelivered import KnownDeliveries
from deploy.terminal.durations import humanize
from streams.events import Event
from streams.kafka.client import BlockingProducer, complete_ends, kafka_errors, open_consumer, poll
from streams.kafka.timestamps import known_offsets
from streams.records.outcomes import FORWARDED, Outcome
from streams.records.size import RecordTooLargeError
from streams.routing.dedupe import Window
from streams.suppression.admin import SuppressedList

READ_BATCH = 500
"""Records after which the position is stored; if the process is killed in between, they are repeated."""

Stopped = Callable[[float], bool]
"""Waits up to `seconds` for a request to stop; returns whether it was made."""


@dataclass(frozen=True, slots=True)
class ReplayRange:
    """A selection of events: those received from `since` until before `until`, in seconds since 1970.

    `events` are names of track events and types of other calls; empty for all. With `undelivered`, deliveries that
    arrived, or still wait in Kafka, are left out.
    """

    integration: str
    since: float
    until: float
    events: frozenset[str] = frozenset()
    undelivered: bool = False

    def group(self, prefix: str) -> str:
        """Return the consumer group that stores the position, which is the same for the same range."""
        parts = [self.since, self.until, sorted(self.events), *(["undelivered"] if self.undelivered else [])]
        identity = orjson.dumps(parts)
        return f"{prefix}.replay.{self.integration}.{hashlib.sha256(identity).hexdigest()[:12]}"

    def includes(self, event: Event) -> bool:
        """Return whether an event is one of `events`."""
        return not self.events or (event.get("event") or event["type"]) in self.events


def find_objections(integration: Integration, replay_range: ReplayRange, now: float) -> list[str]:
    """Return the reasons why the vendor would count events twice or reject them if they were sent again at `now`."""
    contract = integration.forwarder.contract
    if integration.mode == "shadow":
        return []
    found = []
    age = timedelta(seconds=now - replay_range.since)
    if replay_range.undelivered:
        pass  # none of them has arrived
    elif contract.dedupe_field is None:
        found.append(f"{contract.title} does not recognize duplicates: events that it has received count twice")
    elif contract.dedupe_caveat:
        found.append(f"{contract.title} may count events twice that it has received: {contract.dedupe_caveat}")
    elif contract.dedupe_window and age > contract.dedupe_window:
        window = humanize(contract.dedupe_window)
        found.append(
            f"{contract.title} recognizes duplicates for {window}, and these events are up to {humanize(age)} old:"
            " those that it has received count twice"
        )
    oldest = contract.max_age(integration.delivery.max_age)
    if oldest is not None and age > oldest:
        found.append(
            f"{contract.title} accepts no events older than {humanize(oldest)}, and these are up to {humanize(age)}"
            " old: older ones are skipped"
        )
    return found


@dataclass
class PartitionRange:
    """The range in one partition: offsets from `first` until before `end`; those before `at` are sent."""

    first: int
    end: int
    at: int


@dataclass
class Report:
    """The number of events read, and counts by outcome, rule and reason."""

    read: int = 0
    finished: bool = False
    outcomes: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    @property
    def sent(self) -> int:
        """The number of deliveries sent, or to be sent in a dry run."""
        return self._count(FORWARDED)

    @property
    def failed(self) -> int:
        """The number of rejected events and dead deliveries."""
        return self._count(REJECTED, Outcome.DEAD)

    def data(self) -> dict[str, Any]:
        """Return JSON data."""
        rows = [
            {"outcome": outcome, "rule": rule or None, "reason": reason, "count": count}
            for (outcome, rule, reason), count in self.outcomes.most_common()
        ]
        return {"read": self.read, "sent": self.sent, "finished": self.finished, "outcomes": rows}

    def _count(self, *outcomes: str) -> int:
        return sum(count for (outcome, _, _), count in self.outcomes.items() if outcome in outcomes)


class Replay:
    """A replay, as a context manager. Blocking; raises BrokerError.

    Its position is stored in Kafka, as the offsets of a consumer group: a replay of the same range resumes there,
    unless it starts `anew`. `known` are deliveries to leave out.
    """

    def __init__(
        self,
        configuration: Configuration,
        replay_range: ReplayRange,
        *,
        anew: bool = False,
        known: KnownDeliveries | None = None,
    ) -> None:
        self._configuration, self._replay_range, self._anew = configuration, replay_range, anew
        self._known = known
        self._broker, self._topics = configuration.settings.broker, configuration.topics
        self._ranges: dict[TopicPartition, PartitionRange] = {}

    def __enter__(self) -> Self:
        self._open = ExitStack()
        users = self._configuration.suppression.users
        self._suppressed = self._open.enter_context(SuppressedList(self._broker, self._topics, users))
        self._consumer = self._open.enter_context(
            open_consumer(self._broker, self._replay_range.group(self._topics.prefix))
        )
        with kafka_errors(self._broker):
            parts = [
                TopicPartition(topic, number)
                for topic in (self._topics.events, *self._configuration.sources.topics)
                for number in sorted(self._consumer.partitions_for_topic(topic) or ())
            ]
            self._consumer.assign(parts)
            self._ranges = self._find(parts)
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @property
    def total(self) -> int:
        """The number of events in the range, selected or not."""
        return sum(span.end - span.first for span in self._ranges.values())

    @property
    def done(self) -> int:
        """The number of these events that are already processed."""
        return sum(span.at - span.first for span in self._ranges.values())

    def run(self, *, rate: float, advance: Callable[[int], object], stopped: Stopped, dry: bool = False) -> Report:
        """Send the remaining events at up to `rate` deliveries per second (0 for no limit); `dry` sends nothing."""
        with kafka_errors(self._broker), nullcontext() if dry else BlockingProducer(self._broker) as producer:
            return self._run(producer, rate, advance, stopped)

    def _find(self, parts: list[TopicPartition]) -> dict[TopicPartition, PartitionRange]:
        begins = self._consumer.beginning_offsets(parts)
        ends = complete_ends(self._broker, self._consumer.end_offsets(parts))
        since, until = (
            self._offsets_at(self._replay_range.since, parts),
            self._offsets_at(self._replay_range.until, parts),
        )
        found = {}
        for part in parts:
            end = until.get(part, ends[part])
            first = max(begins[part], min(since.get(part, end), end))
            stored = None if self._anew else self._consumer.committed(part)
            found[part] = PartitionRange(first, end, min(max(first, stored or first), end))
        return found

    def _offsets_at(self, at: float, parts: list[TopicPartition]) -> dict[TopicPartition, int]:
        return known_offsets(self._consumer.offsets_for_times(dict.fromkeys(parts, round(at * 1000))))

    def _run(
        self, producer: BlockingProducer | None, rate: float, advance: Callable[[int], object], stopped: Stopped
    ) -> Report:  # fmt: skip
        report = Report()
        mapper = Remapper(self._configuration, self._replay_range.integration, selects=self._replay_range.includes)
        left = {part: span for part, span in self._ranges.items() if span.at < span.end}
        windows = self._seek_before(left)
        max_records = min(READ_BATCH, max(1, int(rate))) if rate else READ_BATCH
        wait, began = 0.0, time.monotonic()
        while left and not stopped(wait):
            before = self.done
            self._suppressed.catch_up()
            for part, records in poll(self._consumer, self._broker, max_records).items():
                span = self._ranges[part]
                for record in records:
                    if record.offset < span.at:
                        mapper.map(record, windows[part])
                    elif record.offset < span.end:
                        report.read += 1
                        for mapped in mapper.map(record, windows[part]):
                            outcome, reason = self._leave(mapped, record) or self._send(mapped, record.key, producer)
                            report.outcomes[outcome, mapped.rule, reason] += 1
            if producer:
                producer.confirm()
            self._store_positions(left, commit=producer is not None)
            advance(self.done - before)
            left = {part: span for part, span in left.items() if span.at < span.end}
            wait = report.sent / rate - (time.monotonic() - began) if rate else 0.0
        report.finished = not left
        return report

    def _seek_before(self, left: Mapping[TopicPartition, PartitionRange]) -> dict[TopicPartition, Window]:
        """Start reading before the remaining events, to find repeats of earlier ones."""
        size = self._configuration.settings.router.dedupe_window
        begins = self._consumer.beginning_offsets(list(left)) if left else {}
        self._consumer.assign(list(left))
        for part, span in left.items():
            self._consumer.seek(part, max(begins[part], span.at - size))
        return {part: Window(size) for part in left}

    def _leave(self, mapped: Mapped, record: Any) -> tuple[str, str] | None:
        """Return the outcome and the reason of a delivery that is left out; None if it is to be sent."""
        if self._known is None or mapped.delivery is None:
            return None
        return self._known.reason_to_leave(record.topic, record.partition, record.offset, mapped.rule)

    def _send(self, mapped: Mapped, key: bytes | None, producer: BlockingProducer | None) -> tuple[str, str]:
        """Send the delivery, if there is one; returns the outcome and its reason."""
        if mapped.delivery is None or producer is None:
            return mapped.outcome, mapped.reason
        partition = mapped.delivery.origin.partition % self._topics.partitions
        try:
            producer.send(
                self._topics.forward(self._replay_range.integration), key, mapped.delivery.encode(), partition
            )
        except RecordTooLargeError:
            return Outcome.DEAD, "too large for a record"
        except TypeError:
            return Outcome.DEAD, "not JSON"
        return mapped.outcome, mapped.reason

    def _store_positions(self, left: Mapping[TopicPartition, PartitionRange], *, commit: bool) -> None:
        """Store the position of each partition; finished partitions are paused."""
        moved = {}
        for part, span in left.items():
            at = min(self._consumer.position(part), span.end)
            if at > span.at:
                span.at = at
                moved[part] = OffsetAndMetadata(at, "", -1)
            if at == span.end:
                self._consumer.pause(part)
        if moved and commit:
            self._consumer.commit(moved)
