"""Describe errors for the log without their text, which may quote an event."""

from traceback import extract_tb
from typing import Any


def error_fields(error: BaseException) -> dict[str, Any]:
    """Return the log fields of an error: its type, and the file and line that raised it."""
    frames = extract_tb(error.__traceback__)
    at = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return {"error": type(error).__name__, "at": at}
