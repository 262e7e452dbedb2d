"""Read some of the newest events of a kind, for example values and for violations of the plan."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

import orjson

from deploy.config.configuration import Configuration
from deploy.dryrun.explanation import Explanation, explain_source
from deploy.ledger.client import LedgerClient
from deploy.ledger.kafka_facts import KafkaFacts
from deploy.ledger.plan_notes import VIOLATION
from streams.events import Event
from streams.ledger.catalog import MAX_VISITED, PARTS, sample_of, walk_properties
from streams.parsing.lenient_json import read_object
from streams.records.event import Origin

MAX_SAMPLES = 20
MAX_VALUES = 3
"""Different values of a property that are kept as examples."""

MAX_TEXT = 200
"""Characters of an example."""

PLAN = "plan"
"""The name of the step that checks events against a plan."""

_INDEX = re.compile(r"\[\d+\]")


@dataclass
class EventSamples:
    """Values, fields and violations of some events.

    Attributes:
        number: How many events were read.
        newest: The place of the newest event, TOPIC:PARTITION:OFFSET.
        values: Different values of each property, the newest first.
        for_rules: The fields that integrations' rules can read: after the steps of the source.
        violations: How often each property violated the plan, by JSON Schema keyword.

    """

    number: int = 0
    newest: str | None = None
    values: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    for_rules: set[str] = field(default_factory=set)
    violations: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))


def read_samples(configuration: Configuration, kafka: KafkaFacts, type_: str, event: str | None) -> EventSamples:
    """Read the newest events of a type and name; blocking, raises BrokerError and LedgerAwayError."""
    client = LedgerClient(configuration.settings.ledger, configuration.folder)
    found = client.ask("/events", {"type": type_, "event": event or "", "limit": MAX_SAMPLES})["events"]
    samples = EventSamples()
    for story in found:
        place = Origin(story["topic"], story["partition"], story["offset"])
        record = kafka.record(place)
        if record is not None and record.value is not None:
            source = story["source"] if story["source"] in configuration.source_files else None
            explained = explain_source(configuration, record.value, source=source, headers=record.headers)
            _add(samples, ":".join(map(str, place)), record.value, explained)
    return samples


def _add(samples: EventSamples, place: str, value: bytes, explained: Explanation) -> None:
    event = read_object(value)
    if event is None:
        return
    samples.number += 1
    samples.newest = samples.newest or place
    for path, example in _values(event):
        kept = samples.values[path]
        if len(kept) < MAX_VALUES and example not in kept:
            kept.append(example)
    if explained.event is not None:
        sample = sample_of(orjson.dumps(explained.event, default=str), "", 0)
        samples.for_rules.update(path for path, _ in (sample.properties if sample else ()))
    for step in explained.steps:
        if step.name == PLAN:
            for violation in VIOLATION.finditer(step.detail):
                path = _INDEX.sub("[]", violation["path"]).removeprefix(".")
                samples.violations[path][violation["rule"]] += 1


def _values(event: Event) -> Iterator[tuple[str, Any]]:
    """Yield the values that are neither objects nor lists, with their paths in the catalog."""
    parts = (walk_properties(event[part], f"{part}.") for part in PARTS if isinstance(event.get(part), dict))
    for path, value in islice(chain.from_iterable(parts), MAX_VISITED):
        if not isinstance(value, dict | list):
            yield path, value[:MAX_TEXT] if isinstance(value, str) else value
