"""The judge over every fault: what became of each event, by Turnout's own records and by what the vendor received."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import orjson

from streams.kafka.settings import Broker
from streams.records.outcomes import FORWARDED, Outcome, Outcomes
from streams.records.rejected import Rejected
from streams.topics import Topics
from tests.support.reading import read

STRENGTH = {FORWARDED: 0, Outcome.DEAD: 1, Outcome.DELIVERED: 2}
"""Which of two outcomes of one delivery holds; all others are the router's last word, and as strong as dead."""


@dataclass
class Findings:
    """What lies in the topics after a fault."""

    messages: dict[tuple[int, int], str | None] = field(default_factory=dict)
    """The messageId at each (partition, offset) of the events topic, None where the record is no event."""
    outcomes: dict[tuple[int, int], dict[str, dict[str, str]]] = field(default_factory=dict)
    """(partition, offset) to integration to rule to outcome."""
    rejected: set[tuple[int, int]] = field(default_factory=set)

    def of(self, message: str, integration: str) -> set[str]:
        """The outcomes of all records with this messageId for one integration; `rejected` where one was."""
        found: set[str] = set()
        for place in self.places.get(message, ()):
            found |= set(self.outcomes.get(place, {}).get(integration, {}).values())
            found |= {"rejected"} if place in self.rejected else set()
        return found

    @cached_property
    def places(self) -> Mapping[str | None, Sequence[tuple[int, int]]]:
        """The (partition, offset) of every record of a messageId."""
        places = defaultdict(list)
        for place, name in self.messages.items():
            places[name].append(place)
        return places

    def unsettled(self, integrations: Iterable[str]) -> list[tuple[tuple[int, int], str, dict[str, str]]]:
        """Every record and integration that lacks its one outcome, or stands at `forwarded` only."""
        return [
            (place, integration, found)
            for place in self.messages
            if place not in self.rejected
            for integration in integrations
            if len(found := self.outcomes.get(place, {}).get(integration, {})) != 1 or FORWARDED in found.values()
        ]


async def find(broker: Broker, topics: Topics) -> Findings:
    """Read the topics from beginning to end."""
    findings = Findings()
    for record in await read(broker, topics.events, topics.partitions):
        findings.messages[record.partition, record.offset] = _message_id(record.value)
    for record in await read(broker, topics.rejected, topics.partitions):
        origin = Rejected.decode(record.key, record.value, record.headers).origin
        if origin:
            findings.rejected.add((origin.partition, origin.offset))
    for record in await read(broker, topics.outcomes, topics.partitions):
        outcomes = Outcomes.decode(record.value)
        for span in outcomes.spans:
            for offset in range(span.first, span.last + 1):
                rules = findings.outcomes.setdefault((outcomes.partition, offset), {}).setdefault(span.integration, {})
                before = rules.get(span.rule)
                if before is None or STRENGTH.get(span.outcome, 1) > STRENGTH.get(before, 1):
                    rules[span.rule] = span.outcome
    return findings


def lost(findings: Findings, accepted: Iterable[int], received: Collection[int]) -> list[int]:
    """Return the accepted events without an outcome for `hook`, or delivered but never received by the vendor."""
    return [
        n
        for n in sorted(accepted)
        if not (outcomes := findings.of(f"m{n}", "hook") & {"delivered", "filtered", "dead", "rejected"})
        or ("delivered" in outcomes and n not in received)
    ]


def repeats(received: Iterable[Any]) -> int:
    """How many of the received ids had been received before."""
    return sum(count - 1 for count in Counter(received).values())


def _message_id(value: bytes | None) -> str | None:
    try:
        event = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return None
    return event.get("messageId") if isinstance(event, dict) else None
