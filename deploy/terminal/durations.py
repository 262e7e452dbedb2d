"""Write durations in words."""

from datetime import timedelta

from streams.plurals import counted


def humanize(span: timedelta) -> str:
    """Up to three days in hours, else in days."""
    hours = span.total_seconds() / 3600
    number, unit = (hours, "hour") if hours <= 72 else (hours / 24, "day")
    return counted(round(number, 1), unit)
