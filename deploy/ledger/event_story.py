"""Build the story of one event from the ledger, Kafka and the rules."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from deploy.config.configuration import Configuration
from deploy.config.integrations import Integration
from deploy.dryrun.explanation import Account, PayloadField, explain
from deploy.ledger.kafka_facts import KafkaFacts, RecordedOutcome
from deploy.ledger.past_rules import PastRules, UsedRules
from deploy.ledger.plan_notes import explain_note
from streams.events import Event, EventError
from streams.ledger.books import strength
from streams.ledger.store import CountKey
from streams.parsing.lenient_json import read_object
from streams.records.event import Origin, read_notes
from streams.records.format import RecordError
from streams.records.outcomes import FORWARDED, NOTED, Outcome
from streams.records.rejected import Rejected
from streams.routing.decoding import decode, named_source, source_of
from transforms.model.values import MISSING

CHECKS: Mapping[str, str] = {
    Outcome.CONSENT: "consent",
    Outcome.OPTED_OUT: "opt-out",
    Outcome.SAMPLED: "sample",
    Outcome.DRAINING: "state",
}
"""The check that leads to an outcome; it is also the key in the integration's file, but for the opt-out."""


@dataclass
class Untrue:
    """A rule that did not match: its smallest false conditions, with the values that they found."""

    rule: str
    where: str | None
    tests: list[dict[str, Any]]


@dataclass
class LetterFacts:
    """A dead letter: its place in the dead topic, and the vendor's response."""

    partition: int
    offset: int
    reason: str
    attempts: int
    status: int | None = None
    detail: str | None = None
    died: str | None = None
    request: Mapping[str, Any] | None = None
    answer: Mapping[str, Any] | None = None


@dataclass
class StoryEntry:
    """The outcome for one integration and rule.

    `rules` is the version of the rules that led to the outcome. `after_ms` is the time from the event's record to that
    of the outcome. `attempts` and the HTTP `status` of the last one are None if they are not known. `where` is the line
    of the rule or check, `tried` are the rules that did not match, and `fields` are the payload's, with their origins.
    """

    integration: str
    rule: str
    outcome: str
    reason: str = ""
    details: list[str] = field(default_factory=list)
    recorded: list[str] = field(default_factory=list)
    rules: str = ""
    after_ms: int | None = None
    attempts: int | None = None
    status: int | None = None
    where: str | None = None
    explanation: str | None = None
    tried: list[Untrue] = field(default_factory=list)
    dead_letters: list[LetterFacts] = field(default_factory=list)
    payload: Mapping[str, Any] | None = None
    fields: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class EventStory:
    """All available facts about an event.

    `expired` means that Kafka no longer has the event, so its ID is not confirmed. `rules` are the versions that
    routed it; `rules_today` is that of the configuration folder. Lines and reasons are those of `rules`, unless
    `rules_missing` is why they are those of `rules_today`. `rules_remarks` are reasons why an explanation may
    differ from the decision, and `enrichments` are those that were computed again. `notes` have `reason` and `detail`;
    those of a plan also have `explanation` and `where`. `received` is the event as it was received, and `steps` are
    those of its source.
    """

    topic: str
    partition: int
    offset: int
    message_id: str | None = None
    user: str | None = None
    source: str | None = None
    type: str | None = None
    event: str | None = None
    time: str | None = None
    expired: bool = False
    in_ledger: bool = False
    cut: bool = False
    rejected: str | None = None
    rejected_detail: str | None = None
    notes: list[dict[str, str]] = field(default_factory=list)
    rules: list[str] = field(default_factory=list)
    rules_today: str = ""
    rules_missing: list[str] = field(default_factory=list)
    rules_remarks: list[str] = field(default_factory=list)
    enrichments: list[str] = field(default_factory=list)
    integrations: list[StoryEntry] = field(default_factory=list)
    received: Any = None
    steps: list[dict[str, Any]] = field(default_factory=list)

    @property
    def place(self) -> Origin:
        """Topic, partition and offset."""
        return Origin(self.topic, self.partition, self.offset)

    def data(self) -> dict[str, Any]:
        """Return JSON data."""
        return asdict(self)


