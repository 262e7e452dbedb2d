"""Print stories of events, 80 columns wide."""

import re
from collections.abc import Iterator, Sequence

import orjson
from rich.console import Console
from rich.text import Text

from deploy.config.json_diff import ABSENT, shown
from deploy.ledger.event_story import EventStory, LetterFacts, StoryEntry, Untrue
from deploy.terminal.console import PlainConsole, one_line
from streams.plurals import counted
from streams.records.outcomes import FORWARDED, Outcome, find_outcome

WIDTH = 80
NAME_WIDTH = 20
MIN_NAME_WIDTH = 7
MAX_ANSWER_CHARACTERS = 200
MAX_MESSAGE_FIELDS = 3
SAFE_ID = re.compile(r"[\w.:@/+=][\w.:@/+=-]*", re.ASCII)
"""Message ids that need no quotes in a shell."""
FEW_RULES = 3

Line = tuple[str, str]
"""A text and its style."""

Row = tuple[str, str, str, list[Line]]
"""A name, an outcome and its style, and lines."""


def show_stories(stories: Sequence[EventStory], *, dropped: int = 0) -> None:
    """Print whole stories; `dropped` is the number of older ones that are left out."""
    console = PlainConsole(width=WIDTH)
    if len(stories) > 1:
        console.print(one_line((f"This id came {len(stories) + dropped} times.", "yellow")))
        console.print()
    for number, story in enumerate(stories):
        if number:
            console.print()
        _show(console, story)


def show_list(stories: Sequence[EventStory], found: int) -> None:
    """Print a line about each event, with its outcomes below."""
    console = PlainConsole(width=WIDTH)
    for story in stories:
        parts = [_time(story), story.event or story.type or "", story.message_id or "-", _place(story)]
        console.print(
            one_line((parts[0], "dim"), "  ", (parts[1], "bold"), f"  {parts[2]}  {parts[3]}"), soft_wrap=True
        )
        outcomes = [f"{entry.integration} {entry.outcome}" for entry in story.integrations if entry.integration]
        if story.rejected:
            outcomes.insert(0, f"rejected: {story.rejected}")
        _show_block(console, "", [(", ".join(outcomes) or "nothing recorded yet", "dim")], 4)
    if found > len(stories):
        console.print(one_line((f"and {counted(found - len(stories), 'older event')}; --limit shows more", "dim")))


def _show(console: Console, story: EventStory) -> None:
    name = story.event or story.type or "unknown event"
    facts = [story.message_id or "", f"user {story.user}" if story.user else "", f"source {story.source or 'unknown'}"]
    console.print(one_line((name, "bold"), *(f"   {fact}" for fact in facts if fact)), soft_wrap=True)
    console.print(one_line(f"{_time(story)}   {_place(story)}"), soft_wrap=True)
    for remark in _remarks(story):
        _show_block(console, "", [(remark, "yellow")], 0)
    console.print()
    _show_rows(console, list(_rows(story)) or [("", "", "", [("no outcome is recorded yet", "yellow")])])
    if story.enrichments and any(entry.tried for entry in story.integrations):
        console.print()
        _show_block(console, "", [("The values of enrichments above were computed again.", "dim")], 0)


def _show_rows(console: Console, rows: Sequence[Row]) -> None:
    """Print rows in three columns."""
    widths = [
        min(NAME_WIDTH, max(least, *(one_line(text).cell_len for text in texts)))
        for texts, least in (([row[0] for row in rows], MIN_NAME_WIDTH), ([row[1] for row in rows], 0))
    ]
    for integration, outcome, style, lines in rows:
        indent = widths[0] + widths[1] + 4
        first = one_line(f"{integration:<{widths[0]}}  ", (f"{outcome:<{widths[1]}}", style), "  ")
        if first.cell_len > indent:
            first.rstrip()
            console.print(first, soft_wrap=True)
            first = Text(" " * indent)
        _show_block(console, first, lines, indent)


def _show_block(console: Console, first: Text | str, lines: Sequence[Line], indent: int) -> None:
    """Print lines with a hanging indent; `first` is in front of the first one."""
    prefix = first if isinstance(first, Text) else Text(first or " " * indent)
    for text, style in lines or [("", "")]:
        for part in one_line((text, style)).wrap(console, WIDTH - indent, overflow="fold"):
            part.rstrip()
            whole = prefix + part
            whole.rstrip()
            console.print(whole, soft_wrap=True)
            prefix = Text(" " * indent)


def _remarks(story: EventStory) -> Iterator[str]:
    if story.expired:
        yield (
            "Kafka no longer has this event. Expired: its user, its values, payloads, times and attempts, and the "
            "proof that it has this messageId. Left: outcomes with their reasons, rules and dead letters."
        )
    for problem in story.rules_missing:
        yield f"Lines and reasons below are those of today's rules, {story.rules_today}: {problem}."
    for remark in story.rules_remarks:
        yield f"Reasons below may differ from the decision: {remark}."
    if story.cut:
        yield "The search for the times of outcomes ended before all were found."


def _rows(story: EventStory) -> Iterator[Row]:
    """Return the rows: name, outcome, its style, and lines."""
    if story.rejected:
        detail = story.rejected_detail or ""
        yield "event", "rejected", "red", [(f"{detail} ({story.rejected})" if detail else story.rejected, "")]
    for note in story.notes:
        lines = [(note.get("explanation") or note["detail"], "")]
        yield note["reason"], "noted", "yellow", lines + ([(note["where"], "dim")] if note.get("where") else [])
    several = sum(entry.outcome == Outcome.DEAD for entry in story.integrations) > 1
    for entry in story.integrations:
        known = find_outcome(entry.outcome)
        style = known.colour if known else "yellow"
        told = list(_lines(entry))
        if entry.outcome == Outcome.DEAD and (fix := _remedy(story, entry, several=several)):
            told.append((f"after a fix: turnout dead replay {fix}", "cyan"))
        yield entry.integration or "event", entry.outcome, style, told


