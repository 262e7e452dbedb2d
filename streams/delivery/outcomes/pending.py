"""Hold one delivery from its record to its outcome."""

import math
from dataclasses import dataclass
from typing import Any

from forwarders.api.contract import Delivery
from streams.delivery.objects.buffer import ObjectBuffer
from streams.kafka.offsets import RecordBatch
from streams.records.delivery import DeliveryRecord


@dataclass(slots=True)
class PendingDelivery:
    """One delivery from its record to its outcome.

    `size` is that of the payload's JSON in bytes. `expires`, `due` and `since` (the first failure, None before the
    retry topic) are in seconds since 1970. `reserved` says that its user's rate has counted it, `settled` that its
    outcome was recorded or that it was put into the retry topic.
    """

    delivery: DeliveryRecord
    key: bytes | None
    size: int
    run: RecordBatch | ObjectBuffer
    index: int
    expires: float = math.inf
    attempts: int = 0
    due: float = 0.0
    since: float | None = None
    reserved: bool = False
    settled: bool = False

    @property
    def item(self) -> Delivery:
        """The delivery as a forwarder sees it."""
        delivery = self.delivery
        return Delivery(delivery.id, delivery.payload, delivery.type, delivery.event, delivery.time)

    @property
    def record(self) -> Any:
        """The record that holds the delivery; that of an object is not kept."""
        assert isinstance(self.run, RecordBatch)
        return self.run.records[self.index]

    def finish(self) -> None:
        """The outcome is confirmed."""
        self.run.finish_record(self.index)
