"""Hold one delivery from its record to its outcome."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from forwarders.api.contract import Delivery
from streams.delivery.objects.buffer import ObjectBuffer
from streams.kafka.offsets import RecordBatch
from streams.records.delivery import DeliveryRecord


@dataclass(slots=True)
class PendingDelivery:
    """One delivery from its record to its outcome.

    Attributes:
        delivery: The decoded record.
        key: The record's key.
        size: Bytes of the payload as JSON.
        fetched: The fetched batch, or the object, that the record belongs to.
        index: The record's index in it.
        expires: When the event becomes too old, in seconds since 1970.
        attempts: Number of requests that contained it.
        due: When it may be sent again if it is from the retry topic, in seconds since 1970.
        since: Its first failure in seconds since 1970; None if it is not from the retry topic.
        parked: Whether it was in the retry topic because of its user's rate, not because it failed.
        slot: When its user's rate has room for it, see `Rates.reserve`; None before the rate has counted it.
        left_out: A note per optional value that was left out because it is invalid.
        settled: Whether its outcome was recorded, or it was put into the retry topic.

    """

    delivery: DeliveryRecord
    key: bytes | None
    size: int
    fetched: RecordBatch | ObjectBuffer
    index: int
    expires: float = math.inf
    attempts: int = 0
    due: float = 0.0
    since: float | None = None
    parked: bool = False
    slot: float | None = None
    left_out: Sequence[str] = ()
    settled: bool = False

    @property
    def item(self) -> Delivery:
        """Return the delivery as the forwarder receives it."""
        delivery = self.delivery
        return Delivery(delivery.id, delivery.payload, delivery.type, delivery.event, delivery.time)

    @property
    def record(self) -> Any:
        """Return the delivery's record; only for fetched batches, since an object does not keep its records."""
        assert isinstance(self.fetched, RecordBatch)
        return self.fetched.records[self.index]

    def finish(self) -> None:
        """Finish the record: the outcome is acknowledged."""
        self.fetched.finish_record(self.index)
