"""Settings of the router."""

from pydantic import Field

from streams.settings import StrictModel


class RouterSettings(StrictModel):
    """The key `router` of turnout.yaml."""

    dedupe_window: int = Field(20_000, ge=0)
    """Events of a partition within which a repeated messageId is dropped; 0 turns it off."""
    fetched_bytes: int = Field(16 * 1024 * 1024, ge=1024 * 1024)
    """Bytes of events fetched and not finished; bounds the memory."""
