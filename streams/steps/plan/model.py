"""Define the format of tracking plan files."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from streams.settings import StrictModel

Action = Literal["allow", "warn", "omit", "quarantine", "reject"]
"""How a violation is handled, from the mildest to the strongest action."""

Schema = Annotated[Any, "JSON Schema"]
"""A JSON Schema of draft 2020-12, validated by `streams.steps.plan.schemas`."""

NAMED_BY = {"track": "event", "page": "name", "screen": "name"}
"""The field that names an event, by type; the other types have no names."""

SECTIONS = {
    "track": "properties",
    "page": "properties",
    "screen": "properties",
    "identify": "traits",
    "group": "traits",
}
"""The part of an event that holds its sender's data, by type."""

PARTS = ("properties", "traits", "context")
"""The parts of an event for which a plan has schemas."""

PLAIN = r"^[a-z0-9][a-z0-9_-]{0,63}$"


class PlannedEvent(StrictModel):
    """An expected event."""

    type: Literal["track", "page", "screen", "identify", "group", "alias"] = "track"
    """The type of the event."""
    event: str | None = Field(None, min_length=1)
    """Name of a track event; without it, the entry applies to all that no other entry names."""
    name: str | None = Field(None, min_length=1)
    """Name of a page or screen; without it, the entry applies to all that no other entry names."""
    on_violation: Literal["warn", "omit", "quarantine", "reject"] | None = None
    """How violations of this event's schemas are handled; by default as in the plan."""
    unplanned_properties: Action | None = None
    """How properties or traits outside the schema are handled; by default as in the plan."""
    properties: Schema | None = None
    """JSON Schema of a track, page or screen event's `properties`."""
    traits: Schema | None = None
    """JSON Schema of an identify or group event's `traits`."""
    context: Schema | None = None
    """JSON Schema of the event's `context`."""

    @model_validator(mode="after")
    def _fits_its_type(self) -> Self:
        for key in ("event", "name", "properties", "traits"):
            fitting = [kind for by in (NAMED_BY, SECTIONS) for kind, field in by.items() if field == key]
            if getattr(self, key) is not None and self.type not in fitting:
                raise ValueError(f"{self.type} events have no `{key}`, only {', '.join(fitting)} events have")
        return self

    @property
    def label(self) -> str:
        """The event's name in outcomes and metrics."""
        return self.event or " ".join(filter(None, (self.type, self.name)))

    @property
    def schemas(self) -> dict[str, Schema]:
        """The schemas by the part of the event that they apply to."""
        found = {key: getattr(self, key) for key in PARTS}
        return {key: schema for key, schema in found.items() if schema is not None}


class Plan(StrictModel):
    """`plans/NAME.yaml`: the expected events."""

    plan: str = Field(pattern=PLAIN)
    """The plan's name: that of its file, also used in outcomes and metrics."""
    on_violation: Literal["warn", "omit", "quarantine", "reject"] = "warn"
    """How an event that violates its schemas is handled. `warn`: the violation is noted. `omit`: invalid values are
    removed, and the event is forwarded. `quarantine`: the event is stored and can be replayed. `reject`: the event goes
    to the rejected events.
    """
    unplanned_events: Literal["allow", "warn", "quarantine", "reject"] = "warn"
    """How an unplanned event is handled: a track event without an entry, or another one whose type has entries."""
    unplanned_properties: Action = "warn"
    """How a property or trait that is not in the entry's schema is handled."""
    definitions: dict[str, Schema] = Field(default_factory=dict)
    """Schemas for use in several places: `$ref: '#/definitions/NAME'`."""
    events: tuple[PlannedEvent, ...] = Field(min_length=1)
    """The expected events."""
