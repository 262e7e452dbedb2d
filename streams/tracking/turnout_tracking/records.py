"""Declare the format of event records in Turnout's Kafka topic."""

from __future__ import annotations

VERSION = 1
"""The record format that `event_headers` declares."""

SOURCE_HEADER = "turnout-source"
VERSION_HEADER = "turnout-version"


def events_topic(prefix: str) -> str:
    """Return the name of the topic that holds accepted events."""
    return f"{prefix}.events"


def event_headers(source: str) -> list[tuple[str, bytes]]:
    """Return the headers of an event's record; `source` is the name of its source."""
    return [(SOURCE_HEADER, source.encode()), (VERSION_HEADER, b"%d" % VERSION)]
