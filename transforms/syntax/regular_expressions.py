"""Run regular expressions with RE2, in linear time."""

import re
from functools import lru_cache
from typing import Any

import re2

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_SURROGATES = re.compile("[\ud800-\udfff]")


def find_problem(expression: str) -> str | None:
    """Return the error in an expression; None if it is valid."""
    try:
        re2.compile(expression, _OPTIONS)
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        return reason.decode() if isinstance(reason, bytes) else str(reason)
    except UnicodeEncodeError:
        return "it has half of a surrogate pair"
    return None


@lru_cache(1024)
def compile_expression(expression: str) -> Any:
    """Compile a valid expression; equal ones are the same object, so that rules can share their matches."""
    return re2.compile(expression, _OPTIONS)


def search(pattern: Any, text: str) -> Any:
    """Return the first match in a text; None if nothing matches; a lone surrogate is read as U+FFFD."""
    try:
        return pattern.search(text)
    except UnicodeEncodeError:
        return pattern.search(_SURROGATES.sub("\ufffd", text))
