"""Replace references in a configuration file: `${NAME}` by a variable, `${file:/path}` by a file's content."""

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.config.diagnostics import Place

REFERENCE = re.compile(r"\$\{(?:([A-Za-z_][A-Za-z0-9_]*)|file:(/[^{}\r\n]+))\}")
"""The name of a variable, or the path of a file."""
UNSET = "***"
"""The placeholder for the value of a reference that cannot be resolved."""
MAX_SECRET_BYTES = 65_536

_FILE_REFERENCE = re.compile(r"\$\{\s*file\s*:?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Unresolved:
    """A reference that cannot be resolved: its value is not set or, if `wrong`, its file is unusable."""

    name: str
    message: str
    hint: str | None = None
    wrong: bool = False


def is_reference(value: object) -> bool:
    """Return whether a value is exactly `${NAME}` or `${file:/path}`."""
    return isinstance(value, str) and REFERENCE.fullmatch(value) is not None


def has_reference(text: str) -> bool:
    """Return whether a text contains a reference, or a malformed reference to a file."""
    return REFERENCE.search(text) is not None or _FILE_REFERENCE.search(text) is not None


def find_texts(data: Any, at: Place = ()) -> Iterator[tuple[Place, str]]:
    """Yield every string in the data, with its place."""
    if isinstance(data, str):
        yield at, data
    for key, value in data.items() if isinstance(data, dict) else enumerate(data if isinstance(data, list) else ()):
        yield from find_texts(value, (*at, key))


def fill(data: Any, unresolved: dict[Place, Unresolved], at: Place = ()) -> Any:
    """Return the data with references replaced; those without a value are added to `unresolved`, by place."""
    if isinstance(data, dict):
        return {key: fill(value, unresolved, (*at, key)) for key, value in data.items()}
    if isinstance(data, list):
        return [fill(value, unresolved, (*at, index)) for index, value in enumerate(data)]
    reference = REFERENCE.fullmatch(data) if isinstance(data, str) else None
    if reference is None:
        return data
    value = _read_file(reference[2]) if reference[2] else _read_variable(reference[1])
    if isinstance(value, Unresolved):
        unresolved[at] = value
        return UNSET
    return value


def _read_variable(name: str) -> str | Unresolved:
    return os.environ.get(name) or Unresolved(name, f"the environment variable {name} is not set")


def _read_file(name: str) -> str | Unresolved:
    """Read a secret from a file, without the line break at its end."""

    def unresolved(reason: str, hint: str | None = None, *, wrong: bool = True) -> Unresolved:
        return Unresolved(f"file:{name}", f"the file {name} {reason}", hint, wrong)

    try:
        status = Path(name).stat()
        if not stat.S_ISREG(status.st_mode):
            return unresolved("is a folder" if stat.S_ISDIR(status.st_mode) else "is not a file", "name a file")
        if status.st_size > MAX_SECRET_BYTES:
            return unresolved(
                f"is too large: {status.st_size:,} bytes", f"at most {MAX_SECRET_BYTES:,} bytes are allowed"
            )
        value = Path(name).read_bytes().decode("utf-8-sig").rstrip("\r\n")
    except FileNotFoundError:
        return unresolved("does not exist", "write the secret into it, or mount it", wrong=False)
    except UnicodeDecodeError:
        return unresolved("is not UTF-8 text")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return unresolved(f"cannot be read: {reason}", "make it readable for the user that runs Turnout")
    return value or unresolved("is empty", "write the secret into it")
