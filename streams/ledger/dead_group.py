"""Assign dead letters to groups; the ledger and the command line share this function."""

from collections.abc import Mapping

from streams.ledger.store import DeadGroupKey
from streams.ledger.vendor_message import normalize_message
from streams.records.dead_letter import DeadLetter

MAX_NAME_CHARACTERS = 200
MAX_REASON_CHARACTERS = 64
MAX_STATUS = 1 << 31


def group_of(letter: DeadLetter, key: bytes | None) -> DeadGroupKey:
    """Return the group of a dead letter; `key` is that of its record."""
    answer = letter.answer if isinstance(letter.answer, Mapping) else {}
    status = answer.get("status")
    text = letter.detail or str(answer.get("body") or "")
    # Without a payload, because it was too large to keep, the message may quote anything; rules quote no values.
    payload = letter.delivery["payload"] or (None if letter.attempts else {})
    return DeadGroupKey(
        letter.integration[:MAX_NAME_CHARACTERS],
        str(letter.delivery.get("rule") or "")[:MAX_NAME_CHARACTERS],
        letter.reason[:MAX_REASON_CHARACTERS],
        status if type(status) is int and 0 <= status < MAX_STATUS else None,
        normalize_message(text, payload, key.decode(errors="replace") if key else None),
    )
