"""Records that retention removed before a consumer read them."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from streams.kafka.commit_metadata import OffsetRange

OnGap = Literal["continue", "stop"]
"""Whether a worker records a gap and continues, or stops before it."""


RECORD_SECONDS = 60.0
"""Seconds that Kafka has to store the records about a gap."""


class Gap(NamedTuple):
    """A range of offsets whose records Kafka has removed before a consumer group read them.

    `finished` are the ranges in it that the group had finished before, out of order; they are not lost.
    """

    topic: str
    partition: int
    start: int
    end: int
    finished: Sequence[OffsetRange] = ()

    @property
    def lost(self) -> list[OffsetRange]:
        """Return the ranges of offsets that are lost. Some of them may never have had a record."""
        found: list[OffsetRange] = []
        at = self.start
        for start, end in (*self.finished, (self.end, self.end)):
            if at < min(start, self.end):
                found.append((at, min(start, self.end)))
            at = max(at, end)
        return found

    @property
    def records(self) -> int:
        """Return how many offsets are lost."""
        return sum(end - start for start, end in self.lost)

    def reason_to_stop(self, group: str) -> str:
        """Return why a worker with `on_gap: stop` ends, and what to do, in one line."""
        return (
            f"{self.topic}:{self.partition}: retention removed the records from offset {self.start} to {self.end - 1}"
            f" before group {group} read them, and on_gap is `stop`; nothing was skipped. Raise retention.ms of the"
            " topic, then set on_gap to `continue` and start again: the loss is recorded, and reading continues at"
            f" offset {self.end}"
        )
