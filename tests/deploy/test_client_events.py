"""Events as clients of several languages write them, from the collector's socket to every vendor, on the simulator."""

import asyncio
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import reduce
from itertools import cycle
from operator import getitem
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest
import yaml

from deploy.config.configuration import Configuration, read_configuration
from deploy.config.diagnostics import find_secrets
from deploy.dryrun.explanation import explain
from deploy.simulator.server import Simulator
from deploy.simulator.vendor_state import VendorState
from forwarders.api.contract import check_payload
from streams.observability.internal_error import INTERNAL
from streams.records.dead_letter import DeadLetter
from streams.records.delivery import DeliveryRecord
from streams.records.event import Origin
from streams.records.outcomes import FORWARDED, Outcomes
from streams.records.rejected import Rejected
from tests.streams.collector import helpers
from tests.support import fuzzing, golden
from tests.support.client_events import Request, Writer, Written
from tests.support.in_process import TOPICS, Pipeline
from tests.support.local_producer import LocalProducer, LocalRecord
from tests.support.simulator_in_process import sending_to

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
EVENTS = fuzzing.examples(2000)
AT_ONCE = 500
EXPLAINED = 2
"""Of so many events one is explained, for one integration after the other."""

_NUMBERS = re.compile(r"\.\d+| \(\d+ in all\)")
"""What tells dead letters of one kind apart."""

FORETOLD = ("mapping", "not_json", "payload", "too_large")
"""Reasons of dead letters that `explain` knows before anything is sent."""


class CollectorsProducer(LocalProducer):
    """A producer that a collector starts and stops."""

    async def start(self) -> None:
        """Connect to nothing."""

    async def stop(self, timeout: float = 10.0) -> None:
        """Disconnect from nothing."""


@dataclass
class Fate:
    """What became of an event that the collector took."""

    written: Written
    record: LocalRecord
    rejected: list[Rejected] = field(default_factory=list)
    outcomes: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    forwarded: dict[tuple[str, str], DeliveryRecord] = field(default_factory=dict)
    dead: dict[tuple[str, str], DeadLetter] = field(default_factory=dict)

    @property
    def event(self) -> Any:
        """The event as the collector stored it."""
        return orjson.loads(self.record.value or b"")

    @property
    def repeats(self) -> bool:
        """Whether another event had its messageId."""
        return ["duplicate"] in self.outcomes.values()

    def __str__(self) -> str:
        changes = f" ({'; '.join(self.written.changes)})" if self.written.changes else ""
        return f"{self.written.language}{changes}: {(self.record.value or b'').decode()[:2000]}"


