"""Settings of the collector."""

from pydantic import BaseModel, ConfigDict, Field


class CollectorSettings(BaseModel):
    """The key `collector` of turnout.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field("0.0.0.0", description="Address to listen on; the default is every interface.")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    event_bytes: int = Field(
        32 * 1024,
        ge=1024,
        le=512 * 1024,
        description="Largest event in bytes: its JSON without blanks, with what it gets from the batch's context.",
    )
    body_bytes: int = Field(
        4 * 1024 * 1024, ge=1024, description="Largest body of a request in bytes, sent and decompressed."
    )
    batch_events: int = Field(10_000, ge=1, description="Most events in one batch.")
    held_bytes: int = Field(
        64 * 1024 * 1024,
        ge=1024,
        description="Bytes of requests being read and of events not confirmed yet, from which on requests get a 503.",
    )
    read_timeout: float = Field(30.0, gt=0, description="Seconds that a client has to send a whole request.")
    confirm_timeout: float = Field(
        15.0, gt=0, description="Seconds that Kafka has to confirm a request's events before it gets a 503."
    )
    keep_alive: int = Field(
        75, ge=1, description="Seconds that an idle connection stays open; more than the load balancer's in front."
    )
