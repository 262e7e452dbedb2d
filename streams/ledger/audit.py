"""Check that every event a router should have read has its outcomes: the arithmetic, without Kafka.

Kafka is the independent source to compare with. Every offset before the router's committed offset must be in a run
header, and every event in a run must have an outcome for each integration of the rules that routed it.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from streams.ledger import bit_sets
from streams.ledger.bit_sets import BLOCK_BITS
from streams.ledger.books import is_unread
from streams.ledger.store import READ, REJECTED, Block, Combo, Partition, Reader, StoreError
from streams.ledger.summary import step_for
from streams.records.outcomes import FORWARDED, Outcome, Stage

MAX_FINDINGS = 1000
"""Findings that a report lists; all are counted."""


class BehindError(StoreError):
    """The ledger has not read all outcomes that the audit needs; `records` is how many are left."""

    def __init__(self, records: int) -> None:
        super().__init__(f"the ledger is {records} records behind; run the audit again later")
        self.records = records


class Problem(StrEnum):
    """A kind of finding."""

    LOST = "lost"
    """Kafka has these events before the router's committed offset, and no router read them."""

    NO_OUTCOME = "no outcome"
    """A router read these events, and they lack an outcome for the integration."""

    NOT_FINISHED = "not finished"
    """These events were forwarded and are neither finished nor waiting in Kafka."""

    NOT_FORWARDED = "not forwarded"
    """The forwarder recorded an outcome of these events, and no router did."""

    CONTRADICTORY = "contradictory"
    """One version of the rules led to outcomes that exclude each other."""


class Finding(NamedTuple):
    """Offsets of one partition with the same problem, both ends included."""

    problem: Problem
    topic: str
    partition: int
    first: int
    last: int
    integration: str = ""
    rule: str = ""
    outcomes: tuple[str, ...] = ()

    @property
    def events(self) -> int:
        """The number of offsets."""
        return self.last - self.first + 1


class AuditLine(NamedTuple):
    """The sums of one source and integration, in events.

    `lost` counts deliveries that retention removed before a forwarder read them; `finished` does not include them.
    """

    source: str
    integration: str
    accepted: int
    finished: int
    in_flight: int
    missing: int
    lost: int = 0


@dataclass
class AuditReport:
    """The result of an audit.

    `events` are the events that routers read, `rejected` those of them that were rejected. `findings` has at most
    MAX_FINDINGS elements, `problems` counts all, by offset. `gaps` are the offsets that no router read, as closed
    intervals; `resolve` looks for records there. `oldest_in_flight` is a minute since 1970. Partitions in `unknown`
    have no known run and were not audited.

    `lost` are events that retention removed before a router read them, by the time at which a router recorded the loss.
    They are accounted for, so they are not a problem.
    """

    events: int = 0
    rejected: int = 0
    lost: int = 0
    in_flight: int = 0
    oldest_in_flight: int | None = None
    lines: list[AuditLine] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    problems: Counter[Problem] = field(default_factory=Counter)
    gaps: dict[Partition, list[tuple[int, int]]] = field(default_factory=dict)
    unknown: list[Partition] = field(default_factory=list)

    @property
    def balanced(self) -> bool:
        """Whether the report has neither problems nor unresolved gaps."""
        return not self.problems.total() and not self.gaps

    def add(self, finding: Finding) -> None:
        """Add a finding; it is joined with the last one if it continues it."""
        self.problems[finding.problem] += finding.events
        last = self.findings[-1] if self.findings else None
        if last is not None and finding == last._replace(first=last.last + 1, last=finding.last):
            self.findings[-1] = last._replace(last=finding.last)
        elif len(self.findings) < MAX_FINDINGS:
            self.findings.append(finding)


Integrations = Callable[[str], Collection[str] | None]
"""Returns the integrations of a version of the rules, or None if the version is not known."""

InFlight = Mapping[Partition, Mapping[tuple[str, str], Mapping[int, int]]]
"""By partition of the events, integration and rule: the bits of each block that wait in forward and retry topics."""


class KafkaBounds(NamedTuple):
    """The state of Kafka that an audit compares the ledger with.

    It must be read in this order: the committed offsets, the records after them, then `needed`.
    """

    ranges: Mapping[Partition, tuple[int, int]]
    """The first offset to audit and the router's committed offset, by partition of the events."""

    in_flight: InFlight
    needed: Mapping[Partition, int]
    """The offset that the ledger must have reached, by partition of the topics that it reads."""

    period: tuple[int, int] = (0, 0)
    """The beginning and end of the audited time, in seconds since 1970."""


