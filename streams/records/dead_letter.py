"""Encode and decode dead letters."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import orjson

from streams.records.event import read_origin
from streams.records.format import (
    DEAD_LETTER_VERSION,
    DELIVERY_VERSION,
    MAX_TEXT_CHARACTERS,
    Headers,
    RecordError,
    decode_object,
)


class DeadLetter(NamedTuple):
    """A record of the dead topic: a delivery that failed permanently, and why.

    `delivery` is the forward record's data, with an empty payload if the router already failed. `request` is the
    request sent to the vendor (method, url, headers; secrets masked) and `answer` its response (status, the first 4 KB
    of the body). Both are null if no request was made.
    """

    integration: str
    delivery: Mapping[str, Any]
    reason: str
    detail: str
    attempts: int
    died: str
    request: Mapping[str, Any] | None = None
    answer: Mapping[str, Any] | None = None

    def encode(self) -> bytes:
        """Encode the record's value."""
        return orjson.dumps({"v": DEAD_LETTER_VERSION, **self._asdict()})

    @classmethod
    def decode(cls, value: bytes | None) -> "DeadLetter":
        """Decode a record's value; raises RecordError."""
        data = decode_object(value, DEAD_LETTER_VERSION)
        try:
            letter = cls(*(data[name] for name in cls._fields))
            read_origin(letter.delivery["from"])
            payload = letter.delivery["payload"]
        except (KeyError, TypeError, ValueError) as error:
            raise RecordError(f"a dead letter has a missing or invalid field: {error}") from error
        if not (type(payload) is dict and type(letter.detail) is type(letter.reason) is str):
            raise RecordError("a dead letter has a field of the wrong type")
        return letter

    def forms(self) -> list[Callable[[], tuple[bytes, Headers]]]:
        """Return encoders for `Producer.safe_append`, each with less content; the last always fits."""
        delivery = self.delivery
        unsent = self._replace(request=None, answer=None)
        bare = unsent._replace(delivery={**delivery, "payload": {}})

        def short() -> DeadLetter:
            texts = {name: value[:MAX_TEXT_CHARACTERS] for name, value in delivery.items() if type(value) is str}
            kept = {**dict.fromkeys(delivery), **texts, "v": DELIVERY_VERSION, "from": delivery["from"], "payload": {}}
            return bare._replace(detail=self.detail[:MAX_TEXT_CHARACTERS], delivery=kept)

        return [
            lambda: (self.encode(), []),
            lambda: (unsent.encode(), []),
            lambda: (bare.encode(), []),
            lambda: (short().encode(), []),
        ]
