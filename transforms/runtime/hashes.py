"""Hash personal data."""

import hashlib
import re
from collections.abc import Callable
from typing import Any

from transforms.model.values import MISSING
from transforms.runtime.numbers import leave_out
from transforms.runtime.text import text

ALGORITHMS: dict[str, Callable[..., Any]] = {
    "sha256": hashlib.sha256,
    "sha1": hashlib.sha1,
    "sha512": hashlib.sha512,
    "md5": hashlib.md5,
}
_HEX = {
    function: re.compile(f"[0-9a-fA-F]{{{function().digest_size * 2}}}", re.ASCII) for function in ALGORITHMS.values()
}


def hashed(value: Any, algorithm: Callable[..., Any], normalize: Callable[..., str], *country_code: str) -> Any:
    """Return the hash in hex; MISSING if the value is not a text or number, or cannot be normalized."""
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        return MISSING
    plain = text(value)
    if _HEX[algorithm].fullmatch(plain.strip()):
        return plain.strip().lower()
    normal = normalize(plain, *country_code)
    if not normal:
        return leave_out("@hash") if plain.strip() else MISSING
    return algorithm(normal.encode("utf-8", "replace"), usedforsecurity=False).hexdigest()
