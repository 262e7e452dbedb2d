"""Parse times in any form that clients send into the normal form: RFC 3339 in UTC, `2026-01-02T03:04:05.678Z`."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from functools import lru_cache

MAX_TIME_CHARACTERS = 64
"""Maximum length of a text that is parsed as a time."""

LATEST_TIMESTAMP = 253_402_300_800_000
"""The first millisecond since 1970 of the year 10000, which RFC 3339 cannot represent."""

NUMBERS = ((10**8, 10**10, 1_000_000), (10**11, 10**13, 1_000), (10**14, 10**16, 1))
"""Unix seconds, milliseconds and microseconds: lower bound, upper bound, and the microseconds in one unit.

Each range runs from 1973-03-03 to 2286-11-20, so that every number has only one meaning.
"""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ZERO_SECONDS = -62_135_596_800  # year 1, which Go and .NET write for an unset time
_ZERO_NUMBERS = frozenset(_ZERO_SECONDS * factor for factor in (1, 1_000, 1_000_000))
_NO_TIME = frozenset({"", "null", "undefined"})

NORMAL_TIME = (
    r"(?:(?:19[7-9]|[2-9][0-9][0-9])[0-9]-"
    r"(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
    # 29 February of the leap years
    r"|(?:19(?:7[26]|8[048]|9[26])|[2-9][0-9](?:0[48]|[2468][048]|[13579][26])|(?:[2468][048]|[3579][26])00)-02-29)"
    r"T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{3}Z"
)
"""A pattern of the normal form, which matches only valid times from 1970 on."""

_NORMAL = re.compile(NORMAL_TIME)
_ISO = re.compile(
    r"""(?P<date>\d{4}-\d\d-\d\d|\d{8}|\d{4}-?W\d\d-?\d)
    (?:(?:T|\ +)(?P<hour>\d\d)(?::?(?P<minute>\d\d)(?::?(?P<second>\d\d)(?:[.,](?P<fraction>\d{1,9}))?)?)?
    \ ?(?P<zone>Z|UTC|GMT|(?P<sign>[+\-\u2212])(?P<hours>\d\d)(?::?(?P<minutes>\d\d))?(?:\ UTC)?)?
    (?:\[[\w/+-]{1,40}\])?)?""",
    re.ASCII | re.IGNORECASE | re.VERBOSE,
)
_MAIL = re.compile(
    r"""(?:(?:mon|tue|wed|thu|fri|sat|sun),\s*)?(?P<day>\d{1,2})\s+(?P<month>[a-z]{3})\s+(?P<year>\d{4})
    \s+(?P<hour>\d\d):(?P<minute>\d\d)(?::(?P<second>\d\d))?
    (?:\s+(?:(?P<sign>[+-])(?P<hours>\d\d)(?P<minutes>\d\d)|(?P<zone>[a-z]{1,3})))?(?:\s*\([^()]*\))?""",
    re.ASCII | re.IGNORECASE | re.VERBOSE,
)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MAIL_ZONES = {  # RFC 2822, section 4.3
    **dict.fromkeys(("", "ut", "utc", "gmt", "z"), 0),
    "edt": -4,
    **dict.fromkeys(("est", "cdt"), -5),
    **dict.fromkeys(("cst", "mdt"), -6),
    **dict.fromkeys(("mst", "pdt"), -7),
    "pst": -8,
}
_NUMBER = re.compile(r"-?\d{1,17}(?:\.\d{1,9})?", re.ASCII)


def read_time(value: object) -> str | None:
    """Return a time in the normal form, or None if the value stands for no time.

    Accepts ISO 8601 with or without a zone (UTC), RFC 2822, and the numbers of `NUMBERS` as number or text. Raises
    ValueError if the value is not a time, is before 1970, or is a number out of bounds.
    """
    if value is None:
        return None
    try:
        if type(value) is str:
            if _NORMAL.fullmatch(value):
                return value
            moment = _read_text(value.strip())
        elif type(value) is int or type(value) is float:
            moment = _read_number(value)
        else:
            raise ValueError("neither text nor a number")
    except OverflowError:
        raise ValueError("out of bounds") from None
    if moment is None:
        return None
    if moment < _EPOCH:
        raise ValueError("before 1970")
    return f"{moment.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def seconds_of(text: str) -> float:
    """Return a time in the normal form as seconds since 1970; raises ValueError for any other text."""
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def record_time(timestamp: int | None, clock: Callable[[], float]) -> float:
    """Return a Kafka record's time in seconds since 1970: its timestamp in milliseconds, else the clock's time.

    Producers may omit the timestamp (-1), or set it to a number that is not a date.
    """
    return timestamp / 1000 if timestamp is not None and 0 <= timestamp < LATEST_TIMESTAMP else clock()


def rfc3339(seconds: float) -> str:
    """Return seconds since 1970 as a time in the normal form."""
    second, millisecond = divmod(int(seconds * 1000), 1000)
    return f"{_second(second)}.{millisecond:03}Z"


# Times that are formatted together are usually within a few seconds.
@lru_cache(256)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat().removesuffix("+00:00")


def _read_number(value: float) -> datetime | None:
    if value in _ZERO_NUMBERS:
        return None
    for least, bound, factor in NUMBERS:
        if least <= value < bound:
            return _EPOCH + timedelta(microseconds=round(value * factor))
    raise ValueError("a number out of bounds")


def _read_text(text: str) -> datetime | None:
    if len(text) > MAX_TIME_CHARACTERS:
        raise ValueError("too long")
    if text.lower() in _NO_TIME or text.startswith("0000-"):
        return None
    if found := _ISO.fullmatch(text):
        if text.startswith("0001"):
            return None
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return _moment(date.fromisoformat(found["date"]), found, _offset(found))
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    if found := _MAIL.fullmatch(text):
        month = _MONTHS.index(found["month"].lower()) + 1
        zone = (found["zone"] or "").lower()
        # RFC 2822 treats an unknown zone name as UTC.
        offset = _offset(found) or timedelta(hours=_MAIL_ZONES.get(zone, 0))
        return _moment(date(int(found["year"]), month, int(found["day"])), found, offset)
    if _NUMBER.fullmatch(text):
        return _read_number(float(text) if "." in text else int(text))
    raise ValueError("not a time")


def _offset(found: re.Match[str]) -> timedelta:
    if not found["sign"]:
        return timedelta()
    hours, minutes = int(found["hours"]), int(found["minutes"] or 0)
    if hours > 23 or minutes > 59:
        raise ValueError("an offset out of bounds")
    offset = timedelta(hours=hours, minutes=minutes)
    return offset if found["sign"] == "+" else -offset


def _moment(day: date, found: re.Match[str], offset: timedelta) -> datetime:
    """Combine a day and the parts of a time. ISO 8601 allows 24:00, and RFC 3339 leap seconds."""
    hour, minute, second = (int(found[part] or 0) for part in ("hour", "minute", "second"))
    fraction = (found.groupdict().get("fraction") or "").ljust(6, "0")[:6]
    extra = timedelta()
    if hour == 24 and not minute and not second and not int(fraction):
        hour, extra = 0, timedelta(days=1)
    elif second == 60:
        second, extra = 59, timedelta(seconds=1)
    moment = datetime(day.year, day.month, day.day, hour, minute, second, int(fraction), timezone(offset))
    return moment.astimezone(UTC) + extra
