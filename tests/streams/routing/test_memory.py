"""The memory of one partition, without Kafka: time to live, bounds, links, and encryption."""

from collections.abc import Mapping
from typing import Any

import pytest

from streams.consent.policy import ConsentSettings
from streams.events import Event
from streams.records.memory import (
    MAX_ENTRY_BYTES,
    MemoryCipher,
    MemoryEntry,
    MemoryKey,
    MemoryKind,
    Remembered,
)
from streams.routing.memory import MemoryLimits, MemoryTable
from streams.steps.enrichment.memory import (
    GROUPS,
    FixedMemory,
    MemorySettings,
    VisitorMemory,
    find_values,
    lacking_values,
    make_memory_step,
    remembering,
)
from streams.steps.step import Blocked

DAY = 24 * 3600
FBP = "fb.1.1790000000000.1234567890"
CIPHER = MemoryCipher("a secret of sixteen")
BROWSER: Event = {"integrations": {"meta": {"fbp": FBP}, "google_ads": {"gclid": "g1"}}}


def table(partition: int = 0, *, entries: int = 100, seconds: int = 30 * DAY) -> MemoryTable:
    """Return a table whose partition is the home of IDs that begin with its number."""
    return MemoryTable(partition, CIPHER, MemoryLimits(seconds, entries), lambda key: int(key[:1]))


def event(**fields: Any) -> Event:
    return {"type": "page", "messageId": "m", **fields}


def say(memory: MemoryTable, said: Mapping[str, Any] = BROWSER, *, at: float = 0, **ids: str) -> None:
    """Have an event at a time say something."""
    given = event(**ids, **said)
    memory.at(at).remember(given, find_values(given))


def known(memory: MemoryTable, *, at: float = 0, **ids: str) -> dict[str, Any]:
    """Return the values added to an event with these IDs."""
    given = event(**ids)
    return lacking_values(given, memory.at(at).recall(given))


def exchange(*tables: MemoryTable) -> None:
    """Pass the records on to the tables of their partitions, as their routers read them, until none is left."""
    moving = True
    while moving:
        moving = False
        for each in tables:
            for partition, key, value in list(each.take_writes()):
                moving = True
                for link in tables[partition].take(key, value, 0, live=True):
                    tables[partition].copy(link)


def test_values_end_with_their_time_to_live():
    """By the time of the records: a replayed event finds the same. A GA4 session ends after a day."""
    memory = table()
    say(memory, {"integrations": {"meta": {"fbp": FBP}, "ga4": {"client_id": "1.2", "session_id": "3"}}}, userId="0u")
    both = {"meta": {"fbp": FBP}, "ga4": {"client_id": "1.2"}}
    assert known(memory, at=DAY, userId="0u") == {
        "integrations": {"meta": {"fbp": FBP}, "ga4": {"client_id": "1.2", "session_id": "3"}}
    }
    assert known(memory, at=30 * DAY, userId="0u") == {"integrations": both}
    assert known(memory, at=30 * DAY + 1, userId="0u") == {}
    assert known(memory, at=DAY + 1, userId="0u") == {"integrations": both}


def test_a_user_gets_what_a_visitor_in_another_partition_said_before_and_says_later():
    """The visitor's own events get nothing of the user."""
    visitors, users = table(0), table(1)
    say(visitors, anonymousId="0v")
    say(users, {"context": {"traits": {"email": "a@b.c"}}}, anonymousId="0v", userId="1u")
    exchange(visitors, users)
    assert known(users, userId="1u") == {**BROWSER, "context": {"traits": {"email": "a@b.c"}}}
    say(visitors, {"integrations": {"google_ads": {"wbraid": "w2"}}}, at=5, anonymousId="0v")
    exchange(visitors, users)
    assert known(users, at=5, userId="1u")["integrations"] == {"meta": {"fbp": FBP}, "google_ads": {"wbraid": "w2"}}
    assert "context" not in known(visitors, anonymousId="0v")


def test_a_table_is_read_back_from_its_records():
    """A link that was not followed before the crash is followed then."""
    visitors, users = table(0), table(1)
    say(visitors, anonymousId="0v")
    say(users, {}, anonymousId="0v", userId="1u")
    records = [*visitors.take_writes(), *users.take_writes()]
    again, target = table(0), table(1)
    links = []
    for partition, key, value in records:
        links += (again, target)[partition].take(key, value, 0, live=False)
    for link in links:
        again.copy(link)
    exchange(again, target)
    assert known(target, userId="1u") == BROWSER
    assert known(again, anonymousId="0v") == BROWSER


