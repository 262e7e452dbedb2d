"""Sums of the ledger's counts, grouped by the properties that the user names."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from streams.parsing.times import rfc3339
from streams.ledger.store import READ, REJECTED, Count

OF_EVENT = ("source", "type", "event")
OF_OUTCOME = ("integration", "rule", "outcome", "reason")
TIME = "time"
GROUPS = (*OF_EVENT, *OF_OUTCOME, TIME)
"""The properties to group by."""


def summarize(counts: Iterable[Count], by: Sequence[str], step: int = 60) -> dict[str, Any]:
    """Sum up counts as JSON data.

    `rows` count events if they are grouped by properties of events only. Otherwise they count outcomes: one for each
    event, integration and rule. `accepted` is the number of events that the router read.

    Args:
        counts: The counts.
        by: Properties from GROUPS.
        step: Seconds of one `time`, of which rows have the start (RFC 3339).

    """
    accepted = rejected = 0
    rows: Counter[tuple[Any, ...]] = Counter()
    of_outcomes = any(name in OF_OUTCOME for name in by)
    for count in counts:
        key = count.key
        if key.outcome == READ:
            accepted += count.number
        elif key.outcome == REJECTED:
            rejected += count.number
        if (key.outcome != READ) == of_outcomes:
            values = {
                "source": count.kind.source,
                "type": count.kind.type,
                "event": count.kind.name or "",
                **key._asdict(),
                TIME: count.time - count.time % step,
            }
            rows[tuple(values[name] for name in by)] += count.number
    ordered = sorted(rows.items(), key=lambda row: (-row[1], row[0]))
    if TIME in by:
        at = by.index(TIME)
        ordered = [((*row[:at], rfc3339(row[at]), *row[at + 1 :]), number) for row, number in ordered]
    return {
        "accepted": accepted,
        "rejected": rejected,
        "by": list(by),
        "rows": [{**dict(zip(by, values, strict=True)), "count": number} for values, number in ordered],
    }
