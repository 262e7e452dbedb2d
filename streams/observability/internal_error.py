"""Catch, name and describe internal errors: those of our own code or a plug-in in the handling of a record."""

from pathlib import Path
from traceback import extract_tb
from typing import Final

INTERNAL: Final = "internal"
"""The reason of dead letters and rejected records after an internal error."""


class PanicError(Exception):
    """A library written in Rust panicked; `__cause__` is its PanicException."""


def to_exception(error: BaseException) -> Exception:
    """Return an internal error as an Exception, so that the worker handles it and continues.

    A panic of a library written in Rust (pyo3's PanicException) derives from BaseException, and its class differs from
    library to library: `except Exception` misses it, and it cannot be named in an `except` clause. So guards catch
    BaseException and call this.

    Raises:
        BaseException: The error itself, if it ends the task or the process: KeyboardInterrupt, SystemExit,
            CancelledError, GeneratorExit.

    """
    if isinstance(error, Exception):
        return error
    kind = type(error)
    if kind.__name__ == "PanicException" and kind.__module__ == "pyo3_runtime":
        panic = PanicError().with_traceback(error.__traceback__)
        panic.__cause__ = error
        return panic
    raise error


def describe(error: BaseException) -> str:
    """Describe an error without its text, which may quote a record: `KeyError at routing/router.py:120`."""
    error = error.__cause__ if isinstance(error, PanicError) and error.__cause__ else error
    frames = extract_tb(error.__traceback__)
    if not frames:
        return type(error).__name__
    place = "/".join(Path(frames[-1].filename).parts[-2:])
    return f"{type(error).__name__} at {place}:{frames[-1].lineno}"