def _remedy(story: EventStory, entry: StoryEntry, *, several: bool) -> str | None:
    """Return the arguments of `turnout dead replay` for an entry; None if nothing can be replayed."""
    letter = entry.dead_letters[-1] if entry.dead_letters else None
    if story.message_id and SAFE_ID.fullmatch(story.message_id):
        return f"--id {story.message_id}" + (f" --integration {entry.integration}" if several else "")
    return f"{letter.partition}:{letter.offset}" if letter else None


def _lines(entry: StoryEntry) -> Iterator[Line]:
    letter = entry.dead_letters[-1] if entry.dead_letters else None
    yield ", ".join(_facts(entry, letter)), ""
    if entry.rule:
        yield ", ".join(filter(None, (f"rule {entry.rule}", entry.where))), "dim"
    elif entry.where:
        yield entry.where, "dim"
    yield from _tried(entry.tried)


def _facts(entry: StoryEntry, letter: LetterFacts | None) -> Iterator[str]:
    if entry.outcome == FORWARDED:
        yield "forwarded, and not finished yet"
        return
    if entry.after_ms is not None and entry.outcome in (Outcome.DELIVERED, Outcome.EXPIRED):
        yield _after(entry.after_ms)
    yield from _attempts(entry, letter)
    if entry.outcome == Outcome.DEAD:
        yield _death(entry, letter)
    elif entry.outcome == Outcome.DELIVERED:
        if letter:
            yield "after it was dead"
    elif entry.outcome == Outcome.CONSENT:
        yield entry.explanation or (f"needs {entry.reason}" if entry.reason else "the required consent is not given")
    elif entry.outcome == Outcome.LOST:
        yield Outcome.LOST.meaning
    else:
        known = find_outcome(entry.outcome)
        recorded = ": ".join(filter(None, (entry.reason, *entry.details)))
        yield recorded or entry.explanation or ("a rule drops it" if entry.rule else known.meaning if known else "")


def _attempts(entry: StoryEntry, letter: LetterFacts | None) -> Iterator[str]:
    """Describe the number of attempts, if known; a delivery that succeeded at once has the status 2xx."""
    attempts = entry.attempts
    if attempts is None and letter and entry.outcome == Outcome.DEAD:
        attempts = letter.attempts
    if attempts:
        yield counted(attempts, "attempt")
    if entry.status is not None and entry.outcome == Outcome.DELIVERED:
        yield str(entry.status)


def _death(entry: StoryEntry, letter: LetterFacts | None) -> str:
    """Return the vendor's response, else the reason of the dead letter."""
    status = entry.status if letter is None or letter.status is None else letter.status
    body = str(letter.answer.get("body") or "") if letter and letter.answer else ""
    if status is not None:
        said = vendor_message(body) or next(iter(entry.details), "")
        cut = said if len(said) <= MAX_ANSWER_CHARACTERS else f"{said[:MAX_ANSWER_CHARACTERS]}…"
        return f'{status} "{cut}"' if cut else str(status)
    if letter is None:
        return ": ".join(filter(None, (entry.reason, *entry.details)))
    return ": ".join(filter(None, (letter.reason, letter.detail)))


def vendor_message(body: str) -> str:
    """Summarize a vendor's response: the texts of a small JSON object, else the body on one line."""
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError:
        return " ".join(body.split())
    while isinstance(data, dict | list) and len(data) == 1:
        (inner,) = data.values() if isinstance(data, dict) else data
        if isinstance(data, dict) and not isinstance(inner, dict | list):
            break
        data = inner
    if isinstance(data, str):
        return data
    if (
        isinstance(data, dict)
        and 0 < len(data) <= MAX_MESSAGE_FIELDS
        and all(isinstance(value, str | int | float) for value in data.values())
    ):
        return ", ".join(f"{key}: {value}" for key, value in data.items())
    return " ".join(body.split())


def _tried(rules: Sequence[Untrue]) -> Iterator[Line]:
    """Return one line for each of the most relevant rules; rules for another type or event are only counted."""
    telling = [rule for rule in rules if not any(each["test"].startswith(("type ", "event ")) for each in rule.tests)]
    for rule in telling[:FEW_RULES]:
        tests = [f"{each['test']}, but it is {shown(each.get('value', ABSENT), 40)}" for each in rule.tests]
        yield f"{rule.rule}: {'; '.join(tests)}", ""
    left = len(rules) - len(telling[:FEW_RULES])
    if left and telling:
        yield f"and {counted(left, 'more rule')}", "dim"
    elif left:
        yield f"{counted(left, 'rule')} for other events", "dim"


def _after(milliseconds: int) -> str:
    if milliseconds < 10_000:
        return f"+{milliseconds} ms"
    seconds = milliseconds // 1000
    return f"+{seconds} s" if seconds < 600 else f"+{seconds // 60} min"


def _time(story: EventStory) -> str:
    return (story.time or "time unknown").replace("T", " ").replace("Z", " UTC")


def _place(story: EventStory) -> str:
    return f"{story.topic} {story.partition}:{story.offset}"
