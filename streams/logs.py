"""What may be logged of an error: an exception's own text can quote an event, so only its kind and its place are."""

from traceback import extract_tb
from typing import Any


def trouble(error: BaseException) -> dict[str, Any]:
    """The fields of a log line about an error: its type, and the file and line it was raised at."""
    frames = extract_tb(error.__traceback__)
    at = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return {"error": type(error).__name__, "at": at}
