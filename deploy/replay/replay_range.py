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
from deploy.terminal.durations import humanize
from streams.events import Event
from streams.kafka.client import BlockingProducer, kafka_errors, open_consumer, poll
from streams.records.outcomes import FORWARDED, Outcome
from streams.records.size import RecordTooLargeError
from streams.routing.dedupe import Window
from streams.suppression.admin import SuppressedList

READ_BATCH = 500
"""Records after which it is noted how far a replay came: what a kill in between repeats."""

Stopped = Callable[[float], bool]
"""Waits so many seconds for the word to stop; whether it came."""


@dataclass(frozen=True, slots=True)
class ReplayRange:
    """What to replay: events received from `since` until before `until`, in seconds since 1970.

    `events` are names of track events, and types of other calls; none means all.
    """

    integration: str
    since: float
    until: float
    events: frozenset[str] = frozenset()

    def group(self, prefix: str) -> str:
        """The consumer group that remembers how far the replay came: of the same past always the same."""
        what = orjson.dumps([self.since, self.until, sorted(self.events)])
        return f"{prefix}.replay.{self.integration}.{hashlib.sha256(what).hexdigest()[:12]}"

    def wants(self, event: Event) -> bool:
        """Whether the event is one of `events`."""
        return not self.events or (event.get("event") or event["type"]) in self.events


def find_objections(integration: Integration, replay_range: ReplayRange, now: float) -> list[str]:
    """Return the reasons why the vendor would count events twice or reject them if they were sent again at `now`."""
    contract = integration.forwarder.contract
    if integration.mode == "shadow":
        return []
    found = []
    age = timedelta(seconds=now - replay_range.since)
    if contract.dedupe_field is None:
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
    """How many events were read, and what became of them: counts by outcome, rule and reason."""

    read: int = 0
    finished: bool = False
    outcomes: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    @property
    def sent(self) -> int:
        """How many deliveries were sent, or would be."""
        return self._count(FORWARDED)

    @property
    def failed(self) -> int:
        """How many events and deliveries the rules wanted, and could not make."""
        return self._count(REJECTED, Outcome.DEAD)

    def data(self) -> dict[str, Any]:
        """As JSON data."""
        rows = [
            {"outcome": outcome, "rule": rule or None, "reason": reason, "count": count}
            for (outcome, rule, reason), count in self.outcomes.most_common()
        ]
        return {"read": self.read, "sent": self.sent, "finished": self.finished, "outcomes": rows}

    def _count(self, *outcomes: str) -> int:
        return sum(count for (outcome, _, _), count in self.outcomes.items() if outcome in outcomes)


