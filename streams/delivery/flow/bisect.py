"""Find the bad items of a refused batch with few requests, delivering the good ones once and in order."""

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class BatchBisector(Generic[T]):
    """Choose the next part of a refused batch to send, from the result of the previous one.

    One bad item among n costs at most 2·log2 n + 1 requests, the refused batch's own included; any number of them
    fewer than 2n and what the search for the first one takes. `poisoned` says that the refusal was for an item: where
    all but a part was taken, the bad one must be in that part, which is halved unsent. It is False where the size was
    the reason.
    """

    def __init__(self, refused: list[T], *, poisoned: bool) -> None:
        self._poisoned = poisoned
        self._found = False
        # The parts that are left, in order, each with whether it surely holds a bad item.
        self._parts: deque[tuple[list[T], bool]] = deque([(refused, True)])
        self._suspects = False

    def next(self) -> list[T] | None:
        """The part to send next; None when all are through. `tell` what became of it before asking again."""
        if not self._parts:
            return None
        part, self._suspects = self._parts.popleft()
        if self._suspects and len(part) > 1:
            half = len(part) // 2
            self._parts.appendleft((part[half:], False))
            part = part[:half]
        else:
            self._suspects = False
        return part

    def report(self, refused: list[T], *, dead: bool) -> None:
        """What of the part was refused again for its company, and whether any of it was refused for itself."""
        if dead and not self._found:
            self._found = True
            rest = [item for part, _ in self._parts for item in part]
            self._parts = deque([(rest, False)] if rest else [])
        elif self._suspects and self._poisoned and not refused and not dead:
            part, _ = self._parts.popleft()
            self._parts.appendleft((part, True))
        if refused:
            self._parts.appendleft((refused, True))
