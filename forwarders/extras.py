"""Libraries that only some forwarders need: extras of the package, asked for when they are first used."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Around the import of an extra's library: the ImportError says how to install it."""
    try:
        yield
    except ImportError as error:
        raise ImportError(f"{error.name} is not installed: pip install 'turnout[{name}]'", name=error.name) from error


def find_missing(libraries: Iterable[tuple[str, str]]) -> tuple[str, str] | None:
    """Return the first module that is not installed, and the command that installs its extra."""
    for module, extra_name in libraries:
        if find_spec(module) is None:
            return module, f"pip install 'turnout[{extra_name}]'"
    return None
