"""Store the ledger in ClickHouse, for deployments that need more than one machine.

Blocks of outcomes are bit sets, and counts are their changes, by the same arithmetic as in the SQLite store. A batch is
written in this order:

1. Rows that are a union: IDs, users, remarks, dead letters.
2. One row in `journal` with the rest: the changed bit sets, the changes of counts, and the offsets.
3. That rest, with a token of the batch for the counts. The offsets are last.

If a process is killed after step 2, its offsets are older than its journal, and the next process repeats step 3: bit
sets are replaced by equal ones, and ClickHouse ignores counts whose token it has seen. A process killed before step 2
has counted nothing.

One process writes. Its name is in the table `writer`, and it increments the number there every few seconds. Another
process starts only if that number does not change for LEASE_SECONDS, or if the writer has ended.
"""

import base64
import hashlib
import time
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import orjson

from streams.ledger import bit_sets, books, store
from streams.ledger.bit_sets import BLOCK_BITS
from streams.ledger.books import BlockState, KindAndMinute
from streams.ledger.catalog import CatalogBounds, CatalogRow
from streams.ledger.clickhouse_client import ClickHouseClient
from streams.ledger.clickhouse_tables import DAILY, HISTORY_DAYS, statements
from streams.ledger.facts import BatchFacts, keyed
from streams.ledger.settings import ClickHouseAddress
from streams.ledger.store import (
    Block,
    BuriedLetter,
    Combo,
    Count,
    CountKey,
    DeadGroup,
    DeadGroupKey,
    DeadLetterPlace,
    LedgerBatch,
    LostForwards,
    NoUserIndexError,
    Partition,
    Remark,
    StoreInUseError,
)
from streams.records.event import Origin
from streams.records.outcomes import FORWARDED, LostDeliveries, Outcome
from streams.records.run_header import Kind
from streams.topics import PARKED_RETENTIONS

DAY_SECONDS = 86400
BEAT_SECONDS = 5.0
LEASE_SECONDS = 30.0
"""Seconds after which a writer that shows no sign of life is replaced."""

BLOCKS_PER_QUERY = 64
CACHED_BLOCKS = 256
MAX_KINDS = 5000
OTHER_NAME = "(other)"

_PLACE = "topic = %(topic)s AND partition = %(partition)s"
_BLOCKS = "block BETWEEN %(first)s AND %(last)s"
_COUNT_COLUMNS = "time, source, type, name, integration, rule, outcome, reason, number"
_BIT_COLUMNS = "day, topic, partition, block, outcome, label, bits, number"


def _in_use() -> StoreInUseError:
    return StoreInUseError("another ledger process writes to this database of ClickHouse")


def _label(key: Combo | tuple[Kind, int]) -> str:
    return orjson.dumps(tuple(key) if isinstance(key, Combo) else (*key[0], key[1])).decode()


def _row(
    day: str, partition: Partition, block: int, outcome: str, key: Combo | tuple[Kind, int], bits: int
) -> tuple[Any, ...]:
    """Return a row of the table `bits`."""
    data = base64.b64encode(bit_sets.encode(bits)).decode()
    return day, *partition, block, outcome, _label(key), data, bits.bit_count()


def _unite(rows: Iterable[Sequence[Any]]) -> tuple[dict[tuple[Kind, int], int], dict[Combo, int]]:
    """Return the bit sets of rows with outcome, label and bits; rows with the same label are merged."""
    kinds: dict[tuple[Kind, int], int] = defaultdict(int)
    outcomes: dict[Combo, int] = defaultdict(int)
    for outcome, label, data in rows:
        bits = bit_sets.decode(base64.b64decode(data))
        values = orjson.loads(label)
        if outcome:
            outcomes[Combo(*values)] |= bits
        else:
            kinds[Kind(*values[:3]), values[3]] |= bits
    return kinds, outcomes


