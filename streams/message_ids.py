"""Unique message ids."""

from itertools import count
from os import register_at_fork, urandom


class MessageIds:
    """Ids for the events of one process: random once, then counted.

    Asking the system for each would hand the interpreter's lock over in the middle of a request.
    """

    def __init__(self) -> None:
        self.start_over()

    def start_over(self) -> None:
        """Begin anew, as a forked process must."""
        self._process = urandom(16).hex()
        self._numbers = count(1)

    def make(self) -> str:
        """Return an id that no other event has."""
        return f"turnout-{self._process}-{next(self._numbers)}"


message_ids = MessageIds()
register_at_fork(after_in_child=message_ids.start_over)
