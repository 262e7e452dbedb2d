"""Make records of outcomes, rejected events and dead letters, and compute the expected ledger with a simple oracle."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import orjson

from streams.ledger import books
from streams.ledger.dead_group import group_of
from streams.ledger.intake import RecordIntake
from streams.ledger.store import READ, REJECTED, Combo, CountKey, DeadGroupKey, Store
from streams.records.dead_letter import DeadLetter
from streams.records.delivery import DeliveryRecord
from streams.records.event import Origin
from streams.records.handled import Handled
from streams.records.outcomes import (
    FORWARDED,
    NOTED,
    RETENTION,
    LostDeliveries,
    Outcome,
    OutcomeDetail,
    OutcomeInterval,
    Outcomes,
    Stage,
)
from streams.records.rejected import Rejected, rejected_headers
from streams.records.run_header import RUN_HEADER, UNREAD, EventFacts, Kind, decode_run, encode_run
from streams.topics import Topics
from tests.support.local_producer import LocalRecord

TOPICS = Topics(prefix="t", partitions=2)
DAY_MS = 24 * 3600 * 1000
START_MS = 1_790_000_000_000


class EventRecord(NamedTuple):
    """The parts of an event's record that a run header describes."""

    offset: int
    key: bytes
    timestamp: int


class Records:
    """Makes records of the topics that a ledger reads, with the next offset of their partition."""

    def __init__(self) -> None:
        self.made: list[LocalRecord] = []
        self._next: Counter[tuple[str, int]] = Counter()

    def run(
        self,
        partition: int,
        offsets: Sequence[int],
        spans: Sequence[OutcomeInterval],
        named: Sequence[OutcomeDetail] = (),
        *,
        rules: str = "v1",
        names: Sequence[str] = ("Order",),
        at: int = START_MS,
    ) -> None:
        """Add the records of a router for a run of events: their names by offset, messageIds `m-OFFSET`."""
        events = [EventRecord(offset, user(offset), at + offset % 3 * 60_000) for offset in offsets]
        facts = [
            EventFacts(offset, f"m-{partition}-{offset}", "web", "track", names[offset % len(names)])
            for offset in offsets
        ]
        (header,) = encode_run(events, facts)
        outcomes = Outcomes(Stage.ROUTER, TOPICS.events, partition, rules, spans, named)
        self.add(TOPICS.outcomes, partition, outcomes.encode(), [(RUN_HEADER, header)], at=at)

    def outcomes(
        self,
        partition: int,
        spans: Sequence[OutcomeInterval],
        named: Sequence[OutcomeDetail] = (),
        *,
        rules: str = "v1",
        at: int = START_MS,
    ) -> None:
        """Add a record of a forwarder."""
        outcomes = Outcomes(Stage.FORWARDER, TOPICS.events, partition, rules, spans, named)
        self.add(TOPICS.outcomes, partition, outcomes.encode(), at=at)

    def lost_events(self, partition: int, first: int, last: int, *, rules: str = "v1", at: int = START_MS) -> None:
        """Add a record of a router that could not read events."""
        spans = [OutcomeInterval("", "", Outcome.LOST, first, last, RETENTION)]
        outcomes = Outcomes(Stage.ROUTER, TOPICS.events, partition, rules, spans)
        self.add(TOPICS.outcomes, partition, outcomes.encode(), at=at)

    def lost_deliveries(
        self,
        partition: int,
        integration: str,
        start: int,
        end: int,
        waiting: Sequence[tuple[str, Sequence[tuple[int, int]]]] = (),
        *,
        at: int = START_MS,
    ) -> None:
        """Add a record of a forwarder that could not read deliveries of events from `start` up to `end`."""
        lost = LostDeliveries(integration, RETENTION, TOPICS.forward(integration), partition, 5, 9, start, end, waiting)
        outcomes = Outcomes(Stage.FORWARDER, TOPICS.events, partition, "", (), lost=[lost])
        self.add(TOPICS.outcomes, partition, outcomes.encode(), at=at)

    def rejected(self, partition: int, offset: int | None, reason: str, *, at: int = START_MS) -> None:
        """Add a rejected event, by the router or, without an offset, by the collector."""
        origin = None if offset is None else Origin(TOPICS.events, partition, offset)
        value = orjson.dumps({"messageId": f"r-{partition}-{offset}", "userId": 7})
        headers = rejected_headers(reason, "why", "web", origin)
        self.add(TOPICS.rejected, partition, value, headers, key=b"u-1" if origin else None, at=at)

    def dead(
        self,
        partition: int,
        offset: int,
        integration: str,
        rule: str,
        *,
        detail: str = "a@b.example",
        at: int = START_MS,
    ) -> None:
        """Add a dead letter."""
        origin = Origin(TOPICS.events, partition, offset)
        delivery = DeliveryRecord("m", rule, "v1", "track", "Order", "t", "t", "web", origin, {"email": "a@b.example"})
        answer = {"status": 422, "body": "a@b.example"}
        letter = DeadLetter(integration, delivery.data(), "status", detail, 3, "t", None, answer)
        self.add(TOPICS.dead, partition, letter.encode(), at=at)

    def handled(self, partition: int, offsets: Sequence[int], *, at: int = START_MS) -> None:
        """Add a mark that closes dead letters."""
        self.add(TOPICS.dead, partition, None, Handled("dropped", offsets).headers(), at=at)

    def add(
        self,
        topic: str,
        partition: int,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (),
        *,
        key: bytes | None = None,
        at: int = START_MS,
    ) -> None:
        """Add any record."""
        offset = self._next[topic, partition]
        self._next[topic, partition] += 1
        self.made.append(LocalRecord(topic, partition, offset, at, key, value, tuple(headers)))


