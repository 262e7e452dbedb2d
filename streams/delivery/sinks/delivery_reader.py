"""Read deliveries from the records of an integration's topics."""

from collections.abc import Callable
from typing import Any

import orjson
import structlog

from streams.delivery.flow.retry_topic import RATE_REASONS
from streams.delivery.outcomes.dead_letters import InternalFailure
from streams.delivery.outcomes.masking import Mask
from streams.delivery.outcomes.pending import PendingDelivery
from streams.delivery.outcomes.preflight import Preflight
from streams.delivery.outcomes.writer import OutcomeWriter, Unreadable
from streams.kafka.offsets import RecordBatch
from streams.observability.internal_error import describe, to_exception
from streams.records.delivery import DeliveryRecord, Retried
from streams.records.format import NewerFormatError, RecordError
from streams.records.outcomes import Outcome

log = structlog.get_logger()


class DeliveryReader:
    """Turn records into deliveries that may be sent, and record the outcome of all others.

    In shadow mode nothing is sent: the outcome is `filtered`, with a reason if the vendor would never have accepted the
    delivery.
    """

    def __init__(
        self,
        retry_topic: str,
        preflight: Preflight,
        writer: OutcomeWriter,
        mask: Mask,
        clock: Callable[[], float],
        *,
        shadow: bool,
    ) -> None:
        self._retry_topic, self._preflight, self._writer, self._mask = retry_topic, preflight, writer, mask
        self._clock, self._shadow = clock, shadow

    def read(self, fetched: RecordBatch, index: int, record: Any) -> PendingDelivery | None:
        """Return the delivery of a record, or None if its outcome is known. Raises NewerFormatError."""
        try:
            retried = Retried.decode(record.headers) if fetched.tp[0] == self._retry_topic else None
            delivery = DeliveryRecord.decode(record.value)
            size = len(orjson.dumps(delivery.payload))
            pending = PendingDelivery(delivery, record.key, size, fetched, index, self._preflight.expiry(delivery.time))
        except NewerFormatError:
            raise
        except RecordError as error:
            topic, partition = fetched.tp
            log.error("not a delivery", topic=topic, partition=partition, offset=record.offset, error=str(error))  # noqa: TRY400
            self._writer.reject(Unreadable(fetched, index, record), "not_a_delivery", str(error))
            return None
        except BaseException as error:  # noqa: BLE001  # one odd record must not stop the others
            self._writer.reject_failed(Unreadable(fetched, index, record), describe(error), to_exception(error))
            return None
        try:
            if retried:
                pending.attempts, pending.due, pending.since = retried.attempts, retried.due, retried.since
                pending.parked = retried.reason in RATE_REASONS
            return pending if self._may_be_sent(pending) else None
        except BaseException as error:  # noqa: BLE001  # as above
            self._writer.dead_letter(pending, InternalFailure.by(to_exception(error)))
            return None

    def _may_be_sent(self, pending: PendingDelivery) -> bool:
        """Return whether a delivery may be sent; if not, record its outcome."""
        if pending.expires <= self._clock():
            self._writer.settle(pending, Outcome.EXPIRED)
            return False
        payload, left_out, problem = self._preflight.check(pending.delivery.payload, pending.size)
        if left_out:
            pending.delivery = pending.delivery._replace(payload=dict(payload))
            pending.left_out, pending.size = left_out, len(orjson.dumps(payload))
        if self._shadow:
            detail = f"{problem.reason}: {self._mask(problem.detail)}" if problem else ""
            self._writer.settle(pending, Outcome.FILTERED, "shadow" if problem else "", detail)
        elif problem is not None:
            self._writer.dead_letter(pending, problem)
        return problem is None and not self._shadow
