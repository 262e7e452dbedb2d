"""Encode parts of a finished object, one record at a time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from forwarders.api.contract import CheckedPayload, Delivery, ObjectForwarder, OffsetRange, PermanentFailure
from streams.delivery.objects.spool import SpoolClosedError
from streams.delivery.objects.upload import ObjectUpload
from streams.delivery.outcomes.dead_letters import InternalFailure
from streams.delivery.outcomes.pending import PendingDelivery
from streams.delivery.outcomes.preflight import Preflight
from streams.delivery.outcomes.writer import Unreadable
from streams.observability.internal_error import describe, to_exception
from streams.records.delivery import DeliveryRecord
from streams.records.event import Origin
from streams.records.format import NewerFormatError, RecordError
from streams.records.outcomes import Outcome


@dataclass(slots=True)
class EncodedPart:
    """A part of an object: its content and rows, and the records that are left out.

    Attributes:
        content: The bytes to store.
        rows: The offsets of the events in it.
        offsets: The offsets of the part's records.
        others: Deliveries that are left out, with their problem.
        unreadable: Records that are not valid deliveries.
        left_out: The origin, the version of the rules and the notes of each event whose invalid optional values are not
            in the content.

    """

    offsets: OffsetRange
    content: bytes = b""
    rows: dict[tuple[str, int, str, str], list[int]] = field(default_factory=dict)
    others: list[tuple[PendingDelivery, PermanentFailure | Outcome]] = field(default_factory=list)
    unreadable: list[tuple[Unreadable, str, Exception | None]] = field(default_factory=list)
    left_out: list[tuple[Origin, str, Sequence[str]]] = field(default_factory=list)


class ObjectEncoder:
    """Encode objects for one integration.

    Deliveries are decoded one at a time: thousands at once cost memory, and more time in the garbage collector than
    everything else.
    """

    def __init__(self, forwarder: ObjectForwarder[Any], preflight: Preflight, clock: Callable[[], float]) -> None:
        self._forwarder, self._preflight, self._clock = forwarder, preflight, clock

    def encode(self, upload: ObjectUpload) -> EncodedPart:
        """Read the upload's next part from disk, and encode it. May run in another thread.

        A row that cannot be encoded is left out, and is one of `others`; so is each row of a part that the store
        refused. Records that an earlier call returned as `others` or `unreadable` are left out. Raises OSError,
        NewerFormatError and SpoolClosedError.
        """
        part, refusal = upload.parts[-1]
        failed: dict[int, PermanentFailure] = {} if refusal is None else dict.fromkeys(part, refusal)
        while True:
            encoded = EncodedPart(upload.ended.offsets)
            try:
                encoded.content = self._forwarder.encode(self._items(upload, encoded, failed, part))
            except (OSError, NewerFormatError, SpoolClosedError):
                raise
            except BaseException as error:  # noqa: BLE001  # one odd row must not stop the others
                failed |= self._find_failing(upload, part, failed, to_exception(error))
                continue
            upload.settled.update(pending.index for pending, _ in encoded.others)
            upload.settled.update(unreadable.index for unreadable, _, _ in encoded.unreadable)
            return encoded

    def _find_failing(
        self, upload: ObjectUpload, whole: range, failed: Mapping[int, PermanentFailure], error: Exception
    ) -> dict[int, PermanentFailure]:
        """Find the rows that cannot be encoded, by bisection; if both halves of a part can be, return all its rows."""
        found: dict[int, PermanentFailure] = {}
        parts = [(whole, error)]
        while parts:
            part, its_error = parts.pop()
            if len(part) <= 1:
                found |= dict.fromkeys(part, InternalFailure.by(its_error))
                continue
            middle = len(part) // 2
            errors = [(half, self._try(upload, half, failed)) for half in (part[:middle], part[middle:])]
            bad = [(half, error) for half, error in errors if error is not None]
            parts += bad
            if not bad:
                found |= dict.fromkeys(part, InternalFailure.by(its_error))
        if not found.keys() - failed.keys():
            raise error  # no row is the reason
        return found

    def _try(self, upload: ObjectUpload, part: range, failed: Mapping[int, PermanentFailure]) -> Exception | None:
        try:
            self._forwarder.encode(self._items(upload, EncodedPart(upload.ended.offsets), failed, part))
        except (OSError, NewerFormatError, SpoolClosedError):
            raise
        except BaseException as error:  # noqa: BLE001  # returned, to find the row
            return to_exception(error)
        return None

    def _items(
        self, upload: ObjectUpload, encoded: EncodedPart, failed: Mapping[int, PermanentFailure], part: range
    ) -> Iterator[Delivery]:
        """Yield the items of a part of an object, and add its offsets and its other records to `encoded`."""
        now, ended = self._clock(), upload.ended
        for index, record in enumerate(ended.spool.records()):
            if index not in part:
                continue
            if index == part[0]:
                encoded.offsets = replace(encoded.offsets, first=record.offset)
            if index == part[-1]:
                encoded.offsets = replace(encoded.offsets, last=record.offset)
            if index in upload.settled:
                continue
            try:
                delivery = DeliveryRecord.decode(record.value)
            except NewerFormatError:
                raise
            except RecordError as error:
                encoded.unreadable.append((Unreadable(ended, index, record), str(error), None))
                continue
            except BaseException as error:  # noqa: BLE001  # one odd record must not stop the others
                encoded.unreadable.append((Unreadable(ended, index, record), describe(error), to_exception(error)))
                continue
            checked = self._check(delivery, len(record.value or b""), now, failed.get(index))
            verdict = checked if isinstance(checked, Outcome) else checked.problem
            if verdict is not None:
                encoded.others.append(
                    (PendingDelivery(delivery, record.key, 0, ended, index, attempts=upload.tries), verdict)
                )
                continue
            topic, partition, offset = delivery.origin
            kind = (topic, partition, delivery.rules, delivery.rule)
            offsets = encoded.rows.get(kind)
            if offsets is None:
                offsets = encoded.rows[kind] = []
            offsets.append(offset)
            assert isinstance(checked, CheckedPayload)
            if checked.left_out:
                encoded.left_out.append((delivery.origin, delivery.rules, checked.left_out))
            yield Delivery(delivery.id, checked.payload, delivery.type, delivery.event, delivery.time)

    def _check(
        self, delivery: DeliveryRecord, size: int, now: float, failed: PermanentFailure | None
    ) -> CheckedPayload | Outcome:
        if failed is not None:
            return CheckedPayload({}, (), failed)
        try:
            if self._preflight.expiry(delivery.time) <= now:
                return Outcome.EXPIRED
            if size > self._preflight.item_bytes:
                size = len(orjson.dumps(delivery.payload))
            return self._preflight.check(delivery.payload, size)
        except BaseException as error:  # noqa: BLE001  # as above
            return CheckedPayload({}, (), InternalFailure.by(to_exception(error)))