class StoryTeller:
    """Builds the stories of events.

    Args:
        configuration: The current configuration.
        kafka: Reads from Kafka.
        payloads: Whether to add the event and the payloads, and the fields of both.
        past: Compiled rules of the past, to share between stories.

    """

    def __init__(
        self, configuration: Configuration, kafka: KafkaFacts, *, payloads: bool = False, past: PastRules | None = None
    ) -> None:
        self._configuration, self._kafka, self._payloads = configuration, kafka, payloads
        self._past = past or PastRules(configuration)

    def head(self, place: Origin, known: Mapping[str, Any] | None) -> tuple[EventStory, Any | None] | None:
        """Return the beginning of a story and the event's record; None if neither Kafka nor the ledger has the event.

        Args:
            place: The event's topic, partition and offset.
            known: The ledger's story.

        """
        record = self._kafka.record(place)
        if record is None and known is None:
            return None
        story = EventStory(*place, rules_today=self._configuration.version, expired=record is None)
        if known is not None:
            story.in_ledger = True
            story.source, story.type, story.event = known["source"], known["type"], known["event"]
            story.time, story.rejected = known["minute"], known["rejected"]
            story.notes, story.rules = list(known["notes"]), list(known["rules"])
            story.integrations = [_entry(outcome) for outcome in known["outcomes"]]
        if record is not None:
            self._read(story, record)
        return story, record

    def tell(self, story: EventStory, record: Any | None) -> EventStory:
        """Complete a story: add times, dead letters, rules, and why other rules did not match."""
        if record is None:
            self._read_letters(story, 0)
            self.explain(story, None)
            return story
        if self._payloads:
            story.received = _received(record.value)
        if is_of_collector(story, self._configuration):
            return story
        search = self._kafka.outcomes(story.place, record.timestamp)
        self._merge(story, search.found, record.timestamp)
        story.cut = search.cut
        self._read_letters(story, record.timestamp)
        self.explain(story, record)
        if self._payloads:
            for entry in story.integrations:
                if FORWARDED in entry.recorded:
                    found = self._kafka.delivery(story.place, entry.integration, entry.rule, record.timestamp)
                    entry.payload = found and found.payload
        return story

    def _read(self, story: EventStory, record: Any) -> None:
        """Fill in the facts that the router read from the event's record."""
        story.time = _rfc3339(record.timestamp)
        if record.key:
            story.user = record.key.decode(errors="replace")
        value = record.value
        if is_of_collector(story, self._configuration):
            try:
                rejected = Rejected.decode(record.key, value, record.headers)
            except RecordError:
                return
            story.rejected, story.rejected_detail = rejected.reason, rejected.detail
            story.source = story.source or rejected.source or None
        sources = self._configuration.sources
        try:
            incoming = decode(record, sources, named_source(record, sources), needs_source=False)
        except EventError as error:
            if not is_of_collector(story, self._configuration):
                story.rejected, story.rejected_detail = story.rejected or error.code, str(error)
            self._read_leniently(story, value)
            return
        event = incoming.event
        story.message_id, story.type = event["messageId"], event["type"]
        story.event = event.get("event") or event.get("name") or story.event
        story.source = story.source or (incoming.source and incoming.source.name) or source_of(record.headers)
        story.user = story.user or event.get("userId") or event.get("anonymousId")
        for reason, detail in read_notes(record.headers):
            if {"reason": reason, "detail": detail} not in story.notes:
                story.notes.append({"reason": reason, "detail": detail})

    def _read_leniently(self, story: EventStory, value: bytes | None) -> None:
        event = read_object(value)
        if event is not None:
            story.message_id = _text(event.get("messageId"))
            story.user = story.user or _text(event.get("userId")) or _text(event.get("anonymousId"))
            story.type, story.event = _text(event.get("type")), _text(event.get("event"))

    def _merge(self, story: EventStory, found: Sequence[RecordedOutcome], event_ms: int) -> None:
        """Add times to the ledger's outcomes; without a ledger, take the outcomes from Kafka."""
        by_rule: dict[tuple[str, str], list[RecordedOutcome]] = defaultdict(list)
        for each in found:
            if each.outcome == NOTED:
                note = {"reason": each.reason, "detail": each.detail}
                if note not in story.notes:
                    story.notes.append(note)
            else:
                by_rule[each.integration, each.rule].append(each)
        known = {(entry.integration, entry.rule): entry for entry in story.integrations}
        for key in sorted(by_rule):
            recorded = sorted(by_rule[key], key=lambda each: (strength(CountKey(*each[2:6])), each.at))
            entry, last = known.get(key), recorded[-1]
            if entry is None:
                if story.in_ledger and not last.integration:
                    continue
                entry = StoryEntry(
                    *key, last.outcome, last.reason, [last.detail] if last.detail else [], rules=last.rules
                )
                entry.recorded = list(dict.fromkeys(each.outcome for each in recorded))
                story.integrations.append(entry)
            if same := [each for each in recorded if each.outcome == entry.outcome]:
                entry.after_ms = max(0, same[0].at - event_ms)
                entry.attempts, entry.status = same[0].attempts, same[0].status
        story.integrations.sort(key=lambda entry: (entry.integration, entry.rule))
        if not story.rules:
            story.rules = sorted({each.rules for each in found if each.stage == "router"})

    def _read_letters(self, story: EventStory, since_ms: int) -> None:
        dead = [entry for entry in story.integrations if Outcome.DEAD in entry.recorded]
        if dead and not story.in_ledger:
            for partition, offset, letter in self._kafka.letters(story.place, since_ms, len(dead)):
                for entry in dead:
                    if (entry.integration, entry.rule) == (letter.integration, letter.delivery.get("rule")):
                        entry.dead_letters.append(LetterFacts(partition, offset, letter.reason, letter.attempts))
        for entry in story.integrations:
            for facts in entry.dead_letters:
                found = self._kafka.letter(facts.partition, facts.offset)
                if found is not None and tuple(found.delivery["from"]) == tuple(story.place):
                    facts.detail, facts.died = found.detail, found.died
                    facts.request, facts.answer = found.request, found.answer
                    status = found.answer.get("status") if found.answer else None
                    facts.status = status if isinstance(status, int) else facts.status

    def explain(self, story: EventStory, record: Any | None) -> None:
        """Add lines of rules, and why others did not match, by the rules that led to each outcome."""
        by_version: dict[str, list[StoryEntry]] = defaultdict(list)
        for entry in story.integrations:
            if entry.integration:
                by_version[entry.rules or story.rules_today].append(entry)
        for used, entries in zip(self._past.find(by_version, self._kafka).values(), by_version.values(), strict=True):
            story.rules_missing += [used.problem] if used.problem else []
            story.rules_remarks += [each for each in used.remarks if each not in story.rules_remarks]
            self._explain_by(used, story, entries, record)

    def _explain_by(
        self, used: UsedRules, story: EventStory, entries: Sequence[StoryEntry], record: Any | None
    ) -> None:
        rules = used.configuration
        names = [name for name in dict.fromkeys(entry.integration for entry in entries) if name in rules.integrations]
        accounts: dict[str, Account] = {}
        event: Event | None = None
        if names and record is not None and record.value is not None:
            source = story.source if story.source in rules.source_files else None
            explanation = explain(
                rules,
                record.value,
                integrations=names,
                source=source,
                headers=record.headers,
                now=datetime.fromtimestamp(max(0, record.timestamp) / 1000, UTC),
                deliveries=False,
            )
            accounts = {account.integration: account for account in explanation.accounts}
            event = explanation.event
            if source:
                enrichments = rules.source_files[source].enrich
                story.enrichments += [name for name in enrichments if name not in story.enrichments]
            if self._payloads:
                story.steps = [step.data() for step in explanation.steps]
        for entry in entries:
            integration = rules.integrations.get(entry.integration)
            account = accounts.get(entry.integration)
            if integration is not None:
                _explain_entry(entry, integration, account, event, rules.folder)
            if self._payloads and account is not None:
                entry.fields = [
                    {**each.data(), "where": short_place(each.where, rules.folder)}
                    for each in _fields_of(account, entry.rule)
                ]
        _explain_notes(story, rules, event)