class ClickHouseReader:
    """Reads the ledger's tables; use it in one thread at a time.

    Args:
        settings: How to reach ClickHouse.
        user_key: The key of the index of users, or None.

    """

    def __init__(self, settings: ClickHouseAddress, user_key: bytes | None) -> None:
        self._client, self._user_key = ClickHouseClient(settings), user_key

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def offsets(self) -> Mapping[Partition, int]:
        """Implements `Reader.offsets`."""
        rows = self._client.rows("SELECT topic, partition, argMax(next, batch) FROM offsets GROUP BY topic, partition")
        return {(topic, partition): offset for topic, partition, offset in rows}

    def partitions(self) -> Mapping[Partition, tuple[int, int]]:
        """Implements `Reader.partitions`."""
        found = {}
        select = "SELECT topic, partition, min(block), max(block) FROM bits WHERE outcome = 'read'"
        for topic, partition, *ends in self._client.rows(f"{select} GROUP BY topic, partition"):
            reads = []
            for end in ends:
                _, outcomes = self._bits((topic, partition), end, end)[end]
                reads.append(books.union(bits for combo, bits in outcomes.items() if combo.outcome == store.READ))
            first = (ends[0] << BLOCK_BITS) + (reads[0] & -reads[0]).bit_length() - 1
            found[topic, partition] = first, (ends[1] << BLOCK_BITS) + reads[1].bit_length() - 1
        return found

    def find_id(self, id_hash: bytes) -> Sequence[Origin]:
        """Implements `Reader.find_id`."""
        return self._find("ids", id_hash)

    def find_user(self, user_hash: bytes) -> Sequence[Origin]:
        """Implements `Reader.find_user`."""
        if self._user_key is None:
            raise NoUserIndexError("the ledger has no index of users: set `ledger: {user_key: …}` in turnout.yaml")
        return self._find("users", keyed(user_hash, self._user_key))

    def _find(self, table: str, key: bytes) -> Sequence[Origin]:
        select = f"SELECT DISTINCT day, topic, partition, offset FROM {table} WHERE hash = %(hash)s"  # noqa: S608  # from the code
        rows = self._client.rows(f"{select} ORDER BY day, topic, partition, offset", hash=int.from_bytes(key, "big"))
        return list(dict.fromkeys(Origin(*place) for _, *place in rows))

    def blocks(self, topic: str, partition: int, first: int, end: int) -> Iterator[Block]:
        """Implements `Reader.blocks`."""
        if end <= first:
            return
        number, last = first >> BLOCK_BITS, (end - 1) >> BLOCK_BITS
        where = {"topic": topic, "partition": partition, "first": number, "last": last}
        select = f"SELECT DISTINCT block FROM bits WHERE {_PLACE} AND {_BLOCKS} ORDER BY block"  # noqa: S608  # from the code
        numbers = [block for (block,) in self._client.rows(select, **where)]
        for at in range(0, len(numbers), BLOCKS_PER_QUERY):
            some = numbers[at : at + BLOCKS_PER_QUERY]
            for block, (kinds, outcomes) in sorted(self._bits((topic, partition), some[0], some[-1]).items()):
                yield Block(topic, partition, block, kinds, outcomes)

    def _bits(
        self, partition: Partition, first: int, last: int
    ) -> dict[int, tuple[dict[tuple[Kind, int], int], dict[Combo, int]]]:
        """Return the bit sets of the blocks in a range that have any."""
        select = f"SELECT block, outcome, label, bits FROM bits WHERE {_PLACE} AND {_BLOCKS}"  # noqa: S608  # from the code
        rows: dict[int, list[Sequence[Any]]] = defaultdict(list)
        for block, *row in self._client.rows(
            select, topic=partition[0], partition=partition[1], first=first, last=last
        ):
            rows[block].append(row)
        return {block: _unite(its) for block, its in rows.items()}

    def combos(self) -> Collection[Combo]:
        """Implements `Reader.combos`."""
        rows = self._client.rows("SELECT DISTINCT label FROM bits WHERE outcome != ''")
        return {Combo(*orjson.loads(label)) for (label,) in rows}

    def remarks(self, place: Origin) -> Sequence[Remark]:
        """Implements `Reader.remarks`."""
        return [
            Remark(*row) for row in self._of_place("integration, rule, outcome, reason, detail FROM remarks", place)
        ]

    def dead_letters(self, place: Origin) -> Sequence[DeadLetterPlace]:
        """Implements `Reader.dead_letters`."""
        columns = "integration, rule, dead_partition, dead_offset, reason, attempts, status FROM dead_letters"
        return [DeadLetterPlace(place, *row) for row in self._of_place(columns, place)]

    def _of_place(self, columns: str, place: Origin) -> list[list[Any]]:
        return self._client.rows(
            f"SELECT DISTINCT {columns} WHERE {_PLACE} AND offset = %(offset)s",  # columns of the callers
            **place._asdict(),
        )

    def dead_groups(self, hours_since: int) -> Sequence[DeadGroup]:
        """Implements `Reader.dead_groups`."""
        key = "integration, rule, reason, status, message"
        is_open = "(partition, offset) NOT IN (SELECT partition, offset FROM handled) AS is_open"
        letters = f"(SELECT *, {is_open} FROM died FINAL ORDER BY intDiv(second, 3600) DESC, offset DESC)"  # noqa: S608  # of this function
        newest = f"groupArrayIf({store.NEWEST_LETTERS})((partition, offset), is_open)"
        hours: dict[DeadGroupKey, dict[int, int]] = defaultdict(dict)
        for *values, hour, number in self._client.rows(
            f"SELECT {key}, intDiv(second, 3600) * 3600 AS hour, count() FROM died FINAL"  # noqa: S608  # of this function
            f" WHERE hour >= %(since)s GROUP BY {key}, hour ORDER BY hour",
            since=hours_since - hours_since % 3600,
        ):
            hours[DeadGroupKey(*values)][hour] = number
        numbers = f"countIf(is_open), count(), min(second), max(second), {newest}"
        found = []
        for *values, still_open, total, first, last, places in self._client.rows(
            f"SELECT {key}, {numbers} FROM {letters} GROUP BY {key}"  # noqa: S608  # of this function
        ):
            group = DeadGroupKey(*values)
            newest_places = [(partition, offset) for partition, offset in places]
            found.append(DeadGroup(group, still_open, total, first, last, hours[group], newest_places))
        return found

    def catalog(self) -> Sequence[CatalogRow]:
        """Implements `Reader.catalog`."""
        key = "source, type, name, property, json_type"
        rows = self._client.rows(f"SELECT {key}, sum(number), min(first), max(last) FROM catalog GROUP BY {key}")  # noqa: S608  # of this function
        return [CatalogRow(Kind(source, kind, name or None), *rest) for source, kind, name, *rest in rows]

    def counts(self, since: int, until: int, step: int = 60) -> Iterator[Count]:
        """Implements `Reader.counts`."""
        table = "minutes" if step == 60 else "hours"
        key = "source, type, name, integration, rule, outcome, reason"
        rows = self._client.rows(
            f"SELECT intDiv(toUnixTimestamp(time), %(step)s) * %(step)s AS start, {key}, sum(number) AS total"  # noqa: S608  # of this function
            f" FROM {table} WHERE time >= toDateTime(%(since)s, 'UTC') AND time < toDateTime(%(until)s, 'UTC')"
            f" GROUP BY start, {key} HAVING total != 0 ORDER BY start",
            step=step,
            since=min(-(-since // step) * step, 2**32 - 1),
            until=min(-(-until // step) * step, 2**32 - 1),
        )
        for start, source, kind, name, *values, number in rows:
            yield Count(start, Kind(source, kind, name or None), CountKey(*values), number)


class ClickHouseStore(ClickHouseReader):
    """Writes the ledger's tables; one process at a time.

    Args:
        settings: How to reach ClickHouse.
        user_key: The key of the index of users; without it no such index is written.
        retention_days: Days that Kafka keeps events.

    """

    def __init__(self, settings: ClickHouseAddress, user_key: bytes | None, retention_days: int) -> None:
        super().__init__(settings, user_key)
        self._retention = retention_days
        for statement in statements(retention_days):
            self._client.run(statement)
        self._process, self._beat, self._beat_at = uuid4().hex, 0, float("-inf")
        self._become_writer()
        self._open()

    def close(self) -> None:
        """Release the writer's lease, and close the connections."""
        try:
            if self._read_writer()[0] == self._process:
                self._name_writer("")
        finally:
            super().close()

    def keep(self) -> None:
        """Implements `Store.keep`."""
        if time.monotonic() - self._beat_at >= BEAT_SECONDS:
            self._check_writer()
            self._name_writer(self._process)

    def _become_writer(self) -> None:
        before, deadline = self._read_writer(), time.monotonic() + LEASE_SECONDS
        while before[0] and time.monotonic() < deadline:
            time.sleep(min(1.0, LEASE_SECONDS))
            if self._read_writer() != before:
                raise _in_use()
        self._beat = before[1]
        self._name_writer(self._process)
        self._check_writer()

    def _read_writer(self) -> tuple[str, int]:
        """Return the writer, "" without one, and its last heartbeat number."""
        rows = self._client.rows("SELECT process, beat FROM writer ORDER BY beat DESC, process DESC LIMIT 1")
        return (rows[0][0], rows[0][1]) if rows else ("", 0)

    def _name_writer(self, process: str) -> None:
        self._beat += 1
        self._client.insert("writer", "one, process, beat", [(0, process, self._beat)])
        self._beat_at = time.monotonic()

    def _check_writer(self) -> None:
        if self._read_writer()[0] != self._process:
            raise _in_use()

    def _open(self) -> None:
        """Finish the last batch if the previous process was killed, and fill the caches."""
        rows = self._client.rows("SELECT batch, payload FROM journal ORDER BY batch DESC LIMIT 1")
        self._batch = rows[0][0] if rows else 0
        (committed,) = self._client.rows("SELECT max(batch) FROM offsets")[0]
        if self._batch > committed:
            self._apply(orjson.loads(rows[0][1]))
        self._offsets = dict(self.offsets())
        self._states: OrderedDict[tuple[Partition, int], BlockState] = OrderedDict()
        self._combos: dict[int, Combo] = {}
        self._combo_numbers: dict[Combo, int] = {}
        self._kinds: dict[int, Kind] = {}
        self._kind_numbers: dict[Kind, int] = {}
        self._removed = {
            (topic, partition): below
            for topic, partition, below in self._client.rows(
                "SELECT topic, partition, max(below) FROM removed GROUP BY topic, partition"
            )
        }
        self._with_letters = {
            ((topic, partition), block)
            for topic, partition, block in self._client.rows(
                f"SELECT DISTINCT topic, partition, bitShiftRight(offset, {BLOCK_BITS}) FROM dead_letters"  # noqa: S608  # a number
            )
        }
        columns = "integration, rule, reason, status, message"
        self._groups = {DeadGroupKey(*row) for row in self._client.rows(f"SELECT DISTINCT {columns} FROM died")}  # noqa: S608  # of this function
        self._bounds = CatalogBounds((row.kind, row.property) for row in self.catalog())

    def write(self, batch: LedgerBatch) -> None:
        """Implements `Store.write`."""
        self._check_writer()
        try:
            for part in _parts(batch):
                self._write(part)
        except BaseException:
            # Blocks in memory may be ahead of the tables.
            self._open()
            raise

    def _write(self, batch: LedgerBatch) -> None:
        (newest,) = self._client.rows("SELECT max(batch) FROM journal")[0]
        if newest != self._batch:
            raise _in_use()
        day = datetime.fromtimestamp(min(batch.time_ms / 1000 or time.time(), time.time()), UTC).date().isoformat()
        facts = BatchFacts(batch, self._user_key)
        self._insert_unions(day, facts, batch)
        bits, deltas, handled = self._change(day, facts, batch.lost_deliveries)
        handled |= {*batch.handled, *self._delivered(batch.dead)}
        self._client.insert("handled", "partition, offset", sorted(handled))
        self._offsets.update(batch.offsets)
        payload = {
            "batch": self._batch + 1,
            "token": _token(batch.offsets, self._batch + 1),
            "bits": bits,
            "counts": [
                (minute, *kind[:2], kind.name or "", *key, number)
                for ((number_of_kind, minute), key), number in deltas.items()
                if number and (kind := self._kinds[number_of_kind])
            ],
            "offsets": [(*partition, next_) for partition, next_ in self._offsets.items()],
        }
        self._client.insert("journal", "one, batch, payload", [(0, payload["batch"], orjson.dumps(payload).decode())])
        self._apply(payload)
        self._batch += 1
        if batch.samples:
            self._client.insert(
                "catalog",
                "source, type, name, property, json_type, number, first, last",
                [(*kind[:2], kind.name or "", *rest) for kind, *rest in self._bounds.sums(batch.samples)],
            )

    def _apply(self, payload: Mapping[str, Any]) -> None:
        """Write the changes of a batch; idempotent."""
        self._client.insert("bits", _BIT_COLUMNS, payload["bits"])
        for table, seconds in (("minutes", 60), ("hours", 3600)):
            sums: Counter[tuple[Any, ...]] = Counter()
            for minute, *key, number in payload["counts"]:
                sums[minute * 60 // seconds * seconds, *key] += number
            rows = [(*key, number) for key, number in sums.items() if number]
            self._client.insert(table, _COUNT_COLUMNS, rows, payload["token"])
        rows = [(*row, payload["batch"]) for row in payload["offsets"]]
        self._client.insert("offsets", "topic, partition, next, batch", rows)

    def _insert_unions(self, day: str, facts: BatchFacts, batch: LedgerBatch) -> None:
        for table in ("ids", "users"):
            self._client.insert(
                table,
                "day, hash, topic, partition, offset",
                [
                    (day, int.from_bytes(one, "big"), *partition, offset)
                    for partition, its in facts.partitions.items()
                    for block, found in (its.ids if table == "ids" else its.users).items()
                    if not self._is_removed(partition, block)
                    for offset, one in found
                ],
            )
        self._client.insert(
            "remarks",
            "day, topic, partition, offset, integration, rule, outcome, reason, detail",
            [
                (day, *place, *remark)
                for place, remark in facts.remarks
                if not self._is_removed(place[:2], place.offset >> BLOCK_BITS)
            ],
        )
        letters = [
            letter
            for letter, *_ in batch.dead
            if not self._is_removed(letter.place[:2], letter.place.offset >> BLOCK_BITS)
        ]
        columns = (
            "day, topic, partition, offset, integration, rule, dead_partition, dead_offset, reason, attempts, status"
        )
        self._client.insert("dead_letters", columns, [(day, *letter.place, *letter[1:]) for letter in letters])
        self._with_letters |= {(letter.place[:2], letter.place.offset >> BLOCK_BITS) for letter in letters}
        self._client.insert(
            "died",
            "partition, offset, second, integration, rule, reason, status, message",
            [(it.place.partition, it.place.offset, it.second, *self._group(it.group)) for it in batch.dead],
        )

    def _group(self, key: DeadGroupKey) -> DeadGroupKey:
        if key not in self._groups and len(self._groups) >= store.MAX_GROUPS:
            key = DeadGroupKey(key.integration, "", "", None, store.OTHER_MESSAGE)
        self._groups.add(key)
        return key

    def _change(
        self, day: str, facts: BatchFacts, lost_deliveries: Sequence[LostForwards]
    ) -> tuple[list[tuple[Any, ...]], books.Deltas, set[tuple[int, int]]]:
        """Add a batch to its blocks.

        Returns rows of `bits`, the changes of counts, and the places of dead letters whose delivery succeeds.
        """
        rows: list[tuple[Any, ...]] = []
        deltas: books.Deltas = Counter()
        handled: set[tuple[int, int]] = set()
        for partition, its in facts.partitions.items():
            outcomes = its.outcomes_by_block()
            for block in sorted({*its.kinds, *outcomes}):
                if not self._is_removed(partition, block):
                    kinds = [((self._kind(kind), minute), bits) for kind, minute, bits in its.kinds.get(block, ())]
                    rows += self._change_block(day, partition, block, kinds, outcomes.get(block, {}), deltas)
                    handled |= self._delivered_letters(partition, block, outcomes.get(block, {}))
        for topic, number, lost in lost_deliveries:
            for block, bits in self._lost_blocks((topic, number), lost):
                rows += self._change_block(day, (topic, number), block, (), bits, deltas)
        return rows, deltas, handled

    def _change_block(
        self,
        day: str,
        partition: Partition,
        block: int,
        kinds: Iterable[tuple[KindAndMinute, int]],
        outcomes: Mapping[Combo, int],
        deltas: books.Deltas,
    ) -> list[tuple[Any, ...]]:
        """Add bits to a block, and the changes of counts to `deltas`; return rows of `bits`."""
        numbers = {self._combo(combo): bits for combo, bits in outcomes.items()}
        change = books.apply(self._state(partition, block), kinds, numbers, self._combos)
        deltas.update(change.counts)
        changed = [((self._kinds[kind], minute), bits) for (kind, minute), bits in change.kinds.items()]
        combos = [(self._combos[number], bits) for number, bits in change.outcomes.items()]
        return [
            *(_row(day, partition, block, "", key, bits) for key, bits in changed),
            *(_row(day, partition, block, combo.outcome, combo, bits) for combo, bits in combos),
        ]

    def _lost_blocks(self, partition: Partition, lost: LostDeliveries) -> Iterator[tuple[int, Mapping[Combo, int]]]:
        """Return the blocks in which deliveries are lost, with the bits of the outcome to add."""
        ends = {"first": lost.start >> BLOCK_BITS, "last": lost.end >> BLOCK_BITS}
        select = f"SELECT DISTINCT block FROM bits WHERE {_PLACE} AND {_BLOCKS} AND outcome = %(outcome)s"  # noqa: S608  # from the code
        found = self._client.rows(select, topic=partition[0], partition=partition[1], outcome=FORWARDED, **ends)
        for (block,) in found:
            if not self._is_removed(partition, block):
                outcomes = self._state(partition, block).outcomes.items()
                if bits := books.find_lost(((self._combos[number], bits) for number, bits in outcomes), block, lost):
                    yield block, bits

    def _delivered_letters(
        self, partition: Partition, block: int, outcomes: Mapping[Combo, int]
    ) -> set[tuple[int, int]]:
        """Return the places of a block's dead letters whose deliveries succeeded according to `outcomes`."""
        delivered: dict[tuple[str, str], int] = defaultdict(int)
        for combo, bits in outcomes.items():
            if combo.outcome == Outcome.DELIVERED:
                delivered[combo.integration, combo.rule] |= bits
        if not delivered or (partition, block) not in self._with_letters:
            return set()
        select = "SELECT offset, integration, rule, dead_partition, dead_offset FROM dead_letters"
        start = block << BLOCK_BITS
        rows = self._client.rows(
            f"{select} WHERE {_PLACE} AND offset >= %(start)s AND offset < %(end)s",
            topic=partition[0],
            partition=partition[1],
            start=start,
            end=start + bit_sets.BLOCK_OFFSETS,
        )
        return {
            (dead_partition, dead_offset)
            for offset, integration, rule, dead_partition, dead_offset in rows
            if delivered[integration, rule] & bit_sets.of(block, offset)
        }

    def _delivered(self, letters: Iterable[BuriedLetter]) -> Iterator[tuple[int, int]]:
        """Return the places of new dead letters whose delivery has succeeded."""
        for letter, *_ in letters:
            block = letter.place.offset >> BLOCK_BITS
            if self._is_removed(letter.place[:2], block):
                continue
            bit = bit_sets.of(block, letter.place.offset)
            delivered = letter.integration, letter.rule, Outcome.DELIVERED
            for number, bits in self._state(letter.place[:2], block).outcomes.items():
                if bits & bit and self._combos[number][2:5] == delivered:
                    yield letter.partition, letter.offset

    def _is_removed(self, partition: Partition, block: int) -> bool:
        below: int = self._removed.get(partition, 0)
        return block < below

    def _state(self, partition: Partition, block: int) -> BlockState:
        state = self._states.get((partition, block))
        if state is None:
            kinds, outcomes = self._bits(partition, block, block).get(block, ({}, {}))
            its: dict[KindAndMinute, int] = {(self._kind(kind), minute): bits for (kind, minute), bits in kinds.items()}
            state = BlockState(its, {self._combo(combo): bits for combo, bits in outcomes.items()})
            self._states[partition, block] = state
            if len(self._states) > CACHED_BLOCKS:
                self._states.popitem(last=False)
        self._states.move_to_end((partition, block))
        return state

    def _kind(self, kind: Kind) -> int:
        if kind not in self._kind_numbers and len(self._kind_numbers) >= MAX_KINDS:
            kind = kind._replace(name=OTHER_NAME)
        number = self._kind_numbers.setdefault(kind, len(self._kind_numbers) + 1)
        self._kinds[number] = kind
        return number

    def _combo(self, combo: Combo) -> int:
        number = self._combo_numbers.setdefault(combo, len(self._combo_numbers) + 1)
        self._combos[number] = combo
        return number

    def expire(self, now: float) -> None:
        """Implements `Store.expire`."""
        oldest = datetime.fromtimestamp(now, UTC).date() - timedelta(days=self._retention + 1)
        days = [date.fromisoformat(day) for (day,) in self._client.rows("SELECT DISTINCT toString(day) FROM bits")]
        gone = [day for day in days if day < oldest]
        if gone:
            rows = self._client.rows(
                "SELECT topic, partition, max(block) + 1 FROM bits WHERE day IN %(days)s GROUP BY topic, partition",
                days=[day.isoformat() for day in gone],
            )
            # Late outcomes of removed events must not count again.
            self._client.insert("removed", "topic, partition, below", rows)
            for table in DAILY:
                for day in gone:
                    self._client.run(f"ALTER TABLE {table} DROP PARTITION '{day.isoformat()}'")
        dead = int(now - PARKED_RETENTIONS * self._retention * DAY_SECONDS)
        self._client.run(f"DELETE FROM died WHERE second < {dead - dead % 3600}")  # noqa: S608  # a number
        self._client.run("DELETE FROM handled WHERE (partition, offset) NOT IN (SELECT partition, offset FROM died)")
        self._client.run(f"DELETE FROM catalog WHERE last < {int(now - HISTORY_DAYS * DAY_SECONDS)}")  # noqa: S608  # a number
        self._open()


def _parts(batch: LedgerBatch) -> Iterator[LedgerBatch]:
    """Split a batch so that each part changes a block once; blocks in memory are ahead of the tables until the end.

    Only the last part has the offsets, so that all of them are written again after a crash.
    """
    if not batch.lost_deliveries:
        yield batch
        return
    yield replace(batch, lost_deliveries=[], offsets={})
    for number, lost in enumerate(batch.lost_deliveries, 1):
        offsets = batch.offsets if number == len(batch.lost_deliveries) else {}
        yield LedgerBatch(offsets, lost_deliveries=[lost], time_ms=batch.time_ms)


def _token(offsets: Mapping[Partition, int], batch: int) -> str:
    """Return the token of a batch: its number, and its end offset in each partition."""
    ends = orjson.dumps(sorted((*partition, offset) for partition, offset in offsets.items()))
    return f"{batch}-{hashlib.blake2b(ends, digest_size=12).hexdigest()}"
