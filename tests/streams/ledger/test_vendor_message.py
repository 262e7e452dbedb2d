"""Vendors' messages lose all that is about one event, and equal failures give equal texts."""

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.ledger.dead_group import group_of
from streams.ledger.vendor_message import MAX_MESSAGE_CHARACTERS, normalize_message
from streams.records.dead_letter import DeadLetter
from tests.support import fuzzing

PAYLOAD = {
    "email": "jane.doe@example.com",
    "first_name": "Jane",
    "total": 59.9,
    "address": {"city": "Springfield", "lines": ["12 Evergreen Terrace"]},
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"email": "invalid"}', "email: invalid"),
        ("User Jane Doe does not exist", "User … does not exist"),
        ("""value "jane" is invalid for 'email'""", "value … is invalid for email"),
        ("total: should be a number, but is 59.9", "total: should be a number, but is …"),
        ('{"error": {"message": "Invalid parameter", "code": 100}}', "message: Invalid parameter; code: …"),
        ("<html><head><title>Bad Gateway</title></head><body>x</body></html>", "Bad Gateway"),
        ("<p>jane</p> is unknown", "… is unknown"),
        ("contact 7f3a-bb already exists", "contact … already exists"),
        ("customer Müller unknown", "customer … unknown"),
        ("$.properties.total is text", "$.properties.total is text"),
        ("see https://x.example/u/jane for more", "see … for more"),
        ('[{"field": "email", "m": "bad a@b.c"}, {"field": "email", "m": "bad d@e.f"}]', "field: email; m: bad …"),
        ("Retry after 30 s", "Retry after … s"),
        ('{"Jane Doe": "invalid", "ok": false}', "…: invalid; ok: false"),
        ("nobody lives at evergreen TERRACE", "nobody lives at …"),
        ("", ""),
    ],
)
def test_a_message_keeps_its_words_and_loses_values(text: str, expected: str):
    """Numbers, ids, addresses, quoted texts, names and words of the payload become `…`."""
    assert normalize_message(text, PAYLOAD, "u-17") == expected


def test_without_a_payload_only_common_words_stay():
    """A dead letter too large to keep its payload cannot say which words are the person's."""
    assert normalize_message("user jane is unknown", None) == "user … is unknown"
    assert normalize_message("user jane is unknown", {}) == "user jane is unknown"


VALUES = st.text("abcdefghijklmnopqrstuvwxyzßé", min_size=4, max_size=12).map(lambda text: f"zz{text}")


@settings(max_examples=fuzzing.examples(60))
@given(st.lists(VALUES, min_size=1, max_size=4), st.text(max_size=60), st.sampled_from(["plain", "json", "html"]))
def test_no_value_of_the_payload_is_in_the_message(values: list[str], around: str, form: str):
    """However the vendor quotes the payload, the message contains none of its words and has a bounded length."""
    text = f"{around} {' '.join(values).title()} {around} {'_'.join(values)}"
    if form == "json":
        text = orjson.dumps({"error": text, values[0]: text, "list": [values]}).decode()
    elif form == "html":
        text = f"<b>{text}</b>"
    message = normalize_message(text, {"a": [{"b": value} for value in values]})
    assert not [value for value in values if value in message.lower()]
    assert len(message) <= MAX_MESSAGE_CHARACTERS


def test_events_that_fail_alike_share_a_group():
    """The group depends on integration, rule, reason, status and message, not on the event; its id is stable."""

    def letter(user: str, status: int = 422) -> DeadLetter:
        delivery = {"rule": "order", "payload": {"email": user}, "from": ["e", 0, 1]}
        answer = {"status": status, "body": f'{{"message": "{user} is invalid"}}'}
        return DeadLetter("crm", delivery, "status_422", "", 3, "t", None, answer)

    groups = {group_of(letter(user), user.encode()) for user in ("jane", "john@x.example", "u-1")}
    assert {group.message for group in groups} == {"message: … is invalid"}
    (group,) = groups
    assert group.id == "a4b7600d34ee"
    assert group_of(letter("jane", 400), b"jane").id != group.id
