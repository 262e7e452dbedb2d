"""Idempotency keys in the format that a vendor requires, the same on every attempt and replay of a delivery."""

from uuid import UUID, uuid5

NAMESPACE = UUID("5f1d0f3b-7a52-4a62-9d3e-2c8a6c1e9b40")


def uuid_key(item_id: str) -> str:
    """Return the ID if it is a UUID, otherwise a UUIDv5 of it."""
    try:
        if str(UUID(item_id)) == item_id.lower():
            return item_id.lower()
    except ValueError:
        pass
    return str(uuid5(NAMESPACE, item_id))
