"""Encode the records of a finished object, one record at a time."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import orjson

from forwarders.api.contract import CheckedPayload, Delivery, ObjectForwarder, PermanentFailure
from streams.delivery.objects.buffer import ObjectBuffer
from streams.delivery.objects.spool import SpoolClosedError
from streams.delivery.outcomes.dead_letters import InternalFailure
from streams.delivery.outcomes.pending import PendingDelivery
from streams.delivery.outcomes.preflight import Preflight
from streams.delivery.outcomes.writer import Unreadable
from streams.observability.internal_error import describe, to_exception
from streams.records.delivery import DeliveryRecord
from streams.records.format import NewerFormatError, RecordError
from streams.records.outcomes import Outcome


class EncodeResult(NamedTuple):
    """The records that are not in the object: deliveries with their problem, and unreadable records."""

    others: list[tuple[PendingDelivery, PermanentFailure | Outcome]]
    unreadable: list[tuple[Unreadable, str, Exception | None]]


class ObjectEncoder:
    """Encode objects for one integration.

    Deliveries are decoded one at a time: thousands at once cost memory, and more time in the garbage collector than
    everything else.
    """

    def __init__(self, forwarder: ObjectForwarder[Any], preflight: Preflight, clock: Callable[[], float]) -> None:
        self._forwarder, self._preflight, self._clock = forwarder, preflight, clock

    def encode(self, ended: ObjectBuffer) -> EncodeResult:
        """Read an object's records from disk, and set its content and rows. May run in another thread.

        A row that cannot be encoded is left out, and returned as one of `others`. Raises OSError, NewerFormatError and
        SpoolClosedError.
        """
        failed: dict[int, Exception] = {}
        while True:
            encoded = EncodeResult([], [])
            ended.forget_rows()
            try:
                ended.content = self._forwarder.encode(self._items(ended, encoded, failed, range(ended.count)))
            except (OSError, NewerFormatError, SpoolClosedError):
                raise
            except BaseException as error:  # noqa: BLE001  # one odd row must not stop the others
                failed |= self._find_failing(ended, failed, to_exception(error))
                continue
            ended.spool.close()
            return encoded

    def _find_failing(
        self, ended: ObjectBuffer, failed: Mapping[int, Exception], error: Exception
    ) -> dict[int, Exception]:
        """Find the rows that cannot be encoded, by bisection; if only the halves of a part can be, all of its rows."""
        found: dict[int, Exception] = {}
        parts = [(range(ended.count), error)]
        while parts:
            part, its_error = parts.pop()
            if len(part) <= 1:
                found |= dict.fromkeys(part, its_error)
                continue
            middle = len(part) // 2
            errors = [(half, self._try(ended, half, failed)) for half in (part[:middle], part[middle:])]
            bad = [(half, error) for half, error in errors if error is not None]
            parts += bad
            if not bad:
                found |= dict.fromkeys(part, its_error)
        if not found.keys() - failed.keys():
            raise error  # no row is the reason
        return found

    def _try(self, ended: ObjectBuffer, part: range, failed: Mapping[int, Exception]) -> Exception | None:
        try:
            self._forwarder.encode(self._items(ended, EncodeResult([], []), failed, part))
        except (OSError, NewerFormatError, SpoolClosedError):
            raise
        except BaseException as error:  # noqa: BLE001  # returned, to find the row
            return to_exception(error)
        finally:
            ended.forget_rows()
        return None

    def _items(
        self, ended: ObjectBuffer, encoded: EncodeResult, failed: Mapping[int, Exception], part: range
    ) -> Iterator[Delivery]:
        """Yield the items of a part of an object, and add its other records to `encoded`."""
        now = self._clock()
        for index, record in enumerate(ended.spool.records()):
            if index not in part:
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
                encoded.others.append((PendingDelivery(delivery, record.key, 0, ended, index), verdict))
                continue
            topic, partition, offset = delivery.origin
            kind = (topic, partition, delivery.rules, delivery.rule)
            offsets = ended.rows.get(kind)
            if offsets is None:
                offsets = ended.rows[kind] = []
            offsets.append(offset)
            assert isinstance(checked, CheckedPayload)
            if checked.left_out:
                ended.left_out.append((delivery.origin, delivery.rules, checked.left_out))
            yield Delivery(delivery.id, checked.payload, delivery.type, delivery.event, delivery.time)

    def _check(
        self, delivery: DeliveryRecord, size: int, now: float, failed: Exception | None
    ) -> CheckedPayload | Outcome:
        if failed is not None:
            return CheckedPayload({}, (), InternalFailure.by(failed))
        try:
            if self._preflight.expiry(delivery.time) <= now:
                return Outcome.EXPIRED
            if size > self._preflight.item_bytes:
                size = len(orjson.dumps(delivery.payload))
            return self._preflight.check(delivery.payload, size)
        except BaseException as error:  # noqa: BLE001  # as above
            return CheckedPayload({}, (), InternalFailure.by(to_exception(error)))
