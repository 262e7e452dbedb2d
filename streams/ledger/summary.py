"""Sum the ledger's counts, grouped by chosen properties."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from streams.ledger.books import is_unread
from streams.ledger.store import READ, REJECTED, Count, CountKey
from streams.records.run_header import Kind

MINUTES_UP_TO = 3 * 3600
HOURS_UP_TO = 8 * 86400
"""Lengths of time in seconds that are read by minute or by hour: days of minutes are too many rows."""

OF_EVENT = ("source", "type", "event")
OF_OUTCOME = ("integration", "rule", "outcome", "reason")
TIME = "time"
GROUPS = (*OF_EVENT, *OF_OUTCOME, TIME)
"""The properties to group by."""


def rfc3339(seconds: int) -> str:
    """Return a time as text, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def step_for(since: int, until: int, minutes_since: float) -> int:
    """Return the step in seconds of counts for a period: minutes for hours, hours for days, days for weeks.

    `minutes_since` is the time of the first counts by minute.
    """
    length = until - since
    if length <= MINUTES_UP_TO and since >= minutes_since:
        return 60
    return 3600 if length <= HOURS_UP_TO else 86400


def summarize(counts: Iterable[Count], by: Sequence[str]) -> dict[str, Any]:
    """Sum up counts as JSON data.

    `rows` count events if they are grouped by properties of events only. Otherwise they count outcomes: one for each
    event, integration and rule. `accepted` is the number of events that the router read, `lost` the number of those
    that retention removed before it could.

    Args:
        counts: The counts.
        by: Properties from GROUPS.
        step: Seconds of one period; `time` in rows is its start (RFC 3339).

    """
    accepted = rejected = lost = 0
    rows: Counter[tuple[Any, ...]] = Counter()
    of_outcomes = any(name in OF_OUTCOME for name in by)
    values: dict[tuple[Kind, CountKey], dict[str, str]] = {}
    for time, kind, key, number in counts:
        if key.outcome == READ:
            accepted += number
        elif key.outcome == REJECTED:
            rejected += number
        elif is_unread(key):
            lost += number
        if (key.outcome != READ) == of_outcomes:
            found = values.get((kind, key))
            if found is None:
                about = {"source": kind.source, "type": kind.type, "event": kind.name or ""}
                found = values[kind, key] = {**about, **key._asdict()}
            rows[tuple([str(time) if name == TIME else found[name] for name in by])] += number
    in_time = list(by).index(TIME) if TIME in by else None
    ordered = sorted(rows.items(), key=lambda row: ("" if in_time is None else row[0][in_time], -row[1], row[0]))
    dates = {row[in_time]: rfc3339(int(row[in_time])) for row in rows} if in_time is not None else {}
    return {
        "accepted": accepted,
        "rejected": rejected,
        "lost": lost,
        "by": list(by),
        "rows": [
            {
                **{name: dates[value] if name == TIME else value for name, value in zip(by, row, strict=True)},
                "count": number,
            }
            for row, number in ordered
        ],
    }
