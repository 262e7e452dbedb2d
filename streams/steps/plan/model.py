"""A tracking plan as its file has it."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from streams.settings import StrictModel

Action = Literal["allow", "warn", "omit", "quarantine", "reject"]
"""What becomes of an event that is not as planned, from the mildest to the strongest."""

Schema = Annotated[Any, "JSON Schema"]
"""A JSON Schema of draft 2020-12; whether it is one, `streams.steps.plan.schemas` says."""

NAMED_BY = {"track": "event", "page": "name", "screen": "name"}
"""By type, the field that names an event; the other types have no names."""

SECTIONS = {
    "track": "properties",
    "page": "properties",
    "screen": "properties",
    "identify": "traits",
    "group": "traits",
}
"""By type, the part of an event that holds what its sender says of it."""

PARTS = ("properties", "traits", "context")
"""The parts of an event that a plan has schemas of."""

PLAIN = r"^[a-z0-9][a-z0-9_-]{0,63}$"


class PlannedEvent(StrictModel):
    """An event that is meant to come."""

    type: Literal["track", "page", "screen", "identify", "group", "alias"] = "track"
    """The type of the event."""
    event: str | None = Field(None, min_length=1)
    """The name of a track event; without it, each that no other entry names."""
    name: str | None = Field(None, min_length=1)
    """The name of a page or screen; without it, each that no other entry names."""
    on_violation: Literal["warn", "omit", "quarantine", "reject"] | None = None
    """What becomes of it where it violates its schemas; by default what the plan says."""
    unplanned_properties: Action | None = None
    """What becomes of properties or traits that it has none planned for; by default as the plan."""
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
        """What outcomes and metrics call it."""
        return self.event or " ".join(filter(None, (self.type, self.name)))

    @property
    def schemas(self) -> dict[str, Schema]:
        """Its schemas, by the part of the event that they are of."""
        found = {key: getattr(self, key) for key in PARTS}
        return {key: schema for key, schema in found.items() if schema is not None}


class Plan(StrictModel):
    """`plans/NAME.yaml`: the events that are meant to come."""

    plan: str = Field(pattern=PLAIN)
    """The plan's name: that of the file, and in outcomes and metrics."""
    on_violation: Literal["warn", "omit", "quarantine", "reject"] = "warn"
    """What becomes of an event that violates its schemas. `warn`: it is noted. `omit`: what is wrong is taken out of
    the event, which goes on. `quarantine`: it is kept aside, to be replayed. `reject`: it is kept with the rejected
    events.
    """
    unplanned_events: Literal["allow", "warn", "quarantine", "reject"] = "warn"
    """What becomes of an event that no entry is of: a track event, or one of another type that has entries."""
    unplanned_properties: Action = "warn"
    """What becomes of a property or trait that the entry's schema does not name."""
    definitions: dict[str, Schema] = Field(default_factory=dict)
    """Schemas to be used in several places: `$ref: '#/definitions/NAME'`."""
    events: tuple[PlannedEvent, ...] = Field(min_length=1)
    """The events that are meant to come."""
