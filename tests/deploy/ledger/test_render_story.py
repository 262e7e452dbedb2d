"""Stories on a terminal: 80 columns, escaped control characters, and a message for unknown facts."""

import pytest

from deploy.ledger.event_story import EventStory, LetterFacts, StoryEntry, Untrue
from deploy.ledger.render_story import show_list, show_stories, vendor_message

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
    lines = printed(capsys, story(integrations=entries, notes=[{"reason": "plan", "detail": "z" * 200}]))
    assert max(map(len, lines)) <= 80
    assert sum(line.count("word59") for line in lines) == 2
    assert "".join(lines).count("z") == 200
    assert f"{name}  dead" in lines
    assert lines[-1].startswith(" " * (20 + 2 + len("sampled") + 2))


def test_what_is_not_known_is_said(capsys: pytest.CaptureFixture[str]):
    """An event that Kafka no longer has, other rules, no outcome, and a delivery that is not finished."""
    problem = "the rules old1 are not in Kafka"
    lines = " ".join(printed(capsys, story(expired=True, rules_today="new1", rules_missing=[problem])))
    assert "Kafka no longer has this event" in lines
    assert f"those of today's rules, new1: {problem}." in lines
    assert "no outcome is recorded yet" in lines
    waiting = StoryEntry("ga4", "r", "forwarded", recorded=["forwarded"], after_ms=12)
    lines = printed(capsys, story(rules=["new1"], rules_today="new1", integrations=[waiting]))
    assert lines[3:] == ["ga4      forwarded  forwarded, and not finished yet", "                    rule r"]


def test_a_delivery_after_a_dead_letter(capsys: pytest.CaptureFixture[str]):
    """That it was dead is shown, and no command to send it again."""
    letter = LetterFacts(0, 1, "status", 3, 422, "email", answer={"status": 422, "body": "email"})
    entry = StoryEntry("crm", "r", "delivered", recorded=["dead", "delivered"], after_ms=75_000, dead_letters=[letter])
    entry.attempts, entry.status = 2, 200
    lines = printed(capsys, story(integrations=[entry]))
    assert lines[3:] == [
        "crm      delivered  +75 s, 2 attempts, 200, after it was dead", "                    rule r",
    ]  # fmt: skip


def test_rules_for_other_events_are_counted_only(capsys: pytest.CaptureFixture[str]):
    """Rules for the same event that did not match are shown with the values that they found."""
    tried = [Untrue("other", "a.yaml:1", [{"test": 'event = "Pay"', "value": "Order"}])]
    lines = printed(
        capsys, story(integrations=[StoryEntry("a", "", "filtered", explanation="no rule matched", tried=tried)])
    )
    assert lines[3:] == ["a        filtered  no rule matched", "                   1 rule for other events"]
    tried.append(Untrue("big", "a.yaml:5", [{"test": "properties.total > 500"}]))
    lines = printed(
        capsys, story(integrations=[StoryEntry("a", "", "filtered", explanation="no rule matched", tried=tried)])
    )
    assert lines[4:] == [
        "                   big: properties.total > 500, but it is nothing",
        "                   and 1 more rule",
    ]


def test_an_id_that_came_twice(capsys: pytest.CaptureFixture[str]):
    """Both stories are shown, and that there are two."""
    lines = printed(capsys, story(), story())
    assert lines[0] == "This id came 2 times."
    assert lines.count("Order   m-1   user u-1   source web") == 2


EXAMPLE = """\
Order Completed   m-0004   user u-17   source web
2026-11-28 10:02:11.204 UTC   turnout.events 3:1842

plan     noted      shop: properties.total is text, not a number
                    plans/shop.yaml:14
ga4      delivered  +61 ms, 1 attempt, 204
                    rule purchase, integrations/ga4.yaml:18
meta     consent    needs advertising; the event grants analytics
                    integrations/meta.yaml:6
crm      dead       3 attempts, 422 "email: invalid"
                    rule order, integrations/crm.yaml:9
                    after a fix: turnout dead replay --id m-0004
slack    filtered   no rule matched
                    big-order: properties.total > 500, but it is 59.9
"""


