"""Errors that cost one record, and those that end the process."""

import asyncio

import pytest

from streams.observability.internal_error import PanicError, describe, to_exception
from tests.support.panics import PanicException, panic


def test_a_panic_becomes_an_exception_that_is_described_without_its_text():
    """The description has the place that called the library, as for any other error."""
    with pytest.raises(PanicException) as caught:
        panic()
    error = to_exception(caught.value)
    assert isinstance(error, PanicError)
    assert describe(error).startswith("PanicException at support/panics.py:")


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, asyncio.CancelledError, GeneratorExit])
def test_what_ends_a_task_or_the_process_is_raised_again(kind: type[BaseException]):
    """A guard around one record must not swallow a cancellation."""
    error = kind()
    with pytest.raises(kind) as caught:
        to_exception(error)
    assert caught.value is error


def test_any_other_exception_stays_as_it_is():
    """Callers see the error itself, with its type and traceback."""
    error = KeyError("a")
    assert to_exception(error) is error
