"""Sum up the events of one user: which integrations got them, under which consent, with which personal data."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from deploy.config.configuration import Configuration
from deploy.config.integrations import Integration
from deploy.dryrun.personal_data import PERSONAL_NAMES
from deploy.ledger.event_story import EventStory, StoryEntry, StoryTeller
from deploy.ledger.kafka_facts import KafkaFacts
from deploy.ledger.past_rules import PastRules
from deploy.ledger.search import EventQuery, confirm, find_candidates
from streams.consent.policy import GivenConsent
from streams.events import Event
from streams.parsing.lenient_json import read_object
from streams.records.event import Origin
from streams.records.outcomes import FORWARDED, Outcome
from streams.suppression.filter import IDS

MAX_EVENTS = 200
"""The newest events of the user that are read."""

PERSONAL_PARTS = frozenset(("traits", "user_data", "userdata"))
"""Objects of an event that describe a person."""

WHOLE = {"": "the whole event", "context": "all of its context", "properties": "all of its properties"}
"""Kinds of data by the path that a rule reads, if it copies an object with parts that are not known by name."""

_DIGEST = re.compile(r"[0-9a-fA-F]{32,128}")
_PLAIN = re.compile(r"[_$-]")
_STEP = re.compile(r"[^.\[\]'\"$]+")


def sum_up(configuration: Configuration, kafka: KafkaFacts, user: str, past: PastRules | None = None) -> dict[str, Any]:
    """Return the account of a user as JSON data.

    Blocking; raises BrokerError, LedgerAwayError, and LedgerRefusedError if the ledger has no index of users.

    Args:
        configuration: The current configuration.
        kafka: Reads events and outcomes.
        user: A userId, or the anonymousId of events without a userId.
        past: Compiled rules of the past.

    """
    query = EventQuery(user=user)
    candidates = find_candidates(configuration, query, MAX_EVENTS)
    teller = StoryTeller(configuration, kafka, payloads=True, past=past)
    heads = confirm(teller, candidates, query)
    events = {head.place: (read_object(record.value) if record is not None else None) or {} for head, record in heads}
    stories = [head for head, _ in heads]
    integrations = dict.fromkeys(
        [*configuration.integrations, *(it.integration for each in stories for it in each.integrations)]
    )
    newest = {name: found for name in integrations if name and (found := _newest_sent(stories, name))}
    for head in heads:
        if head[0].place in newest.values():
            teller.explain(*head)
    explained = {story.place: story for story in stories}
    return {
        "user": user,
        "found": candidates.found,
        "read": len(stories),
        "first": stories[0].time if stories else None,
        "last": stories[-1].time if stories else None,
        "ids": _ids(events.values(), user),
        "consent": _consent(stories, events),
        "integrations": [
            _account(
                configuration.integrations.get(name), name, stories, events, explained.get(newest.get(name, _NOWHERE))
            )
            for name in integrations
            if name
        ],
    }


_NOWHERE = Origin("", 0, 0)


def _ids(events: Iterable[Event], user: str) -> list[dict[str, Any]]:
    """Return the other IDs in the user's events, as values at their paths, so that masking finds them."""
    found: dict[tuple[str, str], int] = Counter(
        (name, str(event[name])) for event in events for name in IDS if event.get(name) and str(event[name]) != user
    )
    return [{"path": name, "value": value, "events": number} for (name, value), number in found.items()]


def _consent(stories: Sequence[EventStory], events: Mapping[Origin, Event]) -> dict[str, Any] | None:
    """Return the consent in the newest event with consent information; None if no event has any."""
    for story in reversed(stories):
        given = _given(events[story.place])
        if given.is_given:
            return {
                "at": story.time,
                "place": ":".join(map(str, story.place)),
                "granted": [name for name, value in given.preferences.items() if value is True]
                + [str(each) for each in given.allowed],
                "denied": [name for name, value in given.preferences.items() if value is not True]
                + [str(each) for each in given.denied],
                "string": bool(given.string),
                "gpc": given.gpc,
            }
    return None


def _given(event: Event) -> GivenConsent:
    context = event.get("context")
    return GivenConsent.by(context if isinstance(context, dict) else {})


def _newest_sent(stories: Sequence[EventStory], integration: str) -> Origin | None:
    for story in reversed(stories):
        if any(it.integration == integration and it.outcome == Outcome.DELIVERED for it in story.integrations):
            return story.place
    return None


def _account(
    integration: Integration | None,
    name: str,
    stories: Sequence[EventStory],
    events: Mapping[Origin, Event],
    sent: EventStory | None,
) -> dict[str, Any]:
    """Return the outcomes of the user's events for one integration."""
    entries = [(story, it) for story in stories for it in story.integrations if it.integration == name]
    outcomes = Counter(it.outcome for _, it in entries)
    delivered = [story for story, it in entries if it.outcome == Outcome.DELIVERED]
    held = next((it for _, it in reversed(entries) if it.outcome in (Outcome.CONSENT, Outcome.OPTED_OUT)), None)
    return {
        "integration": name,
        "delivered": outcomes.pop(Outcome.DELIVERED, 0),
        "waiting": outcomes.pop(FORWARDED, 0),
        "others": dict(outcomes.most_common()),
        "last": delivered[-1].time if delivered else None,
        "place": ":".join(map(str, delivered[-1].place)) if delivered else None,
        "needs": [it.name for it in integration.consent.categories] if integration and integration.consent else [],
        "grants": sorted({_summary(events[story.place]) for story in delivered}),
        "held": ", ".join(held.details) or str(held.outcome) if held else None,
        "personal": _personal(sent, name) if sent else [],
    }


def _summary(event: Event) -> str:
    return _given(event).summary if event else "has expired"


def _personal(story: EventStory, integration: str) -> list[dict[str, Any]]:
    """Return the kinds of personal data in a delivered payload, and whether each is hashed."""
    found: dict[str, set[bool]] = defaultdict(set)
    for entry in story.integrations:
        if entry.integration == integration and entry.outcome == Outcome.DELIVERED:
            for kind, is_hashed in _kinds(entry):
                found[kind].add(is_hashed)
    return [{"data": kind, "hashed": is_hashed == {True}} for kind, is_hashed in found.items()]


def _kinds(entry: StoryEntry) -> Iterator[tuple[str, bool]]:
    for each in entry.fields:
        if "value" not in each or each["value"] is None:
            continue
        for read in each["reads"]:
            if kind := kind_of(str(read["path"])):
                yield kind, bool(_DIGEST.fullmatch(str(each["value"])))


def kind_of(path: str) -> str | None:
    """Return the kind of personal data at a path, by its name; None for other data."""
    steps = _STEP.findall(path)
    if ".".join(steps) in WHOLE:
        return WHOLE[".".join(steps)]
    plain = [_PLAIN.sub("", step).lower() for step in steps]
    if plain[-1] in PERSONAL_NAMES or not PERSONAL_PARTS.isdisjoint(plain):
        return str(steps[-1])
    return None
