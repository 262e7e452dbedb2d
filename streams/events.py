"""The event spec as pydantic models: what an event must have to be routed.

An event is checked and then kept as the dict it was parsed to, since what pydantic returns lacks undeclared keys.
"""

import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, Literal, NotRequired

import orjson
from pydantic import Field, StrictInt, TypeAdapter, ValidationError
from typing_extensions import TypedDict

Event = dict[str, Any]
"""An event of the spec, as parsed from JSON."""

LATEST_TIMESTAMP = 253_402_300_800_000
"""The first millisecond since 1970 of the year 10000, which has no RFC 3339 text."""

TYPES = ("track", "page", "screen", "identify", "group", "alias")

Id = Annotated[str, Field(max_length=1024)] | StrictInt | None
Text = Annotated[str, Field(min_length=1, max_length=1024)]
Properties = dict[str, Any] | None


class _Common(TypedDict):
    userId: NotRequired[Id]
    anonymousId: NotRequired[Id]
    messageId: NotRequired[Annotated[str, Field(max_length=255)] | None]
    timestamp: NotRequired[datetime | None]
    originalTimestamp: NotRequired[datetime | None]
    sentAt: NotRequired[datetime | None]
    context: NotRequired[Properties]
    integrations: NotRequired[Properties]


class Track(_Common):
    """Something a user did; `event` names it."""

    type: Literal["track"]
    event: Text
    properties: NotRequired[Properties]


class Page(_Common):
    """A page that was seen."""

    type: Literal["page"]
    name: NotRequired[str | None]
    category: NotRequired[str | None]
    properties: NotRequired[Properties]


class Screen(_Common):
    """A screen of an app that was seen."""

    type: Literal["screen"]
    name: NotRequired[str | None]
    category: NotRequired[str | None]
    properties: NotRequired[Properties]


class Identify(_Common):
    """What is known of a user."""

    type: Literal["identify"]
    traits: NotRequired[Properties]


class Group(_Common):
    """The organisation that a user belongs to."""

    type: Literal["group"]
    groupId: Text | StrictInt
    traits: NotRequired[Properties]


class Alias(_Common):
    """Two identities that are one user's."""

    type: Literal["alias"]
    previousId: Text | StrictInt
    userId: Text | StrictInt  # type: ignore[misc]  # an alias must have it


MODELS: Mapping[str, Any] = dict(zip(TYPES, (Track, Page, Screen, Identify, Group, Alias), strict=True))
"""By type, what an event of it must have."""

SPEC: Mapping[str, frozenset[str]] = {
    kind: frozenset(model.__annotations__) - frozenset(_Common.__annotations__) - {"type"}
    for kind, model in MODELS.items()
}
"""By type, the fields that an event has of its own, besides those that all have."""

_validate = TypeAdapter(
    Annotated[Track | Page | Screen | Identify | Group | Alias, Field(discriminator="type")]
).validator.validate_python


class EventError(ValueError):
    """An event that is none.

    `code` is short and constant, `field` the path of what is wrong; no value of the event is quoted.
    """

    def __init__(self, code: str, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.code = code
        self.field = field


def parse(value: bytes) -> Event:
    """The event in JSON text, checked as `check` does and completed; raises EventError."""
    try:
        event = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise EventError("json", "", f"not JSON: {_place(error)}") from None
    return complete(check(event))


def check(event: object) -> Event:
    """Check parsed JSON against the event spec; raises EventError. Ids that are numbers become strings in place."""
    if not isinstance(event, dict):
        raise EventError("not_an_object", "", "an event is a JSON object")
    try:
        _validate(event)
    except ValidationError as error:
        raise _first(error) from None
    except RecursionError:
        raise EventError("too_deep", "", "nested too deeply") from None
    user, anonymous = event.get("userId"), event.get("anonymousId")
    if not user and user != 0 and not anonymous and anonymous != 0:
        raise EventError("no_user", "userId", "neither userId nor anonymousId is there")
    if type(user) is int:
        event["userId"] = str(user)
    if type(anonymous) is int:
        event["anonymousId"] = str(anonymous)
    return event


def complete(event: Event) -> Event:
    """Put into a checked event, in place, what RudderStack's SDKs have elsewhere than the spec, where it is missing.

    The traits of an identify are in its context with them, and the time in `originalTimestamp`.
    """
    if event.get("timestamp") is None and event.get("originalTimestamp") is not None:
        event["timestamp"] = event["originalTimestamp"]
    if event["type"] == "identify" and not event.get("traits"):
        traits = (event.get("context") or {}).get("traits")
        if isinstance(traits, dict):
            event["traits"] = dict(traits)
    return event


def key(event: Mapping[str, Any]) -> bytes:
    """The key of a checked event's record: userId, else anonymousId, UTF-8."""
    return (event.get("userId") or event["anonymousId"]).encode()  # type: ignore[no-any-return]


def message_id(event: Mapping[str, Any]) -> str:
    """The event's messageId, else one made from its content, the same for the same content whenever it was sent."""
    given = event.get("messageId")
    if given:
        return given  # type: ignore[no-any-return]
    content = {name: value for name, value in event.items() if name not in ("sentAt", "receivedAt", "messageId")}
    return "turnout-" + hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]


def time_of(event: Event, seconds: float) -> str:
    """When the event happened; one that does not say gets the time of its record (since 1970), and a mark of that."""
    at: str | None = event.get("timestamp") or event.get("originalTimestamp")
    if not at:
        at = event["timestamp"] = rfc3339(seconds)
        event["turnout"] = {"timestamp": "record"}
    return at


def record_time(timestamp: int | None, clock: Callable[[], float]) -> float:
    """Return a record's time in seconds since 1970: its timestamp in milliseconds, else what the clock says.

    Any producer may leave the timestamp out (-1), or set it to a number that is no date.
    """
    return timestamp / 1000 if timestamp is not None and 0 <= timestamp < LATEST_TIMESTAMP else clock()


def rfc3339(seconds: float) -> str:
    """Seconds since 1970 as the text that every record of ours uses: UTC, with milliseconds."""
    second, millisecond = divmod(int(seconds * 1000), 1000)
    return f"{_second(second)}.{millisecond:03}Z"


# Most moments that are written at one time are of a few seconds.
@lru_cache(256)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat().removesuffix("+00:00")


def _place(error: orjson.JSONDecodeError) -> str:
    return f"{error.msg.split(':')[0]} at line {error.lineno}, column {error.colno}"


def _first(error: ValidationError) -> EventError:
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    kind = problem["type"]
    if kind.startswith("union_tag"):
        return EventError("type", "type", f"must be one of {', '.join(TYPES)}")
    # The first part of the place is the type that discriminated; parts behind a field's name are the union's branches.
    field = str(problem["loc"][1]) if len(problem["loc"]) > 1 else ""
    return EventError(
        kind, field, "is missing" if kind == "missing" else problem["msg"][0].lower() + problem["msg"][1:]
    )
