"""An event's story is found by messageId, user and coordinates."""

from pathlib import Path

import pytest

from streams.ledger.intake import lenient_hashes
from streams.ledger.lookup import places_of_message, places_of_user, story_of
from streams.ledger.sqlite_store import SqliteStore
from streams.ledger.store import NoUserIndexError, Remark
from streams.records.event import Origin
from streams.records.outcomes import OutcomeDetail, OutcomeInterval
from streams.records.run_header import UNREAD, Kind, hash_id
from tests.streams.ledger.making import START_MS, TOPICS, Records, feed

PLACE = Origin(TOPICS.events, 0, 3)


@pytest.fixture
def store(tmp_path: Path):
    """A ledger of an event that was noted, filtered, delivered after it died, and still waits at a fourth place."""
    store = SqliteStore(tmp_path, b"key", 7)
    records = Records()
    spans = [
        OutcomeInterval("ga4", "r", "forwarded", 0, 9),
        OutcomeInterval("crm", "lead", "forwarded", 0, 9),
        OutcomeInterval("meta", "", "consent", 0, 9, "ads"),
        OutcomeInterval("slack", "", "filtered", 0, 9),
    ]
    named = [
        OutcomeDetail("", "", "noted", 3, "plan", "shop"),
        OutcomeDetail("slack", "", "filtered", 3, "bot", "crawler"),
    ]
    records.run(0, range(10), spans, named)
    records.outcomes(
        0, [OutcomeInterval("ga4", "r", "dead", 3, 3)], [OutcomeDetail("ga4", "r", "dead", 3, "status", "422")]
    )
    records.dead(0, 3, "ga4", "r")
    records.outcomes(0, [OutcomeInterval("ga4", "r", "delivered", 0, 9)], rules="v2")
    records.rejected(1, 5, "json")
    records.rejected(1, None, "size")
    feed(store, records.made)
    yield store
    store.close()


def test_a_story_has_the_run_and_each_integrations_outcome(store: SqliteStore):
    """By messageId to the place, by the place to the story; the strongest outcome holds and the others are listed."""
    (place,) = places_of_message(store, "m-0-3")
    assert place == PLACE
    story = story_of(store, place)
    assert story is not None
    assert (story.kind, story.minute) == (Kind("web", "track", "Order"), START_MS // 60_000)
    assert (story.rules, story.rejected) == (["v1"], None)
    assert story.notes == [Remark("", "", "noted", "plan", "shop")]
    found = {outcome.integration: outcome for outcome in story.outcomes}
    assert {name: each.outcome for name, each in found.items()} == {
        "crm": "forwarded", "ga4": "delivered", "meta": "consent", "slack": "filtered",
    }  # fmt: skip
    assert found["meta"].reason == "ads"
    assert found["slack"].remarks == [Remark("slack", "", "filtered", "bot", "crawler")]
    assert found["ga4"].rules == "v2"
    assert [combo.outcome for combo in found["ga4"].recorded] == ["forwarded", "dead", "dead", "delivered"]
    (letter,) = found["ga4"].dead_letters
    assert (letter.partition, letter.offset, letter.status) == (0, 0, 422)


def test_users_are_found_by_the_key_of_their_events(store: SqliteStore, tmp_path: Path):
    """All events of a user, in order; without a key the store says so."""
    assert places_of_user(store, "u-3") == [Origin(TOPICS.events, 0, offset) for offset in (3, 8)]
    assert places_of_user(store, "nobody") == []
    other = SqliteStore(tmp_path / "other", None, 7)
    with pytest.raises(NoUserIndexError):
        places_of_user(other, "u-3")
    other.close()


def test_rejected_events_are_found(store: SqliteStore):
    """By the messageId that could be read: at the event's place, or, if the collector rejected it, at the record's."""
    (place,) = places_of_message(store, "r-1-5")
    assert place == Origin(TOPICS.events, 1, 5)
    story = story_of(store, place)
    assert story is not None
    assert (story.rejected, story.kind, story.outcomes) == ("json", None, [])
    (place,) = places_of_message(store, "r-1-None")
    assert place == Origin(TOPICS.rejected, 1, 1)
    story = story_of(store, place)
    assert story is not None
    assert (story.rejected, story.kind) == ("size", UNREAD._replace(source="web"))


def test_an_unknown_event_has_no_story(store: SqliteStore):
    """Neither the id nor the place of an event that nobody saw is invented."""
    assert places_of_message(store, "m-0-999") == []
    assert story_of(store, Origin(TOPICS.events, 0, 11)) is None
    assert story_of(store, Origin("other", 0, 3)) is None
    assert places_of_message(store, "") == []


@pytest.mark.parametrize(
    ("value", "message_id", "user"),
    [
        (b'{"messageId": "m", "userId": "u"}', "m", "u"),
        (b'{"messageId": 7, "userId": null, "anonymousId": "a"}', "7", "a"),
        (b'{"messageId": {}, "userId": []}', None, None),
        (b"{broken", None, None),
        (b"[1]", None, None),
        (None, None, None),
    ],
)
def test_ids_of_invalid_events_are_read_leniently(value: bytes | None, message_id: str | None, user: str | None):
    """As far as the JSON can be read; anything else has no hash and is no error."""
    assert lenient_hashes(value) == (hash_id(message_id), hash_id(user))
