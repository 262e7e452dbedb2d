"""Turn recorded outcomes into counts: the arithmetic of one block, without storage.

Routers and forwarders repeat outcomes after a crash, and a dead delivery may be delivered later, so counts are never
sums of records. For each event, integration and rule only the strongest recorded outcome counts, in whatever order the
outcomes were recorded.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from streams.ledger import bit_sets
from streams.ledger.store import READ, REASON_CHARACTERS, REJECTED, Combo, CountKey
from streams.records.outcomes import FORWARDED, LostDeliveries, Outcome, Stage

STRENGTH: Mapping[str, int] = {
    outcome: strength
    for strength, outcome in enumerate(
        (
            FORWARDED,
            Outcome.LOST,
            Outcome.DUPLICATE,
            Outcome.DRAINING,
            Outcome.FILTERED,
            Outcome.SAMPLED,
            Outcome.OPTED_OUT,
            Outcome.CONSENT,
            Outcome.SUPPRESSED,
            Outcome.QUARANTINED,
            REJECTED,
            Outcome.EXPIRED,
            Outcome.DEAD,
            Outcome.DELIVERED,
            READ,
        )
    )
}
"""Which of several outcomes of one event, integration and rule counts: the last of this order.

LOST is weak. A router that was killed may have read events of which the next one says that they were lost, and a
forwarder may still deliver what another one could not read.
"""

KindAndMinute = tuple[int, int]
Deltas = Counter[tuple[KindAndMinute, CountKey]]


class BlockState:
    """The bit sets of one block while it changes; kinds and combos are numbers of the store."""

    __slots__ = ("kinds", "known", "outcomes")

    def __init__(self, kinds: dict[KindAndMinute, int], outcomes: dict[int, int]) -> None:
        self.kinds = kinds
        self.outcomes = outcomes
        self.known = 0
        for bits in kinds.values():
            self.known |= bits


class BlockChange(NamedTuple):
    """The result of a change of a block: the bit sets to store, and the counts to add."""

    kinds: dict[KindAndMinute, int]
    outcomes: dict[int, int]
    counts: Deltas


def apply(
    state: BlockState,
    kinds: Iterable[tuple[KindAndMinute, int]],
    outcomes: Mapping[int, int],
    combos: Mapping[int, Combo],
) -> BlockChange:
    """Add bits to a block, and return the changes.

    Args:
        state: The block, which is changed in place.
        kinds: Events that were read, by kind and minute. If an event is described twice, the first description holds.
        outcomes: Recorded outcomes by combo.
        combos: The combo of each number.

    """
    known = state.known
    changed_kinds: dict[KindAndMinute, int] = {}
    for kind, bits in kinds:
        if fresh := bits & ~state.known:
            state.known |= fresh
            changed_kinds[kind] = state.kinds[kind] = state.kinds.get(kind, 0) | fresh
    changed: dict[int, int] = {}
    old: dict[int, int] = {}
    for combo, bits in outcomes.items():
        before = state.outcomes.get(combo, 0)
        if bits & ~before:
            old[combo] = before
            changed[combo] = state.outcomes[combo] = before | bits
    counts: Deltas = Counter()
    if state.known == known and not changed:
        return BlockChange(changed_kinds, changed, counts)
    units: dict[tuple[str, str], list[int]] = {}
    touched = {_unit(combos[combo]) for combo in changed}
    for combo in state.outcomes:
        unit = _unit(combos[combo])
        if state.known != known or unit in touched:
            units.setdefault(unit, []).append(combo)
    masks, previous = list(state.kinds.items()), {**state.outcomes, **old}
    for members in units.values():
        before_keys = effective(members, previous, combos, known)
        for key, bits in effective(members, state.outcomes, combos, state.known).items():
            before = before_keys.pop(key, 0)
            _add(counts, masks, key, bits & ~before, before & ~bits)
        for key, before in before_keys.items():
            _add(counts, masks, key, 0, before)
    return BlockChange(changed_kinds, changed, counts)


def recount(state: BlockState, combos: Mapping[int, Combo]) -> Deltas:
    """Count a block from its bit sets; the result equals the sum of all its changes."""
    units: dict[tuple[str, str], list[int]] = {}
    for combo in state.outcomes:
        units.setdefault(_unit(combos[combo]), []).append(combo)
    counts: Deltas = Counter()
    for members in units.values():
        for key, bits in effective(members, state.outcomes, combos, state.known).items():
            _add(counts, list(state.kinds.items()), key, bits, 0)
    return counts


def _unit(combo: Combo) -> tuple[str, str]:
    # An event that was read and then rejected counts under both.
    return ("", READ) if combo.outcome == READ or is_unread(combo) else (combo.integration, combo.rule)


def is_unread(combo: Combo | CountKey) -> bool:
    """Return whether an outcome records that an event was lost before a router read it."""
    return combo.outcome == Outcome.LOST and not combo.integration


def find_lost(outcomes: Iterable[tuple[Combo, int]], block: int, lost: LostDeliveries) -> dict[Combo, int]:
    """Return the lost deliveries of a block: forwarded, not finished, and no longer in Kafka.

    Args:
        outcomes: The recorded outcomes of the block, as bits.
        block: The number of the block.
        lost: The lost range: its integration and events, and the deliveries that are still in Kafka.

    """
    left: dict[str, int] = defaultdict(int)
    forwarded: dict[tuple[str, str], int] = defaultdict(int)
    for combo, bits in outcomes:
        if combo.integration == lost.integration:
            if combo.outcome == FORWARDED:
                forwarded[combo.rules, combo.rule] |= bits
            else:
                left[combo.rule] |= bits
    for rule, intervals in lost.waiting:
        for first, last in intervals:
            left[rule] |= bit_sets.between(block, first, last + 1)
    mask = bit_sets.between(block, lost.start, lost.end)
    found = {key: bits & mask & ~left[key[1]] for key, bits in forwarded.items()}
    reason = lost.reason[:REASON_CHARACTERS]
    return {
        Combo(Stage.FORWARDER, rules, lost.integration, rule, Outcome.LOST, reason): bits
        for (rules, rule), bits in found.items()
        if bits
    }


def union(parts: Iterable[int]) -> int:
    """Return the union of bit sets."""
    found = 0
    for bits in parts:
        found |= bits
    return found


def strength(key: CountKey) -> tuple[int, str, str]:
    """Return the rank of an outcome: the strongest of an event, integration and rule counts."""
    return STRENGTH.get(key.outcome, 1), key.reason, key.outcome


def effective(
    members: Iterable[int], outcomes: Mapping[int, int], combos: Mapping[int, Combo], known: int
) -> dict[CountKey, int]:
    """Return the events among `known` that count under each key."""
    by_key: dict[CountKey, int] = {}
    for member in members:
        combo = combos[member]
        key = CountKey(combo.integration, combo.rule, combo.outcome, combo.reason)
        by_key[key] = by_key.get(key, 0) | outcomes[member]
    found: dict[CountKey, int] = {}
    left = known
    for key in sorted(by_key, key=strength, reverse=True):
        if bits := by_key[key] & left:
            found[key] = bits
            left &= ~bits
    return found


def _add(counts: Deltas, masks: Iterable[tuple[KindAndMinute, int]], key: CountKey, gained: int, lost: int) -> None:
    if not (gained or lost):
        return
    for kind, mask in masks:
        if number := (gained & mask).bit_count() - (lost & mask).bit_count():
            counts[kind, key] += number
