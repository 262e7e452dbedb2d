"""Limits of a source: request rate, event rate and size."""

from pydantic import Field

from streams.events import DEPTH, MOST_DEPTH
from streams.settings import StrictModel


class SourceLimits(StrictModel):
    """The key `limits` of a source's file. Rates hold for each write key, in each collector process."""

    event_bytes: int | None = Field(None, ge=1024)
    """Largest event in bytes, where that is less than `collector.event_bytes`."""
    batch_events: int | None = Field(None, ge=1)
    """Most events in one batch, where that is less than `collector.batch_events`."""
    depth: int = Field(DEPTH, ge=8, le=MOST_DEPTH)
    """Levels of objects and lists that an event, or a webhook's delivery, may have. Deeper ones are rejected."""
    requests_per_second: float | None = Field(None, gt=0)
    """Requests in a second with one write key; what is more gets a 429 with Retry-After."""
    events_per_second: float | None = Field(None, gt=0)
    """Events in a second with one write key. A batch is taken whole or gets a 429, and what it has too many the next
    ones wait for.
    """
    burst: float = Field(10.0, gt=0)
    """Seconds of both rates that may come at once after a pause."""

    @property
    def has_rates(self) -> bool:
        """Whether anything is to be counted."""
        return self.requests_per_second is not None or self.events_per_second is not None