class Replay:
    """One replay, for the length of a `with`. Blocking; raises BrokerError.

    Kafka remembers how far it came, as the offsets of a consumer group: a replay of the same past goes on there, unless
    it begins `anew`.
    """

    def __init__(self, configuration: Configuration, replay_range: ReplayRange, *, anew: bool = False) -> None:
        self._configuration, self._replay_range, self._anew = configuration, replay_range, anew
        self._broker, self._topics = configuration.settings.broker, configuration.topics
        self._spans: dict[TopicPartition, PartitionRange] = {}

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
            self._spans = self._find(parts)
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @property
    def total(self) -> int:
        """How many events came in that time, wanted or not."""
        return sum(span.end - span.first for span in self._spans.values())

    @property
    def done(self) -> int:
        """How many of them it has been through."""
        return sum(span.at - span.first for span in self._spans.values())

    def run(self, *, rate: float, advance: Callable[[int], object], stopped: Stopped, dry: bool = False) -> Report:
        """Send what is left, at most `rate` deliveries a second (0: as fast as it goes); `dry` sends nothing."""
        with kafka_errors(self._broker), nullcontext() if dry else BlockingProducer(self._broker) as sending:
            return self._run(sending, rate, advance, stopped)

    def _find(self, parts: list[TopicPartition]) -> dict[TopicPartition, PartitionRange]:
        begins, ends = self._consumer.beginning_offsets(parts), self._consumer.end_offsets(parts)
        since, until = (
            self._offsets_at(self._replay_range.since, parts),
            self._offsets_at(self._replay_range.until, parts),
        )
        found = {}
        for part in parts:
            end = until.get(part, ends[part])
            first = max(begins[part], min(since.get(part, end), end))
            noted = None if self._anew else self._consumer.committed(part)
            found[part] = PartitionRange(first, end, min(max(first, noted or first), end))
        return found

    def _offsets_at(self, at: float, parts: list[TopicPartition]) -> dict[TopicPartition, int]:
        found = self._consumer.offsets_for_times(dict.fromkeys(parts, round(at * 1000)))
        # Kafka has no entry where nothing came at that time or later, the embedded broker one without a time.
        return {part: entry.offset for part, entry in found.items() if entry is not None and entry.timestamp >= 0}

    def _run(
        self, sending: BlockingProducer | None, rate: float, advance: Callable[[int], object], stopped: Stopped
    ) -> Report:  # fmt: skip
        report = Report()
        mapper = Remapper(self._configuration, self._replay_range.integration, wants=self._replay_range.wants)
        left = {part: span for part, span in self._spans.items() if span.at < span.end}
        windows = self._read_back(left)
        most = min(READ_BATCH, max(1, int(rate))) if rate else READ_BATCH
        ahead, began = 0.0, time.monotonic()
        while left and not stopped(ahead):
            before = self.done
            self._suppressed.catch_up()
            for part, records in poll(self._consumer, self._broker, most).items():
                span = self._spans[part]
                for record in records:
                    if record.offset < span.at:
                        mapper.map(record, windows[part])
                    elif record.offset < span.end:
                        report.read += 1
                        for mapped in mapper.map(record, windows[part]):
                            outcome, reason = self._send(mapped, record.key, sending)
                            report.outcomes[outcome, mapped.rule, reason] += 1
            if sending:
                sending.confirm()
            self._note(left, remember=sending is not None)
            advance(self.done - before)
            left = {part: span for part, span in left.items() if span.at < span.end}
            ahead = report.sent / rate - (time.monotonic() - began) if rate else 0.0
        report.finished = not left
        return report

    def _read_back(self, left: Mapping[TopicPartition, PartitionRange]) -> dict[TopicPartition, Window]:
        """Begin so far before what is left that repeats of earlier events are known."""
        size = self._configuration.settings.router.dedupe_window
        begins = self._consumer.beginning_offsets(list(left)) if left else {}
        self._consumer.assign(list(left))
        for part, span in left.items():
            self._consumer.seek(part, max(begins[part], span.at - size))
        return {part: Window(size) for part in left}

    def _send(self, mapped: Mapped, key: bytes | None, sending: BlockingProducer | None) -> tuple[str, str]:
        """Send what was mapped, if anything; returns its outcome and why."""
        if mapped.delivery is None or sending is None:
            return mapped.outcome, mapped.reason
        partition = mapped.delivery.origin.partition % self._topics.partitions
        try:
            sending.send(self._topics.forward(self._replay_range.integration), key, mapped.delivery.encode(), partition)
        except RecordTooLargeError:
            return Outcome.DEAD, "too large for a record"
        except TypeError:
            return Outcome.DEAD, "not JSON"
        return mapped.outcome, mapped.reason

    def _note(self, left: Mapping[TopicPartition, PartitionRange], *, remember: bool) -> None:
        """Take down how far each partition came; a part that came to its end is read no further."""
        moved = {}
        for part, span in left.items():
            at = min(self._consumer.position(part), span.end)
            if at > span.at:
                span.at = at
                moved[part] = OffsetAndMetadata(at, "", -1)
            if at == span.end:
                self._consumer.pause(part)
        if moved and remember:
            self._consumer.commit(moved)
