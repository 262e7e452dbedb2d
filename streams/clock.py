"""The time by which a process acts: that of this machine, or Kafka's if this machine's clock is far from it."""

import time as machine

_reference: tuple[float, float] | None = None
"""A time of Kafka, and the monotonic time at which it was read."""


def time() -> float:
    """Return the time in seconds since 1970."""
    if _reference is None:
        return machine.time()
    seconds, read_at = _reference
    return seconds + machine.monotonic() - read_at


def record_time() -> int | None:
    """Return the timestamp of a new record in milliseconds since 1970; None for that of the client library."""
    return None if _reference is None else int(time() * 1000)


def follow(seconds: float | None) -> None:
    """Count from this time on, which it is now; with None, return this machine's time again.

    A later correction of this machine's clock changes nothing until the process is started again.
    """
    global _reference  # noqa: PLW0603  # there is one time in a process
    _reference = None if seconds is None else (seconds, machine.monotonic())
