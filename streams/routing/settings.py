"""Settings of the router."""

from pydantic import Field

from streams.settings import StrictModel


class RouterSettings(StrictModel):
    """The key `router` of turnout.yaml."""

    dedupe_window: int = Field(20_000, ge=0)
    """Window for dropping repeated messageIds, in events per partition; 0 turns it off."""
    fetched_bytes: int = Field(16 * 1024 * 1024, ge=1024 * 1024)
    """Maximum bytes of events that are fetched but not finished; limits memory use."""
