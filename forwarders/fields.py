"""Kinds of fields that several vendors' payload models share, and what is done to all payloads of a strict vendor."""

from typing import Annotated, Any

from pydantic import Field

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
"""Personal data of one person, normalised as the vendor says and hashed: SHA-256 in lower-case hex."""

Hashes = Sha256 | list[Sha256] | None
"""One or several of them."""

Currency = Annotated[str, Field(pattern="^[A-Z]{3}$")]
"""An ISO 4217 code."""


def without_nulls(value: Any) -> Any:
    """The same JSON without keys that hold null, at any depth: to strict vendors null is a wrong type, not nothing."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value
