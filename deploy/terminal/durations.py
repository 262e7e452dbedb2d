"""Write durations for people."""

from datetime import timedelta

from streams.plurals import counted


def humanize(duration: timedelta) -> str:
    """Return a duration in hours up to three days, in days beyond."""
    hours = duration.total_seconds() / 3600
    number, unit = (hours, "hour") if hours <= 72 else (hours / 24, "day")
    return counted(round(number, 1), unit)


_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "m"))


def shorten(seconds: float) -> str:
    """Return a duration in its largest unit, for a column: `0 s`, `59 s`, `12 m`, `3.5 h`, `6.9 d`."""
    for size, unit in _UNITS:
        if seconds >= size:
            number = seconds / size
            return f"{number:.1f} {unit}" if number < 10 and unit != "m" else f"{number:.0f} {unit}"
    return f"{seconds:.0f} s"
