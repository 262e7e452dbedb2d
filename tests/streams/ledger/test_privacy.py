"""The ledger's files hold no id of a person, no hash that anyone could compute from an id, and no payload."""

from hashlib import md5, sha1, sha256
from pathlib import Path

import orjson
from xxhash import xxh3_64_digest, xxh64_digest

from streams.ledger.catalog import sample_of
from streams.ledger.lookup import places_of_user
from streams.ledger.sqlite_store import SqliteStore
from streams.ledger.store import LedgerBatch
from streams.records.outcomes import OutcomeDetail, OutcomeInterval, Outcomes, Stage
from streams.records.run_header import RUN_HEADER, EventFacts, encode_run
from tests.streams.ledger.making import START_MS, TOPICS, EventRecord, Records, feed

USERS = [f"person-{number}@mail.example" for number in range(1000)]


def hashes(user: str) -> list[bytes]:
    """Hashes of an id without a key, each as bytes in both orders and as hexadecimal digits."""
    encoded = user.encode()
    digests = [xxh3_64_digest(encoded), xxh64_digest(encoded)]
    digests += [each(encoded).digest() for each in (md5, sha1, sha256)]
    return [form for each in digests for form in (each[:8], each[:8][::-1], each.hex().encode())]


def test_a_thousand_users_leave_no_trace(tmp_path: Path):
    """Neither ids nor unkeyed hashes nor vendors' answers are in any file; with the key, every user is found."""
    records = Records()
    offsets = range(len(USERS))
    (header,) = encode_run(
        [EventRecord(offset, USERS[offset].encode(), START_MS) for offset in offsets],
        [EventFacts(offset, f"m-{offset}", "web", "track", "Order") for offset in offsets],
    )
    spans = [OutcomeInterval("crm", "r", "forwarded", 0, len(USERS) - 1)]
    routed = Outcomes(Stage.ROUTER, TOPICS.events, 0, "v1", spans)
    records.add(TOPICS.outcomes, 0, routed.encode(), [(RUN_HEADER, header)])
    died = [OutcomeDetail("crm", "r", "dead", offset, "status_422", USERS[offset]) for offset in range(0, 1000, 50)]
    records.outcomes(0, [], died)
    for offset in range(0, 1000, 50):
        records.dead(0, offset, "crm", "r", detail=f"contact {USERS[offset]} of a@b.example is blocked")
    store = SqliteStore(tmp_path, b"a key that nobody knows", 7)
    feed(store, records.made)
    for user in USERS:
        properties = {user: user, "contact": {user: user}, "list": [{user: user}]}
        event = {"type": "track", "event": user, "userId": user, "properties": properties, "traits": {"email": user}}
        sample = sample_of(orjson.dumps(event), "web", 0)
        assert sample is not None
        store.write(LedgerBatch(samples=[sample]))
    found = [[place.offset for place in places_of_user(store, user)] for user in USERS]
    store.close()
    assert found == [[offset] for offset in offsets]
    written = b"".join(path.read_bytes() for path in sorted(tmp_path.iterdir()))
    # The test would find an id: what may be in the files is there.
    assert b"status_422" in written
    assert "contact … of … is blocked".encode() in written
    assert xxh3_64_digest(b"m-7") in written
    assert b"properties.list[].(id)" in written
    for user in USERS:
        assert user.encode() not in written
        assert not [each for each in hashes(user) if each in written]
    assert b"a@b.example" not in written
    assert b"a key that nobody knows" not in written
