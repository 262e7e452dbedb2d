"""Prepare the story of an event for its page: order, one-line reasons, and the timeline."""

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import orjson

from deploy.config.configuration import Configuration
from deploy.console.text import as_code, clip
from deploy.ledger.event_story import EventStory, StoryEntry
from streams.parsing.times import seconds_of
from streams.records.outcomes import FORWARDED, Outcome, find_outcome

ATTENTION = (Outcome.DEAD, Outcome.EXPIRED, Outcome.QUARANTINED, FORWARDED)
"""Outcomes whose cards are open and first, in this order."""

LAST = (Outcome.FILTERED, Outcome.CONSENT, Outcome.OPTED_OUT, Outcome.SUPPRESSED, Outcome.SAMPLED, Outcome.DUPLICATE)

MAX_REASON = 160

MESSAGES = ("message", "detail", "error_description", "title", "error", "errors")
"""Keys of vendors' answers that hold their words, in the order of preference."""

Objections = Callable[[str, float], list[str]]
"""Returns why a vendor may count a replay twice, or not accept it: of an integration, for an event of a time."""


def describe(story: EventStory, configuration: Configuration, objections: Objections) -> dict[str, Any]:
    """Return a story as JSON data, with the outcomes that need attention first."""
    for entry in story.integrations:
        for letter in entry.dead_letters:
            letter.detail = letter.detail and letter.detail.removeprefix(": ").removeprefix("Value error, ")
    data = story.data()
    entries = sorted(story.integrations, key=lambda entry: (_order(entry), entry.integration, entry.rule))
    data["integrations"] = [
        {
            **data["integrations"][story.integrations.index(entry)],
            "summary": _summary(entry),
            "vendor_says": _vendor_says(entry),
            "without": _without(entry),
            "open": entry.outcome in ATTENTION or (entry.outcome == Outcome.FILTERED and bool(entry.tried)),
            "replay": _replay(story, entry, configuration, objections),
        }
        for entry in entries
    ]
    data["at"] = f"{story.topic}:{story.partition}:{story.offset}"
    data["outcomes"] = dict(Counter(str(entry.outcome) for entry in entries))
    data["timeline"] = _timeline(story)
    return data


def _order(entry: StoryEntry) -> int:
    order = [*ATTENTION, *LAST]
    return order.index(entry.outcome) if entry.outcome in order else len(order)


def _without(entry: StoryEntry) -> list[dict[str, Any]]:
    """Return the payload fields that were left out because the event's values were unusable."""
    return [
        {"field": field["field"], "reads": [read for read in field["reads"] if "value" in read]}
        for field in entry.fields
        if field["failed"] and "value" not in field and any("value" in read for read in field["reads"])
    ]


def _summary(entry: StoryEntry) -> str:
    """Explain the outcome in one line."""
    for letter in entry.dead_letters:
        if words := _vendor_says(entry):
            return clip(f"“{words}”", MAX_REASON)
        if letter.detail or letter.reason:
            return clip(letter.detail or letter.reason, MAX_REASON)
    if entry.outcome == FORWARDED:
        return "no outcome yet"
    if entry.tried:
        tests = [test for rule in entry.tried for test in rule.tests]
        near = next(
            (test for test in tests if not test["test"].startswith(("event ", "type "))), tests[0] if tests else None
        )
        return f"No rule matched: {clip(near['test'], MAX_REASON)} is false" if near else "No rule matched"
    if entry.explanation or entry.details or entry.reason:
        return clip(entry.explanation or "; ".join(entry.details) or entry.reason, MAX_REASON)
    known = find_outcome(entry.outcome)
    return "" if known in (None, Outcome.DELIVERED) else known.meaning


def _vendor_says(entry: StoryEntry) -> str:
    """Return the message in the vendor's answer, or an empty text."""
    for letter in entry.dead_letters:
        body = letter.answer.get("body") if letter.answer else None
        if isinstance(body, str):
            with suppress(orjson.JSONDecodeError):
                body = orjson.loads(body)
        if words := _find_message(body):
            return words
    return ""


def _find_message(body: Any, depth: int = 4) -> str:
    if isinstance(body, Mapping) and depth:
        named = [body[name] for name in MESSAGES if name in body]
        return next(filter(None, (_find_message(each, depth - 1) for each in (*named, *body.values()))), "")
    if isinstance(body, list) and depth:
        return next(filter(None, (_find_message(each, depth - 1) for each in body)), "")
    return body if isinstance(body, str) and " " in body and not body.startswith("<") else ""


def _replay(
    story: EventStory, entry: StoryEntry, configuration: Configuration, objections: Objections
) -> Mapping[str, Any] | None:
    """Return the objections to sending the event again; None if that is not possible."""
    known = configuration.integrations.get(entry.integration)
    if story.expired or known is None or known.state == "draining" or story.rejected or not story.time:
        return None
    if entry.outcome == FORWARDED or entry.tried or entry.explanation:
        return None  # it waits, or today's rules do not let it through
    return {"objections": objections(entry.integration, seconds_of(story.time))}


def _timeline(story: EventStory) -> list[dict[str, Any]]:
    """Return the steps before the integrations."""
    steps: list[dict[str, Any]] = []
    received = story.received if isinstance(story.received, Mapping) else {}
    accepted = seconds_of(story.time) if story.time else None
    if isinstance(
        sent := received.get("sentAt") or received.get("originalTimestamp") or received.get("timestamp"), str
    ):
        steps.append({"name": "Sent", "time": sent, "text": f"source {story.source}" if story.source else ""})
    if accepted is not None:
        steps.append(
            {"name": "Accepted", "time": story.time, "text": f"{story.topic}:{story.partition}:{story.offset}"}
        )
    if story.rejected:
        detail = f"{story.rejected}: {story.rejected_detail}" if story.rejected_detail else story.rejected
        steps.append({"name": "Rejected", "kind": "b", "text": detail})
        return steps
    if story.notes:
        text = "; ".join(
            clip(note.get("explanation") or note["detail"] or note["reason"], MAX_REASON) for note in story.notes
        )
        remarks = "1 remark" if len(story.notes) == 1 else f"{len(story.notes)} remarks"
        steps.append({"name": remarks, "kind": "w", "text": text})
    changed = [field for step in story.steps for field in step.get("fields", ())]
    if changed:
        texts = [f"{field['field']} {clip(as_code(field['after']), 30)}" for field in changed[:2] if "after" in field]
        more = f" and {len(changed) - 2} more" if len(changed) > 2 else ""
        steps.append({"name": "Enriched", "text": f"{', '.join(texts)}{more}", "computed": True})
    if story.rules:
        same = story.rules == [story.rules_today]
        steps.append(
            {"name": "Routed", "text": f"rules {', '.join(story.rules)}{'' if same else ' (not those of today)'}"}
        )
    return steps
