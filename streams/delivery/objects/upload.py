"""Track the upload of one object: the parts that are left, and how often it failed."""

from forwarders.api.contract import PermanentFailure
from streams.delivery.objects.buffer import ObjectBuffer

MAX_REFUSED_ALONE = 8
"""Rows that are refused alone, before any part of the object is stored, after which the rest is refused untried."""


class ObjectUpload:
    """One ended object on its way to the store.

    Attributes:
        ended: The object.
        parts: The ranges of its records that are left, the next one last; initially the whole object. Each has the
            store's refusal, once it is final.
        settled: The indices of records that are left out of the object, and have their outcome.
        tries: Number of requests.
        failures: Consecutive failures; determines the back-off.
        spent: Seconds of back-off after failures while other objects were stored.
        last: The number of the last request before the last failure.
        poison: Whether the store refuses this object, and not every object.
        counted: Whether its rows are reported to the guard.

    """

    __slots__ = (
        "_refused",
        "_stored",
        "counted",
        "ended",
        "failures",
        "last",
        "parts",
        "poison",
        "settled",
        "spent",
        "tries",
    )

    def __init__(self, ended: ObjectBuffer) -> None:
        self.ended = ended
        self.parts: list[tuple[range, PermanentFailure | None]] = [(range(ended.count), None)]
        self.settled: set[int] = set()
        self.tries = self.failures = self.last = 0
        self.spent = 0.0
        self.poison = self.counted = False
        self._stored, self._refused = False, 0

    def stored(self) -> None:
        """Remove the next part, which is stored."""
        self.parts.pop()
        self._stored, self.failures = True, 0

    def refuse(self, failure: PermanentFailure) -> None:
        """Refuse the rows of the next part for good."""
        part, _ = self.parts[-1]
        self.parts[-1] = part, failure

    def divide(self, rows: int, failure: PermanentFailure) -> None:
        """Divide the next part after the store refused its `rows` rows; a single row is refused for good."""
        part, _ = self.parts[-1]
        if rows == 1:
            self._refused += 1
            self.refuse(failure)
            if not self._stored and self._refused >= MAX_REFUSED_ALONE:
                self.parts = [(each, failure) for each, _ in self.parts]
            return
        middle = len(part) // 2
        self.parts[-1:] = [(part[middle:], None), (part[:middle], None)]