def _explain_notes(story: EventStory, rules: Configuration, event: Event | None) -> None:
    """Describe the violations that a tracking plan noted, with the plan's lines."""
    for note in story.notes:
        if note["reason"] == "plan" and "explanation" not in note:
            explained = explain_note(note["detail"], rules.documents, event)
            if explained is not None:
                note["explanation"] = explained.text
                note["where"] = short_place(explained.where, rules.folder) or ""


def _explain_entry(
    entry: StoryEntry, integration: Integration, account: Account | None, event: Event | None, folder: Path
) -> None:
    document = integration.document
    if entry.rule:
        entry.where = line_of_rule(integration, entry.rule, folder)
        return
    if name := CHECKS.get(entry.outcome):
        if name != "opt-out":
            entry.where = short_place(f"{document.path}:{document.where_key(name)[0]}", folder)
        steps = account.steps if account and entry.outcome != Outcome.DRAINING else ()
        entry.explanation = next((step.detail for step in steps if step.name == name and not step.passed), None)
        if name == "consent" and integration.consent is not None and event is not None:
            entry.explanation = integration.consent.summarize(event)
    elif entry.outcome == Outcome.FILTERED and account:
        failed = [step for step in account.steps if not step.passed]
        if failed and failed[0].name == "source" and integration.sources:
            entry.explanation = f"takes events of source {', '.join(sorted(integration.sources))} only"
            entry.where = short_place(f"{document.path}:{document.where_key('sources')[0]}", folder)
        elif failed:
            entry.explanation = f"{failed[0].name}: {failed[0].detail}"
        elif not any(rule.matched for rule in account.rules):
            entry.tried = [
                Untrue(rule.name, short_place(rule.where, folder), list(_tests(rule.untrue))) for rule in account.rules
            ]
            entry.explanation = "no rule matched"


