"""From the records of an object that has ended to its content, one record at a time."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import orjson
import structlog

from forwarders.contract import Dead, Item, ObjectForwarder
from streams.delivery.objects import StoredObject
from streams.delivery.parcels import Parcel
from streams.delivery.preflight import Preflight
from streams.topics import Delivery, NewerFormatError, Outcome, RecordError

log = structlog.get_logger()


class Packed(NamedTuple):
    """What is no row of an object: parcels with what is wrong with them, and indexes of what is no delivery."""

    others: list[tuple[Parcel, Dead | Outcome]]
    unreadable: list[int]


class Packer:
    """Packs objects for one integration.

    No delivery outlives its turn: thousands of them at once cost memory, and the garbage collector more time than all
    the rest takes.
    """

    def __init__(self, forwarder: ObjectForwarder[Any], preflight: Preflight, clock: Callable[[], float]) -> None:
        self._forwarder, self._preflight, self._clock = forwarder, preflight, clock

    def pack(self, ended: StoredObject) -> Packed:
        """Take an object's records from disk, and give it its content and its rows. Touches nothing that others use."""
        packed = Packed([], [])
        ended.content = self._forwarder.encode(self._items(ended, packed))
        return packed

    def _items(self, ended: StoredObject, packed: Packed) -> Iterator[Item]:
        now = self._clock()
        rows = ended.rows
        for index, record in enumerate(ended.spool.take()):
            try:
                delivery = Delivery.decode(record.value)
            except NewerFormatError:
                raise
            except RecordError as error:
                place = {"topic": ended.tp[0], "partition": ended.tp[1], "offset": record.offset}
                log.error("not a delivery", **place, error=str(error))  # noqa: TRY400
                packed.unreadable.append(index)
                continue
            verdict = self._verdict(delivery, len(record.value or b""), now)
            if verdict is not None:
                packed.others.append((Parcel(delivery, record.key, 0, ended, index), verdict))
                continue
            topic, partition, offset = delivery.origin
            kind = (topic, partition, delivery.rules, delivery.rule)
            offsets = rows.get(kind)
            if offsets is None:
                offsets = rows[kind] = []
            offsets.append(offset)
            yield Item(delivery.id, delivery.payload, delivery.type, delivery.event, delivery.time)

    def _verdict(self, delivery: Delivery, size: int, now: float) -> Dead | Outcome | None:
        if self._preflight.expiry(delivery.time) <= now:
            return Outcome.EXPIRED
        if size > self._preflight.item_bytes:
            size = len(orjson.dumps(delivery.payload))
        return self._preflight.problem(delivery.payload, size)
