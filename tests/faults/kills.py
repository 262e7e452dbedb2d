"""Judge repeats after kills: which ones a kill -9 explains, by the documented bound."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from streams.records.delivery import DeliveryRecord

COMMIT_SECONDS = {"router": 1.0, "forwarder": 0.2}
"""Seconds between two commits: what was finished since the last one is repeated."""

SLACK_SECONDS = 1.0
"""Seconds for a commit itself."""

IN_FLIGHT_SECONDS = 5.0
"""Seconds in which the vendor may still get what was in flight at a kill; a new process cannot deliver as early."""


@dataclass
class Kill:
    """A kill -9 of a process, or of Kafka.

    Attributes:
        kind: `collector`, `router`, `forwarder` or `kafka`.
        slot: Which process of the kind.
        at: When it was killed, in seconds since 1970.
        since: From when on finished work may not have been committed: the commit interval before the kill, and as much
            longer as the process and Kafka had to wait for a processor.
        until: When commits worked again, for Kafka; 0 for a process.

    """

    kind: str
    slot: int
    at: float
    since: float
    until: float = 0.0

    def explains(self, kind: str, finished: float) -> bool:
        """Return whether work that a worker of a kind finished at this time may be repeated because of the kill."""
        return self.kind in (kind, "kafka") and self.since <= finished <= max(self.at, self.until) + IN_FLIGHT_SECONDS


@dataclass(frozen=True)
class Repeats:
    """How often events were routed and delivered again, and how often that was beyond the bound."""

    routed: int
    delivered: int
    beyond: Sequence[str]
    """One line per event that was repeated more often than kills explain."""


def judge(
    forwarded: Iterable[Any], received: Mapping[int, Sequence[tuple[float, int]]], kills: Iterable[Kill]
) -> Repeats:
    """Judge all repeats of a run.

    Args:
        forwarded: The records of the forward topic.
        received: When the vendor got each numbered event, and from which forwarder.
        kills: All kills of the run.

    """
    kills = list(kills)
    routed: dict[str, dict[tuple[int, int], list[float]]] = defaultdict(lambda: defaultdict(list))
    for record in forwarded:
        delivery = DeliveryRecord.decode(record.value)
        routed[delivery.id][delivery.origin.partition, delivery.origin.offset].append(record.timestamp / 1000)
    beyond: list[str] = []
    rerouted = redelivered = 0
    for name, origins in routed.items():
        if len(origins) > 1:
            beyond.append(f"{name} was routed from {len(origins)} places: {sorted(origins)}")
        for origin, times in origins.items():
            *first, _ = sorted(times)
            rerouted += len(first)
            if not all(any(kill.explains("router", at) for kill in kills) for at in first):
                beyond.append(f"{name} at {origin} was routed at {sorted(times)}")
    for n, receipts in received.items():
        *first, _ = sorted(receipts)
        copies = sum(map(len, routed[f"m{n}"].values()))
        excess = len(receipts) - max(1, copies)
        redelivered += len(first)
        explained = sum(any(_explains(kill, at, slot) for kill in kills) for at, slot in first)
        if excess > explained:
            beyond.append(f"m{n}, routed {copies} times, was received at {sorted(receipts)}")
    return Repeats(rerouted, redelivered, beyond)


def _explains(kill: Kill, at: float, slot: int) -> bool:
    return (kill.kind == "kafka" or kill.slot == slot) and kill.explains("forwarder", at)
