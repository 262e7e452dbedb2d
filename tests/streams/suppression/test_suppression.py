from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from streams.kafka.acks import PendingAcks
from streams.kafka.producer import Producer
from streams.kafka.settings import Broker
from streams.records.outcomes import Outcome
from streams.suppression.filter import IDS, SuppressedUsers, Suppression, read_ids
from streams.suppression.follower import SuppressionFollower
from streams.topics import SUPPRESSED_END, Topics


def is_held(suppression: Suppression, event: dict[str, Any]) -> bool:
    taken = suppression(event, lambda *_: None)
    if isinstance(taken, dict):
        assert taken is event
        return False
    assert taken == (Outcome.SUPPRESSED, "", "")
    return True


@given(
    st.sets(st.sampled_from("abc")),
    st.sets(st.sampled_from("abc")),
    st.dictionaries(st.sampled_from(IDS), st.sampled_from("abcdABC") | st.text(min_size=2, alphabet="abcABC")),
)
def test_an_event_is_held_by_any_of_its_ids_in_either_list(ids: set[str], listed: set[str], named: dict[str, str]):
    """Exactly those events are held that have an id of the file or of Kafka's list."""
    users = SuppressedUsers(SecretStr("s"))
    for user in listed:
        users.take(users.digest(user), b"{}")
    assert is_held(Suppression(users, ids), dict(named)) is bool(set(named.values()) & (ids | listed))


def test_an_id_that_is_a_number_is_its_text():
    """The previousId of an alias may be a number."""
    assert is_held(Suppression(SuppressedUsers(), {"7"}), {"type": "alias", "userId": "u", "previousId": 7})


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans())))
def test_the_last_word_on_a_user_counts(changes: list[tuple[str, bool]]):
    """Listed and lifted in any order, a user is suppressed by the last record about it; the end's is about nobody."""
    users = SuppressedUsers()
    for user, lift in changes:
        users.take(users.digest(user), None if lift else b"{}")
        users.take(SUPPRESSED_END, b"{}")
    last = dict(changes)
    assert {user for user in "abc" if user in users} == {user for user, lift in last.items() if not lift}


def test_digests_are_those_that_others_can_make():
    """SHA-256 of the id, and with a secret HMAC-SHA-256 with it as the key."""
    assert SuppressedUsers().digest("u-1") == b"a24a7f55f278dd49fb1f99c5507800cb198a5bfe10fe2126cd0b25672152b0da"
    assert SuppressedUsers(SecretStr("key")).digest("u-1") == (
        b"7918bbf141a8482b421eab095a74c40e995f985f6452bf436fb9feb70bac2a9a"
    )


SAME = [
    "José",
    "Jose\u0301",
    " José\t",
    "Jo\u200bsé",
    "\ufeffJosé",
    "Jos\u00e9\u200d",
    "\u2066José\u2069",
    "\u00a0José",
]


@pytest.mark.parametrize("written", SAME)
@pytest.mark.parametrize("listed", SAME)
def test_an_id_is_held_however_it_is_written(listed: str, written: str):
    """NFC and NFD, blanks and invisible characters make no other user, in the file and in Kafka's list."""
    users = SuppressedUsers()
    for digest in users.digests(listed):
        users.take(digest, b"{}")
    for suppression in (Suppression(users), Suppression(SuppressedUsers(), {listed})):
        assert is_held(suppression, {"type": "page", "userId": written})
        assert not is_held(suppression, {"type": "page", "userId": "josé"})


@pytest.mark.parametrize("written", SAME)
def test_users_listed_by_their_raw_ids_stay_suppressed(written: str):
    """Lists written by earlier versions have the digests of ids as they came."""
    users = SuppressedUsers()
    users.take(users.digest(written), b"{}")
    assert is_held(Suppression(users), {"type": "page", "userId": written})


def test_a_file_has_an_id_a_line(tmp_path: Path):
    """Blank lines and blanks around an id are no part of it."""
    path = tmp_path / "suppressed.txt"
    path.write_text("u-1\n\n  Jörg \r\n#1\n", encoding="utf-8")
    assert read_ids(path) == {"u-1", "Jörg", "#1"}


@pytest.mark.anyio
async def test_a_follower_knows_all_that_was_listed_before_it_is_asked(broker: Broker, topics: Topics):
    """The whole list at first, then each change, once the time that it may be behind has passed."""
    now, users = 0.0, SuppressedUsers()
    producer = Producer(broker, client_id="test")
    follower = SuppressionFollower(broker, topics.suppressed, users, "test", lambda: now)

    async def write(value: bytes | None, *names: str) -> None:
        acks = PendingAcks()
        for name in names:
            producer.append(topics.suppressed, 0, acks, key=users.digest(name), value=value)
        await acks.confirmed(120)

    await producer.start()
    try:
        many = [f"u{number}" for number in range(5000)]
        await write(b"{}", *many)
        await follower.catch_up()
        assert all(name in users for name in many)
        await write(None, "u7")
        await write(b"{}", "v")
        await follower.catch_up()
        assert "v" not in users
        now = 1.0
        await follower.catch_up()
        assert ("u7" in users, "u8" in users, "v" in users) == (False, True, True)
    finally:
        await follower.stop()
        await producer.stop()
