"""Find the invalid items of a rejected batch with few requests; deliver the valid ones once, in order."""

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class BatchBisector(Generic[T]):
    """Choose the next part of a rejected batch to send, from the result of the previous one.

    One invalid item among n costs at most 2·log2 n + 1 requests, including the rejected batch itself. Any number of
    invalid items costs fewer than 2n requests, plus the search for the first one.

    `poisoned` says that an item, not the batch's size, is the reason. Then, if all other parts were accepted, the
    remaining part must contain the invalid item, and is halved without being sent.
    """

    def __init__(self, refused: list[T], *, poisoned: bool) -> None:
        self._poisoned = poisoned
        self._found = False
        # The remaining parts, in order, each with whether it must contain an invalid item.
        self._parts: deque[tuple[list[T], bool]] = deque([(refused, True)])
        self._suspects = False

    def next(self) -> list[T] | None:
        """Return the next part to send, or None after the last one. Call `report` with its result after that."""
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
        """Report which items were rejected again as a batch, and whether any item was rejected on its own."""
        if dead and not self._found:
            self._found = True
            rest = [item for part, _ in self._parts for item in part]
            self._parts = deque([(rest, False)] if rest else [])
        elif self._suspects and self._poisoned and not refused and not dead:
            part, _ = self._parts.popleft()
            self._parts.appendleft((part, True))
        if refused:
            self._parts.appendleft((refused, True))
