"""Collect outcomes, and encode them as intervals of offsets."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

from prometheus_client import Counter

from streams.records.format import MAX_RECORD_BYTES, Headers
from streams.records.outcomes import (
    NOTED,
    AttemptInterval,
    Outcome,
    OutcomeDetail,
    OutcomeInterval,
    Outcomes,
    Stage,
    intervals,
)
from streams.records.run_header import RUN_HEADER, encode_run

MAX_INTERVALS_PER_RECORD = 20_000
"""How many intervals one record may hold; more go into several, far below the size that a record may have."""


MAX_INTERVAL_OFFSETS = 1 << 22
"""How many offsets one interval of `add_range` has; more are split."""

MAX_DETAILS_PER_RECORD = 300
"""How many offsets with a reason one record may hold. Each takes at most about 4 KB, since details are cut."""

MAX_ATTEMPTS_PER_RECORD = 2_000
"""How many intervals of attempts one record may hold."""

SPARE_BYTES = 1024
"""Bytes of a record that its value and run header leave to the rest of it."""

MAX_DETAIL_CHARACTERS = 500
"""How much of a detail is kept with an outcome; the dead letter or rejected record has it whole."""


class OutcomeBuffer:
    """Buffer the outcomes of one source partition until they are written."""

    __slots__ = ("_attempts", "_named", "_offsets", "_partition", "_ranges", "_rules", "_stage", "_topic", "read")

    def __init__(self, stage: Stage, topic: str, partition: int, rules: str) -> None:
        self._stage, self._topic, self._partition, self._rules = stage, topic, partition, rules
        self._offsets: dict[tuple[str, str, str, str], list[int]] = {}
        self._ranges: list[OutcomeInterval] = []
        self._named: list[OutcomeDetail] = []
        self._attempts: dict[tuple[str, str, int, int | None], list[int]] = {}
        self.read: list[tuple[int, str, str, str, str | None]] = []
        """The EventFacts of each event that the router decoded, as tuples, which are faster."""

    def add(self, integration: str, rule: str, outcome: str, offset: int, detail: str = "") -> None:
        """Add the outcome of one offset; `detail` must have few distinct values, as each gets its own intervals."""
        place = (integration, rule, outcome, detail)
        offsets = self._offsets.get(place)
        if offsets is None:
            offsets = self._offsets[place] = []
        offsets.append(offset)

    def extend(self, integration: str, rule: str, outcome: str, offsets: Iterable[int]) -> None:
        """Add an outcome of several offsets."""
        self._offsets.setdefault((integration, rule, outcome, ""), []).extend(offsets)

    def add_range(self, integration: str, rule: str, outcome: str, first: int, last: int, detail: str) -> None:
        """Add an outcome of all offsets from `first` to `last`, both included; there may be millions."""
        for start in range(first, last + 1, MAX_INTERVAL_OFFSETS):
            end = min(last, start + MAX_INTERVAL_OFFSETS - 1)
            self._ranges.append(OutcomeInterval(integration, rule, outcome, start, end, detail))

    def name(self, integration: str, rule: str, outcome: str, offset: int, reason: str, detail: str = "") -> None:
        """Add the outcome of one offset with its reason: a short code, and a detail without personal data."""
        self.add(integration, rule, outcome, offset)
        self._named.append(OutcomeDetail(integration, rule, outcome, offset, reason, detail[:MAX_DETAIL_CHARACTERS]))

    def record(self, integration: str, rule: str, outcome: str, offset: int, reason: str, detail: str) -> None:
        """Add the outcome of one offset: with `name` if there is a reason, else with `add`."""
        if reason:
            self.name(integration, rule, outcome, offset, reason, detail)
        else:
            self.add(integration, rule, outcome, offset, detail)

    def attempt(
        self, integration: str, rule: str, outcome: str, offsets: Iterable[int], attempts: int, status: int | None
    ) -> None:
        """Add the number of attempts until these offsets had this outcome, and the HTTP status of the last attempt.

        Deliveries at the first attempt with a 2xx status, or without HTTP, are left out.
        """
        if outcome != Outcome.DELIVERED or attempts != 1 or (status is not None and not 200 <= status < 300):
            self._attempts.setdefault((integration, rule, attempts, status), []).extend(offsets)

    def note(self, offset: int, reason: str, detail: str) -> None:
        """Add a note about an event, independent of its outcomes."""
        self._named.append(OutcomeDetail("", "", NOTED, offset, reason, detail[:MAX_DETAIL_CHARACTERS]))

    def count(self, counter: Counter) -> None:
        """Add the buffered outcomes to a metric by integration and outcome."""
        for (integration, _, outcome, _), offsets in self._offsets.items():
            counter.labels(integration, outcome).inc(len(offsets))
        for each in self._ranges:
            counter.labels(each.integration, each.outcome).inc(each.last - each.first + 1)

    def records(self) -> Iterator[Outcomes]:
        """The records to write; empty if nothing was added."""
        spans = chain(
            (
                OutcomeInterval(integration, rule, outcome, first, last, detail)
                for (integration, rule, outcome, detail), offsets in self._offsets.items()
                for first, last in intervals(sorted(offsets))
            ),
            self._ranges,
        )
        named = iter(self._named)
        attempts = [
            AttemptInterval(*place, first, last)
            for place, offsets in self._attempts.items()
            for first, last in intervals(sorted(offsets))
        ]
        facts = (self._stage, self._topic, self._partition, self._rules)
        # A reader that has an outcome also has its attempts, because those come before it or with it.
        while len(attempts) > MAX_ATTEMPTS_PER_RECORD:
            yield Outcomes(*facts, (), (), attempts[:MAX_ATTEMPTS_PER_RECORD])
            attempts = attempts[MAX_ATTEMPTS_PER_RECORD:]
        while True:
            some, reasons = list(islice(spans, MAX_INTERVALS_PER_RECORD)), list(islice(named, MAX_DETAILS_PER_RECORD))
            if not (some or reasons):
                return
            yield Outcomes(*facts, some, reasons, attempts if self._stage == Stage.FORWARDER else None)
            attempts = []

    @property
    def key(self) -> bytes:
        """The key of the records."""
        return f"{self._topic}:{self._partition}".encode()

    def encoded(self, records: Sequence[Any] = ()) -> Iterator[tuple[bytes, Headers]]:
        """Return the values and headers of the records to write.

        Args:
            records: The consumer's records of the run that these outcomes belong to. The run's headers record that they
                were read, even if no outcome was added.

        """
        values = (outcomes.encode() for outcomes in self.records())
        nothing = Outcomes(self._stage, self._topic, self._partition, self._rules, (), ())
        for header in encode_run(records, self.read):
            value = next(values, None) or nothing.encode()
            if len(value) + len(header) > MAX_RECORD_BYTES - SPARE_BYTES:
                yield nothing.encode(), [(RUN_HEADER, header)]
                yield value, []
            else:
                yield value, [(RUN_HEADER, header)]
        for value in values:
            yield value, []
