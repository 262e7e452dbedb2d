"""Spans of time in words."""

from datetime import timedelta


def in_words(span: timedelta) -> str:
    """Up to three days in hours, else in days."""
    hours = span.total_seconds() / 3600
    return f"{round(hours, 1):g} hours" if hours <= 72 else f"{round(hours / 24, 1):g} days"
