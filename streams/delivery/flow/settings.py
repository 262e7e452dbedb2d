"""Settings of delivery, in an integration's file."""

from pathlib import Path

from pydantic import Field

from streams.settings import StrictModel


class DeliverySettings(StrictModel):
    """Control the delivery of an integration; the key `delivery` of its file."""

    concurrency: int = Field(8, ge=1, le=256)
    """Concurrent requests per worker."""
    items: int | None = Field(None, ge=1)
    """Maximum events per request; the vendor's limit if that is lower."""
    linger: float = Field(0.05, ge=0, le=60)
    """Seconds that a request waits for more events."""
    timeout: float = Field(20.0, gt=0, le=300)
    """Seconds for one request, from connecting to the end of the response."""
    backoff_min: float = Field(0.5, gt=0)
    """Maximum seconds of the first back-off; doubles with each attempt."""
    backoff_max: float = Field(60.0, gt=0)
    """Maximum seconds of any back-off, and of a Retry-After."""
    max_age: float | None = Field(None, gt=0)
    """Seconds after which an event is too old to be sent, and its outcome is `expired`; by default, and at most, the
    vendor's maximum age.
    """
    requests_per_second: float | None = Field(None, gt=0)
    """Maximum requests per second by all workers together, in addition to the vendor's rate limits."""
    breaker_failures: int = Field(10, ge=1)
    """Consecutive failed requests after which a worker pauses and sends one probe at a time."""
    retry_in_place: float = Field(60.0, ge=0)
    """Seconds of back-off before a failing delivery moves to the retry topic; not counted while paused."""
    retry_delay: float = Field(300.0, gt=0)
    """Seconds that a delivery stays in the retry topic each time."""
    retry_for: float = Field(259_200.0, gt=0)
    """Seconds after its first failure when a delivery becomes a dead letter; not counted while paused."""
    ordered: bool | None = None
    """Keep each user's events in order; by default, if the vendor requires it."""
    fetched_bytes: int = Field(16 * 1024 * 1024, ge=1024 * 1024)
    """Maximum bytes of deliveries that are fetched but not finished; limits memory."""
    spool: Path = Path("/var/tmp")  # noqa: S108  # files without a name, which no other process can open
    """Local folder where records wait until their object is complete; for object storage."""
