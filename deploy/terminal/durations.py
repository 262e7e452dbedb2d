"""Write durations for people."""

from datetime import timedelta

from streams.plurals import counted


def humanize(duration: timedelta) -> str:
    """Return a duration in hours up to three days, in days beyond."""
    hours = duration.total_seconds() / 3600
    number, unit = (hours, "hour") if hours <= 72 else (hours / 24, "day")
    return counted(round(number, 1), unit)
