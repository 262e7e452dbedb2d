"""Field types that several vendors' payload models share."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from forwarders.api.contract import Payload

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
"""A personal identifier, normalized as the vendor documents and hashed with SHA-256, in lower-case hex."""

Hashes = Sha256 | list[Sha256] | None
"""One or several hashed identifiers."""

Currency = Annotated[str, Field(pattern="^[A-Z]{3}$")]
"""A currency code (ISO 4217)."""


class HashedPerson(Payload):
    """Personal data by which Meta and Snapchat match a person, under the names of Meta's reference."""

    em: Hashes = None
    ph: Hashes = None
    fn: Hashes = None
    ln: Hashes = None
    db: Hashes = None
    ge: Hashes = None
    ct: Hashes = None
    st: Hashes = None
    zp: Hashes = None
    country: Hashes = None
    external_id: Hashes = None


def without_empty_objects(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return a payload without nulls, and without the keys of empty objects."""
    return {key: value for key, value in without_nulls(dict(payload)).items() if value != {}}


def without_nulls(value: Any) -> Any:
    """Remove keys with null values at any depth, for vendors that reject null."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value
