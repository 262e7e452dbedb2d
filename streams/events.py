"""The event spec, and the normal form of every accepted event (`deploy/docs/events.md`).

pydantic models check an event, but the parsed dict is kept, since pydantic's result lacks undeclared keys.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Annotated, Any, Literal, NotRequired

import orjson
from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from streams.parsing import lenient_json
from streams.parsing.texts import comparable
from streams.parsing.times import NORMAL_TIME, read_time
from streams.records.event import Origin

Event = dict[str, Any]
"""An event of the spec, as parsed from JSON."""

Note = Callable[[str, str], None]
"""Called with a note about an accepted event: a short code, and a detail without personal data."""

TYPES = ("track", "page", "screen", "identify", "group", "alias")

TIMES = ("timestamp", "originalTimestamp", "sentAt", "receivedAt")
IDS = ("userId", "anonymousId", "messageId", "groupId", "previousId")
NAMES = ("name", "category")
OBJECTS = ("properties", "traits", "context", "integrations")

CONTEXT_OBJECTS = frozenset(
    {
        *("app", "campaign", "consent", "consentManagement", "cookies", "clickIds", "device", "library", "location"),
        *("network", "os", "page", "referrer", "screen", "session", "traits", "userAgentData"),
    }
)
"""The fields of `context` that are objects; PHP clients send an empty one as an empty list."""

DEPTH = 64
"""Default maximum nesting of objects and lists in an event, including the event itself."""

MAX_DEPTH = 128
"""Upper bound for the setting: orjson writes 254 levels, and payloads and dead letters wrap the event in more."""

ABSENT_IDS = frozenset({"", "null", "undefined"})
"""Placeholder IDs, in lower case, that identify nobody."""


_MAX_ABSENT_ID_CHARACTERS = max(map(len, ABSENT_IDS))
_EXACT = 2**53
"""From this number on, floats lose precision, so a number may differ from the ID that was sent."""

Id = Annotated[str, Field(min_length=1, max_length=1024)]
Text = Annotated[str, Field(min_length=1, max_length=1024)]
Properties = dict[str, Any]
Time = Annotated[str, Field(pattern=f"^(?:{NORMAL_TIME})$")]


class _Common(TypedDict):
    userId: NotRequired[Id]
    anonymousId: NotRequired[Id]
    messageId: NotRequired[Annotated[str, Field(min_length=1, max_length=255)]]
    timestamp: NotRequired[Time]
    originalTimestamp: NotRequired[Time]
    sentAt: NotRequired[Time]
    receivedAt: NotRequired[Time]
    context: NotRequired[Properties]
    integrations: NotRequired[Properties]


class Track(_Common):
    """An action of a user; `event` is its name."""

    type: Literal["track"]
    event: Text
    properties: NotRequired[Properties]


class Page(_Common):
    """A page view."""

    type: Literal["page"]
    name: NotRequired[str]
    category: NotRequired[str]
    properties: NotRequired[Properties]


class Screen(_Common):
    """A screen view in an app."""

    type: Literal["screen"]
    name: NotRequired[str]
    category: NotRequired[str]
    properties: NotRequired[Properties]


class Identify(_Common):
    """Traits of a user."""

    type: Literal["identify"]
    traits: NotRequired[Properties]


class Group(_Common):
    """The organisation that a user belongs to."""

    type: Literal["group"]
    groupId: Id
    traits: NotRequired[Properties]


class Alias(_Common):
    """Two identities of the same user."""

    type: Literal["alias"]
    previousId: Id
    userId: Id  # type: ignore[misc]  # an alias must have it


MODELS: Mapping[str, Any] = dict(zip(TYPES, (Track, Page, Screen, Identify, Group, Alias), strict=True))
"""The required fields of each event type."""

SPEC: Mapping[str, frozenset[str]] = {
    kind: frozenset(model.__annotations__) - frozenset(_Common.__annotations__) - {"type"}
    for kind, model in MODELS.items()
}
"""The additional fields of each event type, without those that all types share."""

_validate = TypeAdapter(
    Annotated[Track | Page | Screen | Identify | Group | Alias, Field(discriminator="type")]
).validator.validate_python


class EventError(ValueError):
    """An invalid event.

    `code` is a short constant, and `field` the path of the invalid field. The message never quotes a value.
    """

    def __init__(self, code: str, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.code = code
        self.field = field


def read(text: bytes, depth: int = MAX_DEPTH) -> Any:
    """Parse JSON text with or without a byte order mark; raises EventError, also for text that is nested too deeply."""
    value = loads(lenient_json.without_mark(text))
    check_depth(value, depth, count_brackets(text))
    return value


def loads(text: bytes) -> Any:
    """Parse JSON text, with U+FFFD for lone surrogates; raises EventError."""
    try:
        return lenient_json.loads(text)
    except orjson.JSONDecodeError as error:
        raise EventError("json", "", f"not JSON: {_position(error)}") from None


def count_brackets(text: bytes) -> int:
    """Count the opening brackets of JSON text, an upper bound of its nesting."""
    return text.count(b"{") + text.count(b"[")


def check_depth(value: object, limit: int, brackets: int | None = None) -> None:
    """Raise EventError if a value has more levels of objects and lists than `limit`.

    `brackets`, the number of opening brackets in its JSON text, makes the check fast if it is small.
    """
    if (brackets is None or brackets > limit) and _is_deeper(value, limit):
        raise EventError("too_deep", "", f"nested more than {limit} levels deep")


def parse(value: bytes, origin: Origin, note: Note | None = None, brackets: int | None = None) -> Event:
    """Parse a record's event into normal form, with a messageId; raises EventError.

    The same record always gives the same event. `brackets` is the number in `value`, if already counted.
    """
    data = loads(lenient_json.without_mark(value))
    check_depth(data, MAX_DEPTH, count_brackets(value) if brackets is None else brackets)
    event = normalize(data, note)
    if "messageId" not in event:
        event["messageId"] = make_message_id(event, f"{origin.topic}:{origin.partition}:{origin.offset}")
    return event


def normalize(event: object, note: Note | None = None) -> Event:
    """Bring parsed JSON into the normal form of an event, in place; raises EventError if the event is invalid.

    Normalizing is idempotent. `note` is called for each value that was removed or is doubtful.
    """
    if type(event) is not dict:
        raise EventError("not_an_object", "", "must be a JSON object")
    if not (_is_valid(event) and _is_repaired(event)):
        _repair(event, note or _ignore)
        try:
            _validate(event)
        except ValidationError as error:
            raise _first(error) from None
    if "userId" not in event and "anonymousId" not in event:
        raise EventError("no_user", "userId", "userId or anonymousId is required")
    _move(event)
    return event


def _is_valid(event: Event) -> bool:
    try:
        _validate(event)
    except ValidationError:
        return False
    return True


def is_absent_id(value: object) -> bool:
    """Return whether the value of an ID field identifies nobody, such as "", "null" or false."""
    if type(value) is str:
        return comparable(value).lower() in ABSENT_IDS
    return value is None or value is False or value in ([], {})


def _is_repaired(event: Event) -> bool:
    """Return whether `_repair` would change nothing in an event that the models accept."""
    for name in IDS:
        if name not in event:
            continue
        value = event[name]
        if (
            type(value) is str
            and len(value) > _MAX_ABSENT_ID_CHARACTERS
            and value[0] > " " < value[-1]
            and value.isascii()
        ):
            continue
        if type(value) is not str or is_absent_id(value):
            return False
    for name in OBJECTS:
        if name in event and type(event[name]) is not dict:
            return False
    if "context" in event and [] in event["context"].values():
        return False
    return not (type(track := event.get("event")) is str and track.isspace())


def _repair(event: Event, note: Note) -> None:
    """Convert known fields to the types of the spec if possible, and remove those without a value."""
    for name in TIMES:
        if name in event:
            _repair_time(event, name, note)
    for name in IDS:
        if name in event:
            _repair_id(event, name, event[name], note)
    if type(track := event.get("event")) is str and track.isspace():
        event["event"] = ""  # rejected by the model, with the error of this field
    for name in NAMES:
        if name in event and type(event[name]) is not str:
            _repair_name(event, name, note)
    for name in OBJECTS:
        if name in event and event[name] is None:
            del event[name]
        elif event.get(name) == []:
            event[name] = {}
    context = event.get("context")
    if type(context) is dict and [] in context.values():
        event["context"] = {
            name: {} if value == [] and name in CONTEXT_OBJECTS else value for name, value in context.items()
        }


def _repair_time(event: Event, name: str, note: Note) -> None:
    try:
        time = read_time(event[name])
    except ValueError:
        note("unreadable", name)
        time = None
    if time is None:
        del event[name]
    else:
        event[name] = time


def _repair_id(event: Event, name: str, value: Any, note: Note) -> None:
    if is_absent_id(value):
        if value is not None and type(value) is not str:
            note("unreadable", name)
        del event[name]
    elif type(value) is int:
        event[name] = str(value)
    elif type(value) is float:
        if abs(value) >= _EXACT:
            note("imprecise", name)
        event[name] = str(int(value)) if value.is_integer() else repr(value)
    elif name == "messageId" and type(value) is not str:
        note("unreadable", name)
        del event[name]


def _repair_name(event: Event, name: str, note: Note) -> None:
    value = event[name]
    if type(value) is int or type(value) is float:
        event[name] = str(value)
        return
    if value is not None:
        note("unreadable", name)
    del event[name]


def _move(event: Event) -> None:
    """Copy fields that RudderStack's clients put elsewhere to where Segment's clients put them."""
    if "timestamp" not in event and "originalTimestamp" in event:
        event["timestamp"] = event["originalTimestamp"]
    context = event.get("context")
    if not context:
        return
    if event["type"] == "identify" and not event.get("traits"):
        traits = context.get("traits")
        if type(traits) is dict and traits:
            event["traits"] = dict(traits)
    if "externalId" in context and not context.get("externalIds"):
        ids = context["externalId"]
        if type(ids) is dict and ids:
            context["externalIds"] = [ids]
        elif type(ids) is list and ids:
            context["externalIds"] = list(ids)


def _ignore(_reason: str, _detail: str) -> None:
    """Ignore a note."""


def _is_deeper(value: object, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        level = list(chain.from_iterable(map(_children, level)))
        if not level:
            return False
    return True


def _children(value: object) -> Iterable[object]:
    """Return the objects and lists directly in a value."""
    inner = value.values() if type(value) is dict else value if type(value) is list else ()
    return [each for each in inner if type(each) is dict or type(each) is list]


def key(event: Mapping[str, Any]) -> bytes:
    """Return the key of an event's record: userId, else anonymousId, in UTF-8."""
    return (event.get("userId") or event["anonymousId"]).encode()  # type: ignore[no-any-return]