def user(offset: int) -> bytes:
    return b"u-%d" % (offset % 5)


def feed(store: Store, records: Iterable[LocalRecord], chunk: int = 1000) -> None:
    """Write records to a store like an ingester: without those that it has, in chunks."""
    stored = dict(store.offsets())
    intake = RecordIntake(TOPICS)
    for number, record in enumerate(records, 1):
        if record.offset >= stored.get((record.topic, record.partition), 0):
            intake.take(record)
        if not number % chunk:
            store.write(intake.finish())
    store.write(intake.finish())


Counts = Counter[tuple[int, Kind, CountKey]]


class Oracle:
    """Computes counts and places from the records, one event at a time."""

    def __init__(self, records: Iterable[LocalRecord]) -> None:
        self.kinds: dict[Origin, tuple[Kind, int]] = {}
        self.outcomes: dict[Origin, set[Combo]] = defaultdict(set)
        self.ids: dict[str, set[Origin]] = defaultdict(set)
        self.users: dict[bytes, set[Origin]] = defaultdict(set)
        self.letters: dict[tuple[int, int], tuple[DeadLetter, int]] = {}
        self.handled: set[tuple[int, int]] = set()
        for record in records:
            if record.topic == TOPICS.outcomes:
                self._take_outcomes(record)
            elif record.topic == TOPICS.rejected:
                self._take_rejected(record)
            else:
                self._take_dead(record)

    def _take_dead(self, record: LocalRecord) -> None:
        if handled := Handled.decode(record.headers):
            self.handled |= {(record.partition, offset) for offset in handled.offsets if offset < record.offset}
        else:
            self.letters[record.partition, record.offset] = DeadLetter.decode(record.value), record.timestamp // 1000

    def dead_groups(self) -> dict[DeadGroupKey, tuple[int, int, int, int, dict[int, int]]]:
        """Return open and all dead letters, first and last time, and numbers by hour, for each group."""
        found: dict[DeadGroupKey, list[tuple[int, bool]]] = defaultdict(list)
        for place, (letter, second) in self.letters.items():
            unit = letter.integration, letter.delivery["rule"], "delivered"
            delivered = any(combo[2:5] == unit for combo in self.outcomes.get(Origin(*letter.delivery["from"]), ()))
            found[group_of(letter, None)].append((second, place not in self.handled and not delivered))
        return {
            key: (
                sum(is_open for _, is_open in letters),
                len(letters),
                min(letters)[0],
                max(letters)[0],
                dict(Counter(second // 3600 * 3600 for second, _ in letters)),
            )
            for key, letters in found.items()
        }

    def _take_outcomes(self, record: LocalRecord) -> None:
        outcomes = Outcomes.decode(record.value)
        for _, value in record.headers:
            run = decode_run(value)
            for offset, kind, minute in zip(run.offsets, run.kinds, run.minutes, strict=True):
                place = Origin(outcomes.topic, outcomes.partition, offset)
                self.kinds.setdefault(place, (run.table[kind], minute))
                self.outcomes[place].add(Combo("router", outcomes.rules, "", "", READ, ""))
                self.ids[f"m-{outcomes.partition}-{offset}"].add(place)
                self.users[user(offset)].add(place)
        for span in outcomes.spans:
            for offset in range(span.first, span.last + 1):
                combo = Combo(outcomes.stage, outcomes.rules, *span[:3], span.detail)
                place = Origin(outcomes.topic, outcomes.partition, offset)
                self.outcomes[place].add(combo)
                if books.is_unread(combo):
                    self.kinds.setdefault(place, (UNREAD, record.timestamp // 60_000))
        for named in outcomes.named:
            if named.outcome != NOTED:
                combo = Combo(outcomes.stage, outcomes.rules, *named[:3], named.reason)
                self.outcomes[Origin(outcomes.topic, outcomes.partition, named.offset)].add(combo)
        for lost in outcomes.lost:
            for place, combos in self.outcomes.items():
                if place[:2] == outcomes[1:3] and lost.start <= place.offset < lost.end:
                    combos.update(_lost(lost, place.offset, combos))

    def _take_rejected(self, record: LocalRecord) -> None:
        rejected = Rejected.decode(record.key, record.value, record.headers)
        place = rejected.origin or Origin(record.topic, record.partition, record.offset)
        if rejected.origin is None:
            self.kinds.setdefault(place, (Kind("web", "", None), record.timestamp // 60_000))
            self.users[b"7"].add(place)
        self.outcomes[place].add(Combo("router", "", "", "", REJECTED, rejected.reason))
        self.ids[orjson.loads(record.value)["messageId"]].add(place)

    def counts(self, seconds: int = 60) -> Counts:
        """Count each event once per integration and rule, under its strongest outcome."""
        found: Counts = Counter()
        for place, combos in self.outcomes.items():
            if place not in self.kinds:
                continue
            kind, minute = self.kinds[place]
            strongest: dict[tuple[str, str, bool], CountKey] = {}
            for combo in combos:
                key = CountKey(*combo[2:])
                unit = combo.integration, combo.rule, combo.outcome == READ or books.is_unread(combo)
                if unit not in strongest or _rank(key) > _rank(strongest[unit]):
                    strongest[unit] = key
            for key in strongest.values():
                found[minute * 60 // seconds * seconds, kind, key] += 1
        return found


def _lost(lost: LostDeliveries, offset: int, combos: Iterable[Combo]) -> set[Combo]:
    """Return the LOST outcomes of an event: deliveries that were forwarded, and are neither finished nor waiting."""
    left = {rule for rule, spans in lost.waiting for first, last in spans if first <= offset <= last}
    left |= {each.rule for each in combos if each.integration == lost.integration and each.outcome != FORWARDED}
    return {
        Combo("forwarder", each.rules, each.integration, each.rule, "lost", lost.reason)
        for each in combos
        if (each.integration, each.outcome) == (lost.integration, FORWARDED) and each.rule not in left
    }


def _rank(key: CountKey) -> tuple[int, str]:
    return books.STRENGTH.get(key.outcome, 1), key.reason


def counts_of(store: Store, seconds: int = 60) -> Counts:
    found: Counts = Counter()
    for time, kind, key, number in store.counts(0, 2**40, seconds):
        assert number
        assert (time, kind, key) not in found
        found[time, kind, key] = number
    return found
