"""Encode and decode the records of the forward and retry topics."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from streams.records.event import Origin
from streams.records.format import (
    ATTEMPT_HEADER,
    DELIVERY_VERSION,
    DUE_HEADER,
    REASON_HEADER,
    RETRIED_VERSION,
    SINCE_HEADER,
    VERSION_HEADER,
    Headers,
    RecordError,
    check_version,
    decode_object,
)


class DeliveryRecord(NamedTuple):
    """A record of a forward topic: one event, mapped for one integration.

    `id` is the messageId, followed by `:rule` if several rules of a file may match. `rules` is the version of the
    rules, `time` and `received` are RFC 3339, and `origin` is the event's topic, partition and offset.
    """

    id: str
    rule: str
    rules: str
    type: str
    event: str | None
    time: str
    received: str
    source: str
    origin: Origin
    payload: dict[str, Any]

    def data(self) -> dict[str, Any]:
        """Return the record's value before encoding."""
        delivery_id, rule, rules, kind, event, time, received, source, origin, payload = self
        return {
            "v": DELIVERY_VERSION,
            "id": delivery_id,
            "rule": rule,
            "rules": rules,
            "type": kind,
            "event": event,
            "time": time,
            "received": received,
            "source": source,
            "from": tuple(origin),
            "payload": payload,
        }

    def encode(self) -> bytes:
        """Encode the record's value."""
        return orjson.dumps(self.data())

    @classmethod
    def decode(cls, value: bytes | None) -> "DeliveryRecord":
        """Decode a record's value; raises RecordError."""
        data = decode_object(value, DELIVERY_VERSION)
        try:
            topic, partition, offset = data["from"]
            delivery_id, rule, rules, payload = data["id"], data["rule"], data["rules"], data["payload"]
            if not (
                type(payload) is dict
                and type(delivery_id) is type(rule) is type(rules) is type(topic) is str
                and type(partition) is type(offset) is int
            ):
                raise RecordError("a delivery has a field of the wrong type")  # noqa: TRY301  # a function call would be slower
            return cls(
                delivery_id,
                rule,
                rules,
                data["type"],
                data["event"],
                data["time"],
                data["received"],
                data["source"],
                Origin(topic, partition, offset),
                payload,
            )
        except RecordError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise RecordError(f"a delivery has a missing or invalid field: {error}") from error


class DeliveryEncoder:
    """Encodes the deliveries of one event; shared fields and shared payloads are encoded once.

    Args:
        bare: A delivery with the fields that all share.

    """

    __slots__ = ("_bare", "_payloads", "_shared")

    def __init__(self, bare: DeliveryRecord) -> None:
        self._bare = bare
        self._shared: bytes | None = None
        self._payloads: dict[int, tuple[Any, bytes]] = {}

    def encode(self, delivery_id: str, rule: str, payload: Any) -> bytes:
        """Return the same as `DeliveryRecord.encode`; raises TypeError."""
        shared = self._shared or self._encode_shared()
        _, encoded = self._payloads.get(id(payload)) or self._encode_payload(payload)
        return b"".join((_START, orjson.dumps(delivery_id), b',"rule":', _encode_name(rule), shared, encoded, b"}"))

    def _encode_shared(self) -> bytes:
        data = self._bare.data()
        for own in ("v", "id", "rule", "payload"):
            del data[own]
        self._shared = b"," + orjson.dumps(data)[1:-1] + b","
        return self._shared

    def _encode_payload(self, payload: Any) -> tuple[Any, bytes]:
        # The payload is kept, so that no other one gets the same id.
        found = self._payloads[id(payload)] = payload, orjson.dumps({"payload": payload})[1:-1]
        return found


_encode_name = lru_cache(1024)(orjson.dumps)
_START = b'{"v":%d,"id":' % DELIVERY_VERSION


class Retried(NamedTuple):
    """The headers of a record in a retry topic; its value is that of the forward topic.

    `attempts` is the number of attempts so far. `due` and `since` are seconds since 1970 with millisecond precision,
    and `reason` is a short code. The time from `since` to `due` counts towards `retry_for`: the time since the first
    failure, minus the time that delivery was paused.
    """

    attempts: int
    due: float
    since: float
    reason: str

    def headers(self) -> Headers:
        """Return the record's headers."""
        return [
            (ATTEMPT_HEADER, b"%d" % self.attempts),
            (DUE_HEADER, b"%d" % round(self.due * 1000)),
            (SINCE_HEADER, b"%d" % round(self.since * 1000)),
            (REASON_HEADER, self.reason.encode()),
            (VERSION_HEADER, b"%d" % RETRIED_VERSION),
        ]

    @classmethod
    def decode(cls, headers: Iterable[tuple[str, bytes]]) -> "Retried":
        """Decode a record's headers; raises RecordError."""
        check_version(headers, RETRIED_VERSION)
        found = dict(headers)
        try:
            attempts, due, since = (int(found[name][:15]) for name in (ATTEMPT_HEADER, DUE_HEADER, SINCE_HEADER))
            return cls(attempts, due / 1000, since / 1000, found[REASON_HEADER].decode())
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise RecordError(f"a retried delivery has a missing or invalid header: {error}") from error
