"""Libraries that only some forwarders need: extras of the package, asked for when they are first used."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Around the import of an extra's library: the ImportError says how to install it."""
    try:
        yield
    except ImportError as error:
        raise ImportError(f"{error.name} is not installed: pip install 'turnout[{name}]'", name=error.name) from error