def check_position(reader: Reader, needed: Mapping[Partition, int]) -> None:
    """Raise BehindError if the ledger has not read up to these offsets."""
    stored = reader.offsets()
    if behind := sum(max(0, end - stored.get(partition, 0)) for partition, end in needed.items()):
        raise BehindError(behind)


def audit(reader: Reader, bounds: KafkaBounds, integrations: Integrations = lambda _: None) -> AuditReport:
    """Audit the ranges in `bounds`.

    Args:
        reader: The ledger.
        bounds: The state of Kafka.
        integrations: The integrations by version of the rules. For an unknown version, these are the integrations with
            any outcome of that version.

    Raises:
        BehindError: The ledger has not read all outcomes yet.

    """
    check_position(reader, bounds.needed)
    recorded: dict[str, set[str]] = defaultdict(set)
    for combo in reader.combos():
        if combo.stage == Stage.ROUTER and combo.integration:
            recorded[combo.rules].add(combo.integration)

    def of_version(rules: str) -> Collection[str]:
        known = integrations(rules)
        return recorded[rules] if known is None else known

    report = AuditReport()
    lines: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    known = reader.partitions()
    for partition, (first, end) in sorted(bounds.ranges.items()):
        if partition not in known:
            if end > first:
                report.unknown.append(partition)
            continue
        start = max(first, known[partition][0])
        waiting = bounds.in_flight.get(partition, {})
        for block in _whole(reader, partition, start, end):
            _BlockAudit(block, bit_sets.between(block.number, start, end), waiting, of_version, report, lines).audit()
    report.lines = [
        AuditLine(
            source,
            integration,
            sums["accepted"],
            sums["finished"],
            sums["in_flight"],
            sums["missing"],
            sums["lost"],
        )
        for (source, integration), sums in sorted(lines.items())
    ]
    report.lost = _count_lost(reader, *bounds.period)
    return report


def _count_lost(reader: Reader, since: int, until: int) -> int:
    """Return how many events were lost in a period before a router read them; Kafka no longer has them."""
    step = step_for(since, until, since)
    return sum(count.number for count in reader.counts(since - since % step, until, step) if is_unread(count.key))


def resolve(report: AuditReport, records: Callable[[Partition, Sequence[tuple[int, int]]], Iterable[int]]) -> None:
    """Report events in a report's gaps as lost, if Kafka has their records; transaction markers have none.

    Args:
        report: The report, which is changed.
        records: Returns the offsets of the records that Kafka has in closed intervals of a partition, ascending.

    """
    gaps, report.gaps = report.gaps, {}
    for partition, intervals in gaps.items():
        for offset in records(partition, intervals):
            report.add(Finding(Problem.LOST, *partition, offset, offset))


def _whole(reader: Reader, partition: Partition, start: int, end: int) -> Iterator[Block]:
    """Return all blocks of a range; blocks without data are empty."""
    if end <= start:
        return
    number, last = start >> BLOCK_BITS, (end - 1) >> BLOCK_BITS
    for block in reader.blocks(*partition, start, end):
        for empty in range(number, block.number):
            yield Block(*partition, empty, {}, {})
        yield block
        number = block.number + 1
    for empty in range(number, last + 1):
        yield Block(*partition, empty, {}, {})


