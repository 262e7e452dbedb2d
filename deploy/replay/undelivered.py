"""Leave out of a replay the deliveries that, by the ledger, have arrived or will arrive."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from streams.records.outcomes import Outcome

WAITING = "waiting"
"""The outcome of events that are left out because they are not finished."""

Left = tuple[str, str]
"""The outcome under which a delivery is left out, and the reason."""


class KnownDeliveries:
    """Determines which deliveries of an integration need no replay.

    Args:
        partitions: The ledger's answer to `/deliveries`.
        by_rule: Whether each rule that matches an event has a delivery of its own (`match: all`).

    """

    def __init__(self, partitions: Iterable[Mapping[str, Any]], *, by_rule: bool) -> None:
        self._by_rule = by_rule
        self._read: dict[tuple[str, int], _Offsets] = {}
        self._delivered: dict[tuple[str, int], dict[str, _Offsets]] = {}
        self._waiting: dict[tuple[str, int], dict[str, _Offsets]] = {}
        for each in partitions:
            place = each["topic"], each["partition"]
            self._read[place] = _Offsets(each["read"])
            self._delivered[place] = self._by_rules(each["delivered"])
            self._waiting[place] = self._by_rules(each["waiting"])

    def reason_to_leave(self, topic: str, partition: int, offset: int, rule: str) -> Left | None:
        """Return why the delivery of an event is left out; None if it is to be sent."""
        place, rule = (topic, partition), rule if self._by_rule else ""
        if place not in self._read or offset not in self._read[place]:
            return WAITING, "no router has read it yet, or the ledger does not know it"
        if offset in self._delivered[place].get(rule, _NONE):
            return Outcome.DELIVERED, "delivered before"
        if offset in self._waiting[place].get(rule, _NONE):
            return WAITING, "it waits in Kafka for its forwarder"
        return None

    def _by_rules(self, spans: Mapping[str, Sequence[Sequence[int]]]) -> dict[str, "_Offsets"]:
        if self._by_rule:
            return {rule: _Offsets(its) for rule, its in spans.items()}
        return {"": _Offsets(sorted((first, last) for its in spans.values() for first, last in its))}


class _Offsets:
    """Offsets as ordered closed intervals, which may overlap if they are of several rules."""

    def __init__(self, spans: Iterable[Sequence[int]]) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in spans:
            if self._lasts and first <= self._lasts[-1]:
                self._lasts[-1] = max(self._lasts[-1], last)
            else:
                self._firsts.append(first)
                self._lasts.append(last)

    def __contains__(self, offset: int) -> bool:
        index = bisect_right(self._firsts, offset) - 1
        return index >= 0 and offset <= self._lasts[index]


_NONE = _Offsets(())
