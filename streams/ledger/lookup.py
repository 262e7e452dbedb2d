"""Look up the story of an event by its coordinates, messageId or user."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from streams.ledger import bit_sets, books
from streams.ledger.store import READ, REJECTED, Combo, CountKey, DeadLetterPlace, Reader, Remark
from streams.records.event import Origin
from streams.records.outcomes import NOTED
from streams.records.run_header import Kind, hash_id

PLACE = re.compile(r"(?P<topic>[A-Za-z0-9._-]{1,249}):(?P<partition>[0-9]{1,9}):(?P<offset>[0-9]{1,13})")


@dataclass(frozen=True)
class EventOutcome:
    """The outcome of an event for one integration and rule.

    `rule` is empty if no rule was involved. `rules` is the version of the rules that led to the outcome. `recorded` are
    all outcomes that were recorded for this rule, the weakest first: after a dead letter was delivered by a replay, it
    has both.
    """

    integration: str
    rule: str
    outcome: str
    reason: str
    rules: str
    remarks: Sequence[Remark]
    dead_letters: Sequence[DeadLetterPlace]
    recorded: Sequence[Combo]


@dataclass(frozen=True)
class Story:
    """The ledger's data about one event.

    `kind` and `minute` (since 1970) are None if no run header of the event is known. `rules` are the
    versions of the rules that routed it. `rejected` is the reason if the event was rejected.
    """

    place: Origin
    kind: Kind | None = None
    minute: int | None = None
    rules: Sequence[str] = ()
    rejected: str | None = None
    notes: Sequence[Remark] = ()
    outcomes: Sequence[EventOutcome] = field(default_factory=list)


def read_place(text: str) -> Origin | None:
    """Read TOPIC:PARTITION:OFFSET; None if the text is something else."""
    found = PLACE.fullmatch(text)
    return Origin(found["topic"], int(found["partition"]), int(found["offset"])) if found else None


def places_of_message(reader: Reader, message_id: str) -> Sequence[Origin]:
    """Return the places of events that may have this messageId; check the events in Kafka."""
    return reader.find_id(hash_id(message_id))


def places_of_user(reader: Reader, user: str) -> Sequence[Origin]:
    """Return the places of events that may have this userId, or this anonymousId and no userId.

    Raises NoUserIndexError.
    """
    return reader.find_user(hash_id(user))


def story_of(reader: Reader, place: Origin) -> Story | None:
    """Return the story of the event at a place; None if the ledger has no data about it."""
    block = next(reader.blocks(*place[:2], place.offset, place.offset + 1), None)
    if block is None:
        return None
    bit = bit_sets.of(block.number, place.offset)
    kind, minute = next((key for key, bits in block.kinds.items() if bits & bit), (None, None))
    combos = [combo for combo, bits in block.outcomes.items() if bits & bit]
    remarks, letters = reader.remarks(place), reader.dead_letters(place)
    if kind is None and not combos and not remarks and not letters:
        return None
    by_rule: dict[tuple[str, str], list[Combo]] = defaultdict(list)
    was_read = any(combo.outcome == READ for combo in combos)
    for combo in combos:
        if combo.outcome not in (READ, REJECTED) and not (was_read and books.is_unread(combo)):
            by_rule[combo.integration, combo.rule].append(combo)
    return Story(
        place,
        kind,
        minute,
        sorted({combo.rules for combo in combos if combo.outcome == READ}),
        next((combo.reason for combo in combos if combo.outcome == REJECTED), None),
        [remark for remark in remarks if remark.outcome == NOTED],
        [_outcome(key, by_rule[key], remarks, letters) for key in sorted(by_rule)],
    )


def _outcome(
    key: tuple[str, str], combos: Sequence[Combo], remarks: Sequence[Remark], letters: Sequence[DeadLetterPlace]
) -> EventOutcome:
    recorded = sorted(combos, key=lambda combo: (books.strength(CountKey(*combo[2:])), combo))
    last = recorded[-1]
    return EventOutcome(
        *key,
        last.outcome,
        last.reason,
        last.rules,
        [remark for remark in remarks if (remark.integration, remark.rule, remark.outcome) == (*key, last.outcome)],
        [letter for letter in letters if (letter.integration, letter.rule) == key],
        recorded,
    )
