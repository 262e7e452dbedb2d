"""Settings of the collector, and the limits that a source may have of its own."""

from ipaddress import ip_network

from pydantic import BaseModel, ConfigDict, Field, field_validator


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
    trusted_proxies: tuple[str, ...] = Field(
        (),
        description="Proxies whose X-Forwarded-For is believed: addresses and networks (`10.0.0.0/8`), and `unix` for "
        "whoever comes by a Unix socket. Browsers' events without `context.ip` get the address found so.",
    )

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        # What streams.tracking.proxies reads; importing that package would slow every command.
        for proxy in proxies:
            if proxy != "unix":
                ip_network(proxy)
        return proxies


class SourceLimits(BaseModel):
    """The key `limits` of a source's file. Rates hold for each write key, in each collector process."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    event_bytes: int | None = Field(
        None, ge=1024, description="Largest event in bytes, where that is less than `collector.event_bytes`."
    )
    batch_events: int | None = Field(
        None, ge=1, description="Most events in one batch, where that is less than `collector.batch_events`."
    )
    requests_per_second: float | None = Field(
        None, gt=0, description="Requests in a second with one write key; what is more gets a 429 with Retry-After."
    )
    events_per_second: float | None = Field(
        None,
        gt=0,
        description="Events in a second with one write key. A batch is taken whole or gets a 429, and what it has too "
        "many the next ones wait for.",
    )
    burst: float = Field(10.0, gt=0, description="Seconds of both rates that may come at once after a pause.")