def test_forgetting_a_user_deletes_what_the_visitor_said_everywhere():
    """All keys get tombstones, and nothing is added any more."""
    visitors, users = table(0), table(1)
    say(visitors, anonymousId="0v")
    say(users, anonymousId="0v", userId="1u")
    exchange(visitors, users)
    users.forget(event(userId="1u"))
    last: dict[MemoryKey, bytes | None] = {}
    for _ in range(4):
        for each in (users, visitors):
            for partition, key, value in list(each.take_writes()):
                last[key] = value
                (visitors, users)[partition].take(key, value, 0, live=True)
    assert {key.kind for key in last} == set(MemoryKind)
    assert set(last.values()) == {None}
    assert known(users, userId="1u") == known(visitors, anonymousId="0v") == {}


def test_the_oldest_entry_is_dropped_at_the_limit():
    """With a tombstone."""
    memory = table(entries=2)
    for name in ("0a", "0b", "0c"):
        say(memory, userId=name)
    assert len(memory) == 2
    assert known(memory, userId="0a") == {}
    assert known(memory, userId="0c") == BROWSER
    dropped = [key for _, key, value in memory.take_writes() if value is None]
    assert dropped == [MemoryKey(MemoryKind.ENTRY, CIPHER.digest("0a"))]


def test_an_unchanged_value_is_not_written_for_each_event():
    """It is written again after a sixteenth of its time to live."""
    memory = table()
    for at, writes in ((0, 1), (60, 0), (2 * DAY, 1)):
        say(memory, at=at, userId="0u")
        assert len(list(memory.take_writes())) == writes


def test_an_entry_is_bounded():
    """The oldest groups go."""
    entry = MemoryEntry({str(n): Remembered({"a": "x" * 500}, n) for n in range(20)})
    assert len(entry.encode()) <= MAX_ENTRY_BYTES
    assert "19" in entry.groups
    assert "0" not in entry.groups


def test_another_secret_or_another_user_cannot_read_an_entry():
    """The digest depends on the secret, and is authenticated with the value."""
    entry = MemoryEntry({"meta.fbp": Remembered({"fbp": FBP}, 1)})
    digest, other = CIPHER.digest("u"), MemoryCipher("another secret here")
    value = CIPHER.encrypt(digest, entry)
    assert CIPHER.decrypt(digest, value) == entry
    assert CIPHER.decrypt(CIPHER.digest("v"), value) is None
    assert other.digest("u") != digest
    assert other.decrypt(digest, value) is None
    assert CIPHER.encrypt(digest, entry) != value


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_what_the_event_has_stays(group):
    """Of each group, also in the other places where presets read it, or in another spelling."""
    said: Any = {group.leaves[0]: "old"}
    for name in reversed(group.parent):
        said = {name: said}
    memory = FixedMemory(event(**said))
    assert lacking_values(event(), memory.recall(event())) == said
    for place in (group.parent, *group.rivals):
        own: Any = {group.leaves[-1]: 7.5}
        for name in reversed(place):
            own = {name: own}
        assert lacking_values(event(**own), memory.recall(event())) == {}


@pytest.mark.parametrize("opt_out", [{"All": False}, {"Meta": False}, {"meta": False}])
def test_an_integration_that_the_event_opts_out_of_gets_nothing(opt_out):
    """A value would turn it on again."""
    added = lacking_values(event(integrations=opt_out), FixedMemory(BROWSER).recall(event()))
    assert "meta" not in added.get("integrations", {})


CONSENT = {"consent": {"categoryPreferences": {"advertising": True}}}


@pytest.mark.parametrize(
    ("context", "assume", "added"), [(CONSENT, None, True), ({}, None, False), ({}, "granted", True)]
)
def test_nothing_is_added_without_consent(context, assume, added):
    """The source's assumption counts for events without consent information; the note has no values."""
    memory, notes = VisitorMemory(), []
    step = make_memory_step(MemorySettings(consent=("advertising",)), ConsentSettings(), assume, memory)
    with remembering(memory, BROWSER):
        taken = step(event(userId="u", context=context), lambda reason, detail: notes.append((reason, detail)))
    assert not isinstance(taken, Blocked)
    assert ("integrations" in taken) is added
    assert notes == [("memory", "integrations.meta.fbp, integrations.google_ads.gclid")] * added


def test_denied_consent_deletes_the_entry_and_missing_consent_does_not():
    """So a server that says nothing about consent deletes nothing."""
    memory, entries = VisitorMemory(), table()
    step = make_memory_step(MemorySettings(consent=("advertising",)), ConsentSettings(), None, memory)
    memory.opened = entries
    denied = {"consent": {"categoryPreferences": {"advertising": False}}}
    for context, count in ((CONSENT, 1), ({}, 1), (denied, 0)):
        step(event(userId="0u", context=context, integrations={"meta": {"fbp": FBP}}), lambda *_: None)
        assert len(entries) == count


def test_without_a_memory_nothing_is_done():
    """Outside a router, and the name says so."""
    step = make_memory_step(MemorySettings(consent=()), ConsentSettings(), None, VisitorMemory())
    given = event(userId="u")
    assert step(dict(given), lambda *_: None) == given
    assert step.name == "enrich.memory (empty here, as only routers read it)"
