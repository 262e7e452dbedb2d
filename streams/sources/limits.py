"""Limits of a source: request rate, event rate and size."""

from pydantic import Field

from streams.events import DEPTH, MAX_DEPTH
from streams.settings import StrictModel


class SourceLimits(StrictModel):
    """The key `limits` of a source's file. Rates apply per write key and collector process."""

    event_bytes: int | None = Field(None, ge=1024)
    """Maximum size of an event in bytes, if less than `collector.event_bytes`."""
    batch_events: int | None = Field(None, ge=1)
    """Maximum number of events per batch, if less than `collector.batch_events`."""
    depth: int = Field(DEPTH, ge=8, le=MAX_DEPTH)
    """Maximum nesting of objects and lists in an event or webhook delivery. Deeper ones are rejected."""
    requests_per_second: float | None = Field(None, gt=0)
    """Maximum requests per second and write key. Further requests get a 429 with Retry-After."""
    events_per_second: float | None = Field(None, gt=0)
    """Maximum events per second and write key. A batch is accepted or rejected as a whole; if it exceeds the limit,
    later batches get a 429 until the excess has refilled.
    """
    burst: float = Field(10.0, gt=0)
    """Burst size: how many seconds of both rates may arrive at once after a pause."""

    @property
    def has_rates(self) -> bool:
        """Whether any rate limit is set."""
        return self.requests_per_second is not None or self.events_per_second is not None
