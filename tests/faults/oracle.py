"""Judge every fault: the fate of each event by Turnout's records and by the vendor's received requests."""

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
    """The contents of the topics after a fault."""

    messages: dict[tuple[int, int], str | None] = field(default_factory=dict)
    """The messageId at each (partition, offset) of the events topic; None for an invalid event."""
    outcomes: dict[tuple[int, int], dict[str, dict[str, str]]] = field(default_factory=dict)
    """(partition, offset) to integration to rule to outcome."""
    rejected: set[tuple[int, int]] = field(default_factory=set)

    def of(self, message: str, integration: str) -> set[str]:
        """Return the outcomes of all records with this messageId for one integration; `rejected` for rejected ones."""
        found: set[str] = set()
        for place in self.places.get(message, ()):
            found |= set(self.outcomes.get(place, {}).get(integration, {}).values())
            found |= {"rejected"} if place in self.rejected else set()
        return found

    @cached_property
    def places(self) -> Mapping[str | None, Sequence[tuple[int, int]]]:
        """Return the (partition, offset) of every record with a messageId."""
        places = defaultdict(list)
        for place, name in self.messages.items():
            places[name].append(place)
        return places

    def unsettled(self, integrations: Iterable[str]) -> list[tuple[tuple[int, int], str, dict[str, str]]]:
        """Return each record and integration without exactly one outcome, or with only `forwarded`."""
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
    """Return accepted events that have no outcome for `hook`, or are `delivered` but never reached the vendor."""
    return [
        n
        for n in sorted(accepted)
        if not (outcomes := findings.of(f"m{n}", "hook") & {"delivered", "filtered", "dead", "rejected"})
        or ("delivered" in outcomes and n not in received)
    ]


def repeats(received: Iterable[Any]) -> int:
    """Return how many of the received IDs were repeats."""
    return sum(count - 1 for count in Counter(received).values())


def _message_id(value: bytes | None) -> str | None:
    try:
        event = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return None
    return event.get("messageId") if isinstance(event, dict) else None
