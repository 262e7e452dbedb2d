"""Provide the time that a process uses: this machine's, or Kafka's if this machine's clock is far off."""

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
    """Return the timestamp of a new record in milliseconds since 1970; None to let the client library set it."""
    return None if _reference is None else int(time() * 1000)


def follow(seconds: float | None) -> None:
    """Set the current time, from which the clock continues; None returns to this machine's time.

    A later correction of this machine's clock has no effect until the process is restarted.
    """
    global _reference  # noqa: PLW0603  # there is one time in a process
    _reference = None if seconds is None else (seconds, machine.monotonic())
