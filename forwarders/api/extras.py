"""Optional libraries: extras of the package, imported on first use."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Add the install command to an ImportError in the block."""
    try:
        yield
    except ImportError as error:
        raise ImportError(f"{error.name} is not installed: pip install 'turnout[{name}]'", name=error.name) from error


def find_missing(modules: Iterable[tuple[str, str]]) -> tuple[str, str] | None:
    """Return the first module that is not installed, and the command that installs it."""
    for module, extra_name in modules:
        if find_spec(module) is None:
            return module, f"pip install 'turnout[{extra_name}]'"
    return None
