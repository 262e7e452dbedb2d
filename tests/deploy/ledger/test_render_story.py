"""Stories on a terminal: 80 columns, nothing that a terminal obeys, and what is not known is said."""

import pytest

from deploy.ledger.event_story import EventStory, LetterFacts, StoryEntry, Untrue
from deploy.ledger.render_story import show_list, show_stories

EVIL = "\x1b[31mred\n\u202e"


def story(**fields: object) -> EventStory:
    known = {"message_id": "m-1", "user": "u-1", "source": "web", "event": "Order", "time": "2026-11-28T10:02:11.204Z"}
    return EventStory("turnout.events", 3, 1842, **{**known, **fields})  # type: ignore[arg-type]


def printed(capsys: pytest.CaptureFixture[str], *stories: EventStory) -> list[str]:
    show_stories(stories)
    return capsys.readouterr().out.splitlines()


def test_nothing_is_obeyed_by_the_terminal(capsys: pytest.CaptureFixture[str]):
    """Texts of events, vendors and records are escaped, and stay in their line."""
    letter = LetterFacts(0, 1, EVIL, 1, None, EVIL, answer={"status": 400, "body": EVIL})
    entry = StoryEntry(EVIL, EVIL, "dead", EVIL, [EVIL], ["dead"], dead_letters=[letter])
    filtered = StoryEntry("x", "", "filtered", tried=[Untrue(EVIL, EVIL, [{"test": EVIL, "value": EVIL}])])
    notes = [{"reason": EVIL, "detail": EVIL}]
    evil = story(
        message_id=EVIL, user=EVIL, source=EVIL, event=EVIL, rejected=EVIL, rejected_detail=EVIL, notes=notes,
        rules=[EVIL], integrations=[entry, filtered],
    )  # fmt: skip
    show_stories([evil])
    show_list([evil], 5)
    out = capsys.readouterr().out
    assert not {"\x1b", "\u202e"} & set(out)
    assert "\\u001b[31mred\\n\\u202e" in out


def test_long_texts_wrap_at_80_columns(capsys: pytest.CaptureFixture[str]):
    """Long names and answers stay within 80 columns, each in its column, and no word is lost."""
    words = " ".join(f"word{number}" for number in range(60))
    name = "an_integration_with_a_very_long_name"
    entries = [StoryEntry(name, "", "dead", "status", [words], ["dead"]), StoryEntry("b", "", "sampled", "", [words])]
    lines = printed(capsys, story(integrations=entries, notes=[{"reason": "plan", "detail": "x" * 200}]))
    assert max(map(len, lines)) <= 80
    assert sum(line.count("word59") for line in lines) == 2
    assert "".join(lines).count("x") == 200
    assert f"{name}  dead" in lines


def test_what_is_not_known_is_said(capsys: pytest.CaptureFixture[str]):
    """An event that Kafka no longer has, other rules, no outcome, and a delivery that is not finished."""
    lines = " ".join(printed(capsys, story(expired=True, rules=["old1"], rules_today="new1")))
    assert "Kafka no longer has this event" in lines
    assert "Routed by rules old1." in lines
    assert "no outcome is recorded yet" in lines
    waiting = StoryEntry("ga4", "r", "forwarded", recorded=["forwarded"], after_ms=12)
    lines = printed(capsys, story(rules=["new1"], rules_today="new1", integrations=[waiting]))
    assert lines[3:] == ["ga4  forwarded  forwarded, and not finished yet", "                rule r"]


def test_a_delivery_after_a_dead_letter(capsys: pytest.CaptureFixture[str]):
    """Attempts before the replay are shown, and no command to send it again."""
    letter = LetterFacts(0, 1, "status", 3, 422, "email", answer={"status": 422, "body": "email"})
    entry = StoryEntry("crm", "r", "delivered", recorded=["dead", "delivered"], after_ms=75_000, dead_letters=[letter])
    lines = printed(capsys, story(integrations=[entry]))
    assert lines[3:] == ["crm  delivered  +75 s, 3 attempts before it was delivered", "                rule r"]


def test_rules_for_other_events_are_counted_only(capsys: pytest.CaptureFixture[str]):
    """Of the rules that did not match, those for the same event are shown, with what they found."""
    tried = [Untrue("other", "a.yaml:1", [{"test": 'event = "Pay"', "value": "Order"}])]
    lines = printed(
        capsys, story(integrations=[StoryEntry("a", "", "filtered", explanation="no rule matched", tried=tried)])
    )
    assert lines[3:] == ["a  filtered  no rule matched", "             1 rule for other events"]
    tried.append(Untrue("big", "a.yaml:5", [{"test": "properties.total > 500"}]))
    lines = printed(
        capsys, story(integrations=[StoryEntry("a", "", "filtered", explanation="no rule matched", tried=tried)])
    )
    assert lines[4:] == [
        "             big: properties.total > 500, but it is nothing",
        "               a.yaml:5",
        "             and 1 more rule",
    ]


def test_an_id_that_came_twice(capsys: pytest.CaptureFixture[str]):
    """Both stories are shown, and that there are two."""
    lines = printed(capsys, story(), story())
    assert lines[0] == "This id came 2 times."
    assert lines.count("Order   m-1   user u-1   source web") == 2
