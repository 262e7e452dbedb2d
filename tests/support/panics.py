"""A panic of a library written in Rust, as pyo3 raises it."""

from typing import NoReturn

PanicException = type("PanicException", (BaseException,), {"__module__": "pyo3_runtime"})
"""Each library has a class of its own, with this name and module."""


def panic(*_: object) -> NoReturn:
    """Raise what a panic in Rust raises."""
    raise PanicException("personal data")
