"""Convert dates from ISO 8601 or numbers."""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from transforms.model.values import MISSING

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LONG_FRACTION = re.compile(r"(\.[0-9]{6})[0-9]+")
MAX_KEPT_CHARACTERS = 64
"""Length of the longest text whose time is kept."""
_DIGITS = re.compile(r"-?[0-9]{1,17}(?:\.[0-9]{1,9})?", re.ASCII)


# An event's time is parsed for several integrations.
@lru_cache(64)
def _parse(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = datetime.fromisoformat(_LONG_FRACTION.sub(r"\1", text.strip()))
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _moment(value: Any) -> datetime | None:
    """Parse ISO 8601 text (UTC if it has no zone) or a number since 1970.

    A number under 10^11 is seconds, under 10^14 milliseconds, else microseconds: 10^11 seconds is the year 5138.
    """
    try:
        if type(value) is str:
            if value[4:5] != "-" and len(value) > 8 and _DIGITS.fullmatch(value):
                return _moment(float(value))
            return _parse(value) if len(value) <= MAX_KEPT_CHARACTERS else _parse.__wrapped__(value)
        if type(value) is int or type(value) is float:
            size = abs(value)
            return _EPOCH + timedelta(microseconds=round(value * (1e6 if size < 1e11 else 1e3 if size < 1e14 else 1)))
    except (ValueError, OverflowError):
        pass
    return None


def iso_date(value: Any) -> Any:
    """Format a date as RFC 3339 in UTC with milliseconds: `2026-01-02T03:04:05.678Z`."""
    moment = _moment(value)
    try:
        if moment is None:
            return MISSING
        moment = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
        return f"{moment.isoformat(timespec='milliseconds')[: -len('+00:00')]}Z"
    except OverflowError:
        return MISSING


def _microseconds(value: Any) -> int | None:
    moment = _moment(value)
    if moment is None:
        return None
    since = moment - _EPOCH
    return since.days * 86_400_000_000 + since.seconds * 1_000_000 + since.microseconds


def unix_seconds(value: Any) -> Any:
    """Return whole seconds since 1970."""
    count = _microseconds(value)
    return MISSING if count is None else count // 1_000_000


def unix_milliseconds(value: Any) -> Any:
    """Return whole milliseconds since 1970."""
    count = _microseconds(value)
    return MISSING if count is None else count // 1_000


def unix_microseconds(value: Any) -> Any:
    """Return microseconds since 1970."""
    count = _microseconds(value)
    return MISSING if count is None else count


def formatted_date(value: Any, layout: str) -> Any:
    """Format a date by a strftime layout, in UTC."""
    moment = _moment(value)
    try:
        return moment.astimezone(UTC).strftime(layout) if moment else MISSING
    except (ValueError, OverflowError):
        return MISSING
