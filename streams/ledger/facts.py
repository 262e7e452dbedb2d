"""Convert a batch to the form that stores keep: bit sets of blocks, and hashes by offset."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence

from streams.ledger.bit_sets import BLOCK_BITS, BitSets
from streams.ledger.store import READ, REASON_CHARACTERS, REJECTED, Combo, LedgerBatch, Partition, Remark, Run
from streams.records.event import Origin
from streams.records.outcomes import NOTED, Outcome, Outcomes, Stage, intervals
from streams.records.run_header import HASH_BYTES, NO_HASH, UNREAD, Kind


class PartitionFacts:
    """One partition's facts of a batch, in the form in which blocks store them."""

    def __init__(self) -> None:
        self.kinds: dict[int, list[tuple[Kind, int, int]]] = defaultdict(list)
        self.outcomes: dict[Combo, BitSets] = defaultdict(BitSets)
        self.ids: dict[int, list[tuple[int, bytes]]] = defaultdict(list)
        self.users: dict[int, list[tuple[int, bytes]]] = defaultdict(list)

    def add_kinds(self, kinds: Mapping[tuple[Kind, int], BitSets]) -> None:
        """Add the events of one run; if two runs describe an event, the first one wins."""
        for (kind, minute), sets in kinds.items():
            for block, bits in sets.blocks():
                self.kinds[block].append((kind, minute, bits))

    def outcomes_by_block(self) -> Mapping[int, dict[Combo, int]]:
        """Return the outcomes' bits by block and combo."""
        found: dict[int, dict[Combo, int]] = defaultdict(dict)
        for combo, sets in self.outcomes.items():
            for block, bits in sets.blocks():
                found[block][combo] = bits
        return found


class BatchFacts:
    """The facts of a batch, by partition, and the reasons and notes of its events.

    Args:
        batch: The batch.
        user_key: The key of the index of users; without it no user is in the facts.

    """

    def __init__(self, batch: LedgerBatch, user_key: bytes | None) -> None:
        self._user_key = user_key
        self._keyed: dict[bytes, bytes] = {}
        self.partitions: dict[Partition, PartitionFacts] = defaultdict(PartitionFacts)
        self.remarks: list[tuple[Origin, Remark]] = []
        for run in batch.runs:
            self._add_run(run)
        for outcomes in batch.outcomes:
            self._add_outcomes(outcomes)
        for topic, partition, first, last, minute in batch.lost_events:
            unread = BitSets()
            unread.add(first, last)
            self.partitions[topic, partition].add_kinds({(UNREAD, minute): unread})
        for rejected in batch.rejected:
            facts, offset = self.partitions[rejected.place[:2]], rejected.place.offset
            facts.outcomes[Combo(Stage.ROUTER, "", "", "", REJECTED, rejected.reason[:REASON_CHARACTERS])].add(
                offset, offset
            )
            if rejected.kind is not None:
                sets = BitSets()
                sets.add(offset, offset)
                facts.add_kinds({(rejected.kind, rejected.minute): sets})
                self._add_hashes(facts.users, [offset], self._keyed_users(rejected.user_hash))
            self._add_hashes(facts.ids, [offset], rejected.id_hash)

    def _add_run(self, run: Run) -> None:
        header = run.header
        facts = self.partitions[run.topic, run.partition]
        read = facts.outcomes[Combo(Stage.ROUTER, run.rules, "", "", READ, "")]
        for first, last in intervals(header.offsets):
            read.add(first, last)
        kinds: dict[tuple[Kind, int], BitSets] = defaultdict(BitSets)
        if len(header.table) == 1 and min(header.minutes) == max(header.minutes):
            sets = kinds[header.table[0], header.minutes[0]]
            for first, last in intervals(header.offsets):
                sets.add(first, last)
        else:
            for offset, kind, minute in zip(header.offsets, header.kinds, header.minutes, strict=True):
                kinds[header.table[kind], minute].add(offset, offset)
        facts.add_kinds(kinds)
        self._add_hashes(facts.ids, header.offsets, header.ids)
        self._add_hashes(facts.users, header.offsets, self._keyed_users(header.users))

    def _add_outcomes(self, outcomes: Outcomes) -> None:
        stage, topic, partition, rules = outcomes[:4]
        sets = self.partitions[topic, partition].outcomes
        for integration, rule, outcome, first, last, detail in outcomes.spans:
            sets[Combo(stage, rules, integration, rule, outcome, detail)].add(first, last)
        for named in outcomes.named:
            # The vendor's answer may quote personal data; it is in the dead letter.
            detail = named.detail if stage == Stage.ROUTER and named.outcome != Outcome.DEAD else ""
            remark = Remark(named.integration, named.rule, named.outcome, named.reason[:REASON_CHARACTERS], detail)
            self.remarks.append((Origin(topic, partition, named.offset), remark))
            if named.outcome != NOTED:
                combo = Combo(
                    stage, rules, named.integration, named.rule, named.outcome, named.reason[:REASON_CHARACTERS]
                )
                sets[combo].add(named.offset, named.offset)

    def _keyed_users(self, hashes: bytes) -> bytes:
        """Return the keyed hashes of users; without a key, no hashes."""
        if self._user_key is None:
            return bytes(len(hashes))
        cache, key, found = self._keyed, self._user_key, []
        for at in range(0, len(hashes), HASH_BYTES):
            one = hashes[at : at + HASH_BYTES]
            digest = cache.get(one)
            if digest is None:
                digest = cache[one] = keyed(one, key)
            found.append(digest)
        return b"".join(found)

    @staticmethod
    def _add_hashes(blocks: dict[int, list[tuple[int, bytes]]], offsets: Sequence[int], hashes: bytes) -> None:
        for at, offset in enumerate(offsets):
            one = hashes[at * HASH_BYTES : (at + 1) * HASH_BYTES]
            if one != NO_HASH:
                blocks[offset >> BLOCK_BITS].append((offset, one))


def keyed(user_hash: bytes, key: bytes) -> bytes:
    """Return the digest of a hash in the index of users."""
    return hashlib.blake2b(user_hash, digest_size=HASH_BYTES, key=key[: hashlib.blake2b.MAX_KEY_SIZE]).digest()