def read_all_presets(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Configuration:
    """Read a configuration with an integration for each forwarder, by its preset; secrets come from the environment."""
    for name in ("sources", "integrations"):
        (folder / name).mkdir(parents=True)
    (folder / "turnout.yaml").write_text("{}\n")
    (folder / "sources" / "web.yaml").write_text("source: web\nwrite_keys: ['${WEB_KEY}']\n")
    monkeypatch.setenv("WEB_KEY", helpers.KEY)
    for name in golden.NAMES:
        settings = deepcopy(golden.of(name).description["settings"])
        for number, (*path, last) in enumerate(find_secrets(golden.of(name).forwarder.contract.settings, settings)):
            place = reduce(getitem, path, settings)
            monkeypatch.setenv(variable := f"{name}_{number}".upper(), place[last])
            place[last] = f"${{{variable}}}"
        data = {"integration": name, "forwarder": name, "preset": name, "settings": settings}
        (folder / "integrations" / f"{name}.yaml").write_text(yaml.safe_dump(data))
    return read_configuration(folder)


@pytest.fixture
def simulator(monkeypatch: pytest.MonkeyPatch) -> Simulator:
    """The vendors of all forwarders, at a fixed time and without rate limits."""
    simulator = Simulator(clock=NOW.timestamp)
    monkeypatch.setattr("streams.delivery.http.client.Client.send", sending_to(simulator))
    monkeypatch.setattr("streams.delivery.flow.rates.Rates.wait", lambda *_: 0.0)
    monkeypatch.setattr("streams.delivery.flow.rates.Rates.wait_of_user", lambda *_: 0.0)
    monkeypatch.setattr("streams.delivery.flow.rates.Rates.wait_for_slot", lambda *_: 0.0)
    monkeypatch.setattr(VendorState, "_within_rates", lambda *_: True)
    monkeypatch.setattr("streams.worker.guard.HOLD_SECONDS", 0.0)
    monkeypatch.setattr("streams.collector.app.time", NOW.timestamp)
    return simulator


def test_events_of_any_client_have_an_outcome_everywhere(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is answered, ends in one outcome per integration and rule, and `explain` says the same."""
    seed = fuzzing.seed()
    print(f"TURNOUT_FUZZ={seed}")
    configuration = read_all_presets(tmp_path / "configuration", monkeypatch)
    summary: dict[str, Counter[str]] = defaultdict(Counter)
    ids = asyncio.run(_send_all(configuration, Writer(Random(seed), NOW, helpers.KEY), tmp_path, summary))
    for name, counts in sorted(summary.items()):
        print(name, *(f"{count:8} {outcome}" for outcome, count in counts.most_common()), sep="\n")
    for name, tally in simulator.counts().items():
        # RudderStack's API is Segment's, so that the simulator takes both for one.
        assert name == "segment" or not ids & tally["repeated"].keys(), f"{name} took a delivery twice"
    assert {name for name in configuration.integrations if not summary[name]["delivered"]} == set()


async def _send_all(
    configuration: Configuration, writer: Writer, folder: Path, summary: Mapping[str, Counter[str]]
) -> set[str]:
    """Send all events, check each, and return the messageIds of those that are not odd."""
    producer = CollectorsProducer()
    integrations = configuration.integrations.values()
    rules = replace(configuration.rule_set(), routes=[it.route(TOPICS) for it in integrations])
    pipeline = Pipeline(
        rules, {it.name: it.make() for it in integrations}, folder / "spool", producer=producer, clock=NOW.timestamp
    )
    await pipeline.start()
    try:
        ids = await _send_chunks(pipeline, producer, configuration, writer, summary)
    finally:
        await pipeline.stop()
    assert not pipeline.failed
    return ids


async def _send_chunks(
    pipeline: Pipeline,
    producer: LocalProducer,
    configuration: Configuration,
    writer: Writer,
    summary: Mapping[str, Counter[str]],
) -> set[str]:
    offset = 0
    ids: set[str] = set()
    names = cycle(configuration.integrations)
    requests = writer.requests(EVENTS)
    async with helpers.serving(producer, TOPICS) as collector:
        while chunk := list(_take(requests, AT_ONCE)):
            producer.records.clear()
            reader, to = await asyncio.open_connection(*collector.address)
            fates: list[Fate] = []
            for request in chunk:
                to.write(request.raw)
                taken = _check_answer(request, await helpers.read_answer(reader), producer, summary)
                fates += [Fate(written, record) for written, record in taken]
            to.close()
            for number, fate in enumerate(fates, offset):
                fate.record = fate.record._replace(offset=number, timestamp=int(NOW.timestamp() * 1000))
            await pipeline.take([fate.record for fate in fates])
            _collect(fates, offset, producer)
            for fate in fates:
                _check(fate, list(configuration.integrations), summary)
            for fate, name in zip(fates[::EXPLAINED], names, strict=False):
                _check_explanation(configuration, fate, name)
            offset += len(fates)
            ids |= {fate.event["messageId"] for fate in fates if not fate.written.odd}
    return ids


def _take(requests: Iterator[Request], events: int) -> Iterator[Request]:
    for request in requests:
        yield request
        events -= len(request.events)
        if events <= 0:
            return


def _check_answer(
    request: Request, answer: helpers.Answer, producer: LocalProducer, summary: Mapping[str, Counter[str]]
) -> Sequence[tuple[Written, LocalRecord]]:
    """Check that each event is taken or refused, and that only an odd one is refused; returns those taken."""
    shown = [(each.language, each.changes, str(each.data)[:500]) for each in request.events if each.odd]
    assert answer.status < 500, (answer, shown)
    known = producer.records.setdefault(TOPICS.events, [])
    records, known[:] = list(known), []
    if request.batch:
        assert answer.status == 200, (answer, shown)
        refused = {each["index"]: each for each in answer.json.get("rejected", ())}
    else:
        refused = {} if answer.status == 200 else {0: answer.json}
    for index, why in refused.items():
        written = request.events[index]
        assert written.odd, (why, written)
        summary["collector"][why["code"]] += 1
    taken = [written for index, written in enumerate(request.events) if index not in refused]
    assert len(records) == len(taken)
    return list(zip(taken, records, strict=True))


def _collect(fates: Sequence[Fate], first: int, producer: LocalProducer) -> None:
    """Add the outcomes to each event's fate."""
    for record in producer.records.get(TOPICS.rejected, ()):
        rejected = Rejected.decode(record.key, record.value, record.headers)
        if rejected.origin is not None:
            fates[rejected.origin.offset - first].rejected.append(rejected)
    for record in producer.records.get(TOPICS.outcomes, ()):
        for span in Outcomes.decode(record.value).spans:
            for offset in range(span.first, span.last + 1):
                if span.outcome != FORWARDED:
                    outcomes = fates[offset - first].outcomes.setdefault((span.integration, span.rule), [])
                    outcomes.append(span.outcome)
    for record in producer.records.get(TOPICS.dead, ()):
        letter = DeadLetter.decode(record.value)
        origin = Origin(*letter.delivery["from"])
        fates[origin.offset - first].dead[letter.integration, letter.delivery["rule"]] = letter
    for name in golden.NAMES:
        for record in producer.records.get(TOPICS.forward(name), ()):
            delivery = DeliveryRecord.decode(record.value)
            fates[delivery.origin.offset - first].forwarded[name, delivery.rule] = delivery


def _check(fate: Fate, integrations: Sequence[str], summary: Mapping[str, Counter[str]]) -> None:
    for rejected in fate.rejected:
        assert fate.written.odd, (rejected.reason, str(fate))
        assert rejected.reason != INTERNAL, (rejected, str(fate))
        summary["router"][rejected.reason] += 1
        return
    assert {name for name, _ in fate.outcomes} == set(integrations), str(fate)
    for (name, rule), outcomes in fate.outcomes.items():
        assert len(outcomes) == 1, (name, rule, outcomes, str(fate))
        (outcome,) = outcomes
        if outcome == "dead":
            letter = fate.dead[name, rule]
            assert letter.reason != INTERNAL, (name, rule, letter.detail, str(fate))
            detail = _NUMBERS.sub("", letter.detail)
            outcome = f"dead{' though not odd' * (not fate.written.odd)}: {letter.reason}: {detail}"
        summary[name][outcome] += 1
    if fate.repeats:
        return
    for name in fate.written.opted_out:
        assert fate.outcomes.get((name, "")) == ["opted_out"], (name, fate.outcomes, str(fate))
    if (at := fate.written.at) is not None:
        expected = f"{at.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"
        for delivery in fate.forwarded.values():
            assert delivery.time == expected, (delivery.time, expected, fate.written.data, str(fate))


def _check_explanation(configuration: Configuration, fate: Fate, name: str) -> None:
    explanation = explain(configuration, fate.record.value or b"", integrations=[name], source="web", now=NOW)
    assert explanation.rejected == bool(fate.rejected), str(fate)
    if fate.repeats:
        return
    for account in json.loads(json.dumps(explanation.data()))["integrations"]:
        said = {(name, each["rule"] or ""): each for each in account["deliveries"]}
        assert said.keys() == {key for key in fate.outcomes if key[0] == name}, (name, said, str(fate))
        for key, each in said.items():
            (outcome,) = fate.outcomes[key]
            where = (key, each["outcome"], each["reason"], outcome, fate.dead.get(key), str(fate))
            if outcome == "expired":  # of which `explain` says nothing
                assert key in fate.forwarded, where
            elif each["outcome"] == FORWARDED:
                assert outcome in ("delivered", "dead"), where
                assert outcome != "dead" or fate.dead[key].reason not in FORETOLD, where
            else:
                assert each["outcome"] == outcome, where
            payload = fate.forwarded[key].payload if key in fate.forwarded else None
            sent = check_payload(golden.of(name).make(), payload, 0).payload if payload is not None else None
            assert each["payload"] == sent, where