def make_message_id(event: Mapping[str, Any], unique: str) -> str:
    """Make a messageId for a normalized event that has none.

    It is derived from the content if the event has its own time, so that a repeat gets the same ID; else from `unique`.
    """
    if "timestamp" in event:
        content = {name: value for name, value in event.items() if name not in _NOT_CONTENT}
        return _digest(orjson.dumps(content, option=orjson.OPT_SORT_KEYS))
    return _digest(unique.encode())


_NOT_CONTENT = ("sentAt", "receivedAt", "messageId")


def _digest(content: bytes) -> str:
    return f"turnout-{hashlib.sha256(content).hexdigest()[:32]}"


def time_of(event: Event, received: str) -> str:
    """Return the time of a normalized event; without one, it is set to `received` and marked."""
    at: str | None = event.get("timestamp")
    if not at:
        at = event["timestamp"] = received
        event["turnout"] = {"timestamp": "record"}
    return at


def _position(error: orjson.JSONDecodeError) -> str:
    return f"{error.msg.split(':')[0]} at line {error.lineno}, column {error.colno}"


def _first(error: ValidationError) -> EventError:
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    kind = problem["type"]
    if kind.startswith("union_tag"):
        return EventError("type", "type", f"must be one of {', '.join(TYPES)}")
    # The first part of `loc` is the discriminating type; parts after a field name are branches of the union.
    field = str(problem["loc"][1]) if len(problem["loc"]) > 1 else ""
    return EventError(
        kind, field, "is missing" if kind == "missing" else problem["msg"][0].lower() + problem["msg"][1:]
    )
