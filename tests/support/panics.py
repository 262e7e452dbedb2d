"""Raise a panic of a Rust library, like pyo3."""

from typing import NoReturn

PanicException = type("PanicException", (BaseException,), {"__module__": "pyo3_runtime"})
"""Each library has a class of its own, with this name and module."""


def panic(*_: object) -> NoReturn:
    """Raise the exception of a panic in Rust."""
    raise PanicException("personal data")
