"""Idempotency keys in a vendor's form are stable, of that form, and different for different deliveries."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from forwarders.api.contract import Delivery
from forwarders.api.keys import uuid_key
from forwarders.vendors.customerio.forwarder import CROCKFORD, ulid


def test_uuid_stays() -> None:
    """An id that is a UUID is its own key, in lower case."""
    assert uuid_key("0193F1A0-0000-4000-8000-000000000001") == "0193f1a0-0000-4000-8000-000000000001"


def test_uuid_of_other_ids_never_changes() -> None:
    """The key of a delivery stays the same from one version of Turnout to the next, or replays would count twice."""
    assert uuid_key("node-next-1767323045678-6f1c2a9e:purchase") == "8b258ba5-e926-52ab-9a44-17e5e6f891e9"
    assert uuid_key("6f1c2a9e3b444c1d9a570d2f5e8b7c11") == "1ebdee5c-b5b8-532d-89b9-6b242e6267cc"


@given(st.text(max_size=120), st.text(max_size=120))
def test_uuid_key(one: str, other: str) -> None:
    """Any two ids have two keys, each a UUID."""
    assert str(UUID(uuid_key(one))) == uuid_key(one)
    assert (uuid_key(one) == uuid_key(other)) == (one == other)


@given(st.text(max_size=60))
def test_ulid(item_id: str) -> None:
    """A ULID has 26 characters of Crockford's alphabet, and begins with the event's time."""
    item = Delivery(item_id, {}, "track", None, "2026-01-02T03:04:05.678Z")
    made = ulid(item)
    assert len(made) == 26
    assert set(made) <= set(CROCKFORD)
    number = 0
    for character in made:
        number = number << 5 | CROCKFORD.index(character)
    assert number >> 80 == 1767323045678
    assert made == ulid(item)