def entries() -> list[StoryEntry]:
    """Return the entries of EXAMPLE."""
    letter = LetterFacts(0, 1, "status_422", 3, 422, answer={"status": 422, "body": '{"email": "invalid"}'})
    return [
        StoryEntry(
            "ga4", "purchase", "delivered", after_ms=61, attempts=1, status=204, where="integrations/ga4.yaml:18"
        ),
        StoryEntry(
            "meta", "", "consent", "advertising", where="integrations/meta.yaml:6",
            explanation="needs advertising; the event grants analytics",
        ),
        StoryEntry(
            "crm", "order", "dead", "status_422", recorded=["dead"], after_ms=900, attempts=3, status=422,
            where="integrations/crm.yaml:9", dead_letters=[letter],
        ),
        StoryEntry(
            "slack", "", "filtered", explanation="no rule matched",
            tried=[Untrue("big-order", "x:1", [{"test": "properties.total > 500", "value": 59.9}])],
        ),
    ]  # fmt: skip


def test_the_form_of_a_story(capsys: pytest.CaptureFixture[str]):
    """A story with a note, and a delivered, a blocked, a dead and a filtered integration."""
    explained = "shop: properties.total is text, not a number"
    note = {"reason": "plan", "detail": "shop: Order: $.properties.total type", "explanation": explained}
    note["where"] = "plans/shop.yaml:14"
    show_stories(
        [story(message_id="m-0004", user="u-17", event="Order Completed", notes=[note], integrations=entries())]
    )
    assert capsys.readouterr().out == EXAMPLE


def test_attempts_without_the_dead_letter(capsys: pytest.CaptureFixture[str]):
    """Its outcome has attempts, status and reason; unrecorded facts are left out."""
    crm = StoryEntry("crm", "order", "dead", "status_422", ["the vendor refused it"], attempts=3, status=422)
    old = StoryEntry("old", "order", "dead", "status_422", ["the vendor refused it"])
    ga4 = StoryEntry("ga4", "order", "delivered", after_ms=5)
    lines = printed(capsys, story(integrations=[crm, old, ga4]))
    assert [line for line in lines[3:] if not line.startswith(" ")] == [
        'crm      dead       3 attempts, 422 "the vendor refused it"',
        "old      dead       status_422: the vendor refused it",
        "ga4      delivered  +5 ms",
    ]
    assert "                    after a fix: turnout dead replay --id m-1 --integration crm" in lines


@pytest.mark.parametrize("message_id", ["-rf", "a b", "a;b", "$(a)", "", None])
def test_a_command_that_a_shell_would_misread_names_the_place(
    capsys: pytest.CaptureFixture[str], message_id: str | None
):
    """Such a messageId is not pasted into a command."""
    lines = printed(capsys, story(message_id=message_id, integrations=entries()))
    assert "                    after a fix: turnout dead replay 0:1" in lines


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"email": "invalid"}', "email: invalid"),
        ('{"error": {"message": "no such pixel", "code": 100}}', "message: no such pixel, code: 100"),
        ('{"errors": [{"detail": "too old"}]}', "detail: too old"),
        ('["no"]', "no"),
        ("<html>\n no  </html>", "<html> no </html>"),
        ('{"a": 1, "b": 2, "c": 3, "d": 4}', '{"a": 1, "b": 2, "c": 3, "d": 4}'),
        ("[" * 900 + "1" + "]" * 900, "[" * 900 + "1" + "]" * 900),
        ("", ""),
    ],
)
def test_what_a_vendor_says(body: str, said: str):
    """The texts of a small JSON answer; anything else as it is, on one line."""
    assert vendor_message(body) == said
