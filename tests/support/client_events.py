"""Generate random events as clients in several languages write them, by the rules in tests/cases/clients/."""

import base64
import gzip
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import yaml

FOLDER = Path(__file__).parents[1] / "cases" / "clients"
SHARED = yaml.safe_load((FOLDER / "events.yaml").read_text())
ODD = yaml.safe_load((FOLDER / "odd.yaml").read_text())
LANGUAGES = {
    path.stem: yaml.safe_load(path.read_text())
    for path in sorted(FOLDER.glob("*.yaml"))
    if path.stem not in ("events", "odd")
}

_RAW = re.compile(r'"json-([0-9a-f]+)"')
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Written:
    """An event as a client writes it, and its expected result.

    Args:
        kind: Its type, which may be missing in `data`.
        data: The event; it may hold raw JSON as `_raw` makes it.
        language: The name of the language's file.
        at: Its own time, as exactly as written; None if it has none or may have lost it.
        odd: Whether it may be rejected.
        opted_out: Integrations that must not get it.
        changes: What makes it odd, for messages.

    """

    kind: str
    data: dict[str, Any]
    language: str
    at: datetime | None = None
    odd: bool = False
    opted_out: Sequence[str] = ()
    changes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request with events; `batch` says whether they came in one."""

    raw: bytes
    events: Sequence[Written]
    batch: bool


class Writer:
    """Writes requests around `now`; the same random numbers write the same requests."""

    def __init__(self, random: Random, now: datetime, write_key: str) -> None:
        self._random, self._now, self._key = random, now, write_key
        self._count = 0

    def requests(self, events: int) -> Iterator[Request]:
        """Write requests with a total number of events."""
        while events > 0:
            language = self._random.choice(list(LANGUAGES))
            client = self._random.choice(LANGUAGES[language]["clients"])
            size = min(events, self._random.randint(1, client.get("batch", 1)))
            events -= size
            yield self._request(language, client, size)

    def _request(self, language: str, client: Mapping[str, Any], size: int) -> Request:
        rules = LANGUAGES[language]
        written = [_Composer(self._random, self._now, language, self._next).event() for _ in range(size)]
        path, batch = client["post"], "batch" in client
        body: dict[str, Any]
        if batch:
            body = {"batch": [each.data for each in written]}
            if self._random.random() < 0.8:
                body["sentAt"] = self._random.choice([_raw_time(rules["times"][0], self._now)[0], *rules["no_times"]])
            if self._random.random() < 0.3:
                body["context"] = {"library": client["library"]}
        else:
            body = written[0].data
            path = path.replace("TYPE", written[0].kind)
            context = body.get("context")
            if type(context) is dict:
                context.setdefault("library", client["library"])
        headers = {"host": "collector"}
        if client["key"] == "body":
            body["writeKey"] = self._key
        else:
            headers["authorization"] = "Basic " + base64.b64encode(f"{self._key}:".encode()).decode()
        headers["content-type"] = "text/plain" if client.get("as") == "plain" else "application/json"
        content = write_json(body, rules).encode()
        if client.get("as") == "gzip":
            content, headers["content-encoding"] = gzip.compress(content, 1), "gzip"
        headers["content-length"] = str(len(content))
        lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        return Request("\r\n".join(lines).encode() + content, written, batch)

    def _next(self) -> int:
        self._count += 1
        return self._count


class _Composer:
    """Composes one event of one language."""

    def __init__(self, random: Random, now: datetime, language: str, number: Callable[[], int]) -> None:
        self._random, self._now, self._language = random, now, language
        self._rules = LANGUAGES[language]
        self._number = number()
        self._values = {**SHARED["values"], **self._rules["values"]}
        self._camel = random.choice(self._rules["keys"]) == "camel"

    def event(self) -> Written:
        kind = self._random.choice(["track"] * 6 + ["page", "identify"] * 2 + ["screen", "group", "alias"])
        data: dict[str, Any] = {"type": kind, **self._ids(kind)}
        written = Written(kind, data, self._language)
        chosen = self._random.choice(SHARED[kind])
        if kind == "track":
            data["event"] = self._name(chosen["event"])
        for name in ("name", "category"):
            if name in chosen and self._random.random() < 0.7:
                data[name] = self._value(chosen[name])
        for name in ("properties", "traits"):
            if name in chosen:
                data[name] = self._object(chosen[name]) if self._random.random() < 0.9 else self._of("no_objects")
        self._put_time(written)
        self._put_context(written)
        if self._random.random() < 0.85:
            data["messageId"] = self._fill(self._of("message_ids"))
        elif self._random.random() < 0.5:
            data["messageId"] = self._of("no_ids")
        if self._random.random() < 0.3:
            self._make_odd(written)
        return written

    def _ids(self, kind: str) -> dict[str, Any]:
        users = "user" if kind == "alias" else self._random.choice(SHARED["users"])
        ids: dict[str, Any] = {}
        for name, wanted in (("userId", "user"), ("anonymousId", "anonymous")):
            if users in (wanted, "both"):
                ids[name] = self._id()
            elif self._random.random() < 0.6:
                ids[name] = self._of("no_ids")
        if kind == "group":
            ids["groupId"] = self._id()
        if kind == "alias":
            ids["previousId"] = self._id()
        return ids

    def _id(self) -> Any:
        if self._random.random() < 0.2:
            return _raw(self._fill(self._of("numeric_ids")))
        return self._fill(self._of("ids"))

    def _put_time(self, written: Written) -> None:
        chance = self._random.random()
        if chance < 0.1:
            return
        name = self._random.choice(["timestamp", "timestamp", "originalTimestamp"])
        if chance < 0.2:
            written.data[name] = self._of("no_times")
            return
        age = timedelta(days=2) if self._random.random() < 0.95 else timedelta(days=700)
        moment = self._now - age * self._random.random()
        written.data[name], written.at = _raw_time(self._of("times"), moment)
        # When the computer's clock jumps, it is in the future.
        if self._random.random() < 0.5:
            written.data["sentAt"] = _raw_time(self._of("times"), self._now)[0]

    def _put_context(self, written: Written) -> None:
        data = written.data
        context = deepcopy(self._random.choice(SHARED["context"]))
        for name in context:
            if type(context[name]) is dict and self._random.random() < 0.1:
                context[name] = self._of("no_objects")
        if context or self._random.random() < 0.5:
            data["context"] = context
        elif self._random.random() < 0.5:
            data["context"] = self._of("no_objects")
        if data["type"] == "identify" and self._random.random() < 0.2 and type(data.get("context")) is dict:
            data["context"]["traits"] = data.pop("traits")
        if self._random.random() < 0.3:
            chosen = self._random.choice(SHARED["integrations"])
            data["integrations"], written.opted_out = deepcopy(chosen["value"]), chosen["out"]
        elif self._random.random() < 0.3:
            data["integrations"] = self._of("no_objects")

    def _object(self, kinds: Mapping[str, str]) -> dict[str, Any]:
        made = {}
        for name, kind in kinds.items():
            chance = self._random.random()
            if chance < 0.1:
                continue
            made[self._key(name)] = self._of("no_values") if chance < 0.18 else self._value(kind)
        return made

    def _value(self, kind: str) -> Any:
        if kind == "products":
            return [self._object(SHARED["product"]) for _ in range(self._random.choice([0, 1, 1, 2, 3, 12]))]
        if kind == "object":
            return self._object(SHARED["object"])
        if kind == "time":
            return _raw_time(self._of("times"), self._now - timedelta(days=900) * self._random.random())[0]
        if kind == "id":
            return self._id()
        value = self._random.choice(self._values[kind])
        return self._fill(value) if type(value) is str else _with_raw(value)

    def _of(self, rule: str) -> Any:
        """Choose one of the language's values for a rule."""
        # What is made odd later must not be the rules themselves.
        return deepcopy(self._random.choice(self._rules[rule]))

    def _name(self, name: str) -> str:
        words = name.split()
        match self._random.choice(self._rules["names"]):
            case "lower":
                return name.lower()
            case "snake":
                return "_".join(words).lower()
            case "camel":
                return words[0].lower() + "".join(words[1:])
        return name

    def _key(self, key: str) -> str:
        if not self._camel:
            return key
        first, *rest = key.split("_")
        return first + "".join(word.capitalize() for word in rest)

    def _fill(self, text: str) -> str:
        if "{" not in text:
            return text
        return (
            text.replace("{n}", str(self._number))
            .replace("{uuid}", str(UUID(int=self._random.getrandbits(128), version=4)))
            .replace("{time}", str(int(self._now.timestamp() * 1000)))
        )

    def _make_odd(self, written: Written) -> None:
        """Put unexpected values in a few places of an event, or remove values."""
        written.odd = True
        for _ in range(self._random.randint(1, 4)):
            place, key = self._random.choice(list(_places(written.data)))
            if self._random.random() < 0.1:
                key = self._random.choice(["", "$set", "x" * 300, "größe", "a.b", "products", "email", "value"])
                if type(place) is list:
                    continue
            if self._random.random() < 0.1 and type(place) is dict:
                place.pop(key, None)
                written.changes.append(f"without {key}")
                continue
            value = self._random.choice([*ODD, *self._rules.get("breaks", ())])
            place[key] = _with_raw(value)
            written.changes.append(f"{key}: {str(value)[:60]}")
        # What it says of its time and its opt-outs may be gone.
        written.at, written.opted_out = None, ()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each object and list with each of its keys."""
    for key, inner in list(value.items() if type(value) is dict else enumerate(value)):
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)


def _raw(text: str) -> str:
    """Return a placeholder for raw JSON text."""
    return f"json-{text.encode().hex()}"


def _with_raw(value: Any) -> Any:
    """Return a value of the rules with all placeholders replaced."""
    match value:
        case {"json": text}:
            return _raw(text)
        case {"nested": levels}:
            return _raw('{"a":' * levels + "1" + "}" * levels)
        case {"repeat": text, "times": times}:
            return text * times
        case dict():
            return {key: _with_raw(inner) for key, inner in value.items()}
        case list():
            return [_with_raw(inner) for inner in value]
    return value


def _raw_time(rule: Mapping[str, Any], moment: datetime) -> tuple[Any, datetime]:
    """Write a moment by a rule; returns it, and the moment that can be read from it, to the millisecond."""
    if "unix" in rule:
        exact = (moment - _EPOCH) / timedelta(microseconds=1) * rule["unix"] / 1_000_000
        value: float = round(exact, 3) if rule.get("fraction") else int(exact)
        read = _EPOCH + timedelta(microseconds=round(value * 1_000_000 / rule["unix"]))
        return str(value) if rule.get("text") else value, _cut(read, timedelta(milliseconds=1))
    zoned = moment.astimezone(timezone(timedelta(minutes=rule.get("zone", 0))))
    form = rule["text"]
    fraction = f"{zoned.microsecond:06}"
    offset = zoned.strftime("%z")
    for name, digits in (("ms", fraction[:3]), ("us", fraction), ("ticks", fraction + "4"), ("ns", fraction + "456")):
        form = form.replace(f"{{{name}}}", digits)
    text = zoned.strftime(form.replace("{offset}", f"{offset[:3]}:{offset[3:]}"))
    if "{" in rule["text"].replace("{offset}", ""):
        unit = timedelta(milliseconds=1)
    else:
        unit = timedelta(seconds=1) if "%S" in form else timedelta(minutes=1) if "%M" in form else timedelta(days=1)
    return text, _cut(moment, unit)


def _cut(moment: datetime, unit: timedelta) -> datetime:
    return moment - (moment - _EPOCH) % unit


def write_json(value: Any, rules: Mapping[str, Any]) -> str:
    """Write a value like a language's JSON library."""
    text = json.dumps(value, ensure_ascii=rules.get("ascii", False))
    for character in rules.get("escapes", ""):
        text = text.replace(character, f"\\u{ord(character):04x}")
    return _RAW.sub(lambda found: bytes.fromhex(found[1]).decode(), text)