def line_of_rule(integration: Integration, name: str, folder: Path) -> str | None:
    """Return the file and line of a rule; None if its name is unknown."""
    rules = integration.rules
    for rule in (*rules.rules, *([rules.otherwise] if rules.otherwise else [])):
        if rule.name == name:
            return short_place(f"{rule.place.path}:{rule.place.line}", folder)
    return None


def short_place(where: str | None, folder: Path) -> str | None:
    """Return a file and line relative to the configuration folder; that of a preset by its name."""
    if where is None:
        return None
    path, _, line = where.rpartition(":")
    try:
        return f"{Path(path).relative_to(folder)}:{line}"
    except ValueError:
        return f"preset {Path(path).name}:{line}"


def _fields_of(account: Account, rule: str) -> Sequence[PayloadField]:
    return next((each.fields for each in account.rules if each.name == rule and each.matched), ())


def is_of_collector(story: EventStory, configuration: Configuration) -> bool:
    """Return whether the story is about an event that the collector rejected."""
    return story.topic == configuration.topics.rejected


def _entry(outcome: Mapping[str, Any]) -> StoryEntry:
    letters = [
        LetterFacts(each["partition"], each["offset"], each["reason"], each["attempts"], each["status"])
        for each in outcome["dead_letters"]
    ]
    return StoryEntry(
        outcome["integration"],
        outcome["rule"],
        outcome["outcome"],
        outcome["reason"],
        list(outcome["details"]),
        list(outcome["recorded"]),
        outcome["rules"],
        dead_letters=letters,
    )


def _tests(untrue: Sequence[tuple[str, Any]]) -> Iterator[dict[str, Any]]:
    for test, found in untrue:
        yield {"test": test} if found is MISSING else {"test": test, "value": found}


def _text(value: object) -> str | None:
    return str(value) if type(value) in (str, int) else None


def _received(value: bytes | None) -> Any:
    """Return an event as JSON data; as text if it is not JSON."""
    try:
        return orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return (value or b"").decode(errors="replace")


def _rfc3339(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(max(0, milliseconds) / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