class _BlockAudit:
    """The audit of one block."""

    def __init__(
        self,
        block: Block,
        mask: int,
        waiting: Mapping[tuple[str, str], Mapping[int, int]],
        integrations: Callable[[str], Collection[str]],
        report: AuditReport,
        lines: Mapping[tuple[str, str], Counter[str]],
    ) -> None:
        self._block, self._mask, self._waiting = block, mask, waiting
        self._integrations, self._report, self._lines = integrations, report, lines
        self._rejected = self._unread = 0
        self._read: dict[str, int] = defaultdict(int)
        self._by_integration: dict[str, dict[Combo, int]] = defaultdict(dict)
        for combo, bits in block.outcomes.items():
            if combo.outcome == READ:
                self._read[combo.rules] |= bits & mask
            elif combo.outcome == REJECTED:
                self._rejected |= bits & mask
            elif is_unread(combo):
                self._unread |= bits & mask
            else:
                self._by_integration[combo.integration][combo] = bits & mask

    def audit(self) -> None:
        """Add the block's sums and findings to the report."""
        read = _union(self._read.values())
        if unread := self._mask & ~(read | self._unread):
            gaps = self._report.gaps.setdefault((self._block.topic, self._block.partition), [])
            # A gap may begin in the block before.
            gaps[-1:] = bit_sets.joined([*gaps[-1:], *bit_sets.spans(self._block.number, unread)])
        self._report.events += read.bit_count()
        self._report.rejected += (read & self._rejected).bit_count()
        expected: dict[str, int] = defaultdict(int)
        for rules, bits in self._read.items():
            for integration in self._integrations(rules):
                expected[integration] |= bits & ~self._rejected
        for integration in sorted({*expected, *self._by_integration}):
            self._audit_integration(integration, expected[integration])

    def _audit_integration(self, integration: str, expected: int) -> None:
        outcomes = self._by_integration.get(integration, {})
        nothing = expected & ~_union(outcomes.values())
        self._find(Problem.NO_OUTCOME, nothing, integration)
        by_router = _union(bits for combo, bits in outcomes.items() if combo.stage == Stage.ROUTER)
        # A replay delivers events that the router filtered, or that came before the integration.
        self._find(Problem.NOT_FORWARDED, expected & ~nothing & ~by_router, integration)
        all_open = all_waiting = all_lost = 0
        for rule in sorted({combo.rule for combo in outcomes}):
            its = {combo: bits for combo, bits in outcomes.items() if combo.rule == rule}
            forwarded = _union(bits for combo, bits in its.items() if combo.outcome == FORWARDED)
            finished = _union(bits for combo, bits in its.items() if combo.outcome not in (FORWARDED, Outcome.LOST))
            lost = _union(bits for combo, bits in its.items() if combo.outcome == Outcome.LOST) & ~finished
            still = forwarded & ~finished & ~lost
            waiting = still & self._waiting.get((integration, rule), {}).get(self._block.number, 0)
            self._find(Problem.NOT_FINISHED, still & ~waiting, integration, rule)
            all_open |= still & ~waiting
            all_waiting |= waiting
            all_lost |= lost
        self._find_contradictions(integration, outcomes)
        self._note_in_flight(all_waiting)
        missing = nothing | all_open
        for source, bits in self._sources().items():
            sums = self._lines[source, integration]
            sums["accepted"] += (expected & bits).bit_count()
            sums["missing"] += (missing & bits).bit_count()
            sums["in_flight"] += (all_waiting & bits).bit_count()
            sums["lost"] += (all_lost & bits & ~missing & ~all_waiting).bit_count()
            sums["finished"] += (expected & bits & ~missing & ~all_waiting & ~all_lost).bit_count()

    def _find_contradictions(self, integration: str, outcomes: Mapping[Combo, int]) -> None:
        """Find events for which a router recorded more than one outcome for all rules, or for the same rule."""
        by_version: dict[str, dict[tuple[str, str], int]] = defaultdict(lambda: defaultdict(int))
        for combo, bits in outcomes.items():
            if combo.stage == Stage.ROUTER:
                by_version[combo.rules][combo.rule, combo.outcome] |= bits
        for recorded in by_version.values():
            keys = sorted(recorded)
            for index, (rule, outcome) in enumerate(keys):
                for other_rule, other in keys[index + 1 :]:
                    if rule in ("", other_rule) and (both := recorded[rule, outcome] & recorded[other_rule, other]):
                        self._find(Problem.CONTRADICTORY, both, integration, other_rule, (outcome, other))

    def _note_in_flight(self, waiting: int) -> None:
        self._report.in_flight += waiting.bit_count()
        minutes = [minute for (_, minute), bits in self._block.kinds.items() if bits & waiting]
        if minutes:
            oldest = self._report.oldest_in_flight
            self._report.oldest_in_flight = min(minutes) if oldest is None else min(oldest, *minutes)

    def _sources(self) -> Mapping[str, int]:
        found: dict[str, int] = defaultdict(int)
        read = _union(self._read.values())
        for (kind, _), bits in self._block.kinds.items():
            if its := bits & read:
                found[kind.source] |= its
        return found

    def _find(
        self, problem: Problem, bits: int, integration: str = "", rule: str = "", outcomes: Sequence[str] = ()
    ) -> None:
        for first, last in bit_sets.spans(self._block.number, bits):
            place = self._block.topic, self._block.partition, first, last
            self._report.add(Finding(problem, *place, integration, rule, tuple(outcomes)))


def _union(parts: Iterable[int]) -> int:
    found = 0
    for bits in parts:
        found |= bits
    return found
