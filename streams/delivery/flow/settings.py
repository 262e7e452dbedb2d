"""Settings of delivery, in an integration's file."""

from pathlib import Path

from pydantic import Field

from streams.settings import StrictModel


class DeliverySettings(StrictModel):
    """How an integration is delivered; the key `delivery` of its file."""

    concurrency: int = Field(8, ge=1, le=256)
    """Requests on their way at once, in each worker."""
    items: int | None = Field(None, ge=1)
    """Events in one request; the vendor's limit when that is lower."""
    linger: float = Field(0.05, ge=0, le=60)
    """Seconds that a request waits for more events."""
    timeout: float = Field(20.0, gt=0, le=300)
    """Seconds for one request, from connect to the answer's end."""
    backoff_min: float = Field(0.5, gt=0)
    """Bound of the first back-off in seconds; doubles with each attempt."""
    backoff_max: float = Field(60.0, gt=0)
    """Highest bound of a back-off in seconds, and of a Retry-After."""
    max_age: float | None = Field(None, gt=0)
    """Seconds after which an event is too old to be sent, and its outcome `expired`; by default what the vendor takes,
    which bounds it too.
    """
    requests_per_second: float | None = Field(None, gt=0)
    """Requests in a second by all workers together, besides the rates of the vendor."""
    breaker_failures: int = Field(10, ge=1)
    """Failed requests in a row after which a worker pauses and sends one probe at a time."""
    retry_in_place: float = Field(60.0, ge=0)
    """Seconds of back-off before a failing delivery moves to the retry topic; not counted while paused."""
    retry_delay: float = Field(300.0, gt=0)
    """Seconds that a delivery stays in the retry topic each time."""
    retry_for: float = Field(259_200.0, gt=0)
    """Seconds after its first failure when a delivery becomes a dead letter; not counted while paused."""
    ordered: bool | None = None
    """Keep each user's events in order; by default what the vendor needs."""
    fetched_bytes: int = Field(16 * 1024 * 1024, ge=1024 * 1024)
    """Bytes of deliveries fetched and not finished; bounds the memory."""
    spool: Path = Path("/var/tmp")  # noqa: S108  # files without a name: nobody can guess, find or keep them
    """Folder on this machine's disk where records wait until their object ends; for storage of objects."""
