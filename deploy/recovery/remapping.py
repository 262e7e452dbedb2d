"""Events that lie in Kafka, mapped for one integration by today's rules: the deliveries that the router would make."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from deploy.config.configuration import Configuration
from deploy.rehearsal.offline import offline
from deploy.rehearsal.preview import Prepared, rehearse
from streams import events
from streams.dedupe import Window, sender_of, source_of
from streams.delivery.preflight import Preflight
from streams.events import Event, EventError
from streams.gate import find_source
from streams.guard import INTERNAL, describe
from streams.times import record_time, rfc3339
from streams.topics import FORWARDED, DeliveryRecord, Origin, Outcome, RecordError, check_version

REJECTED = "rejected"
"""What becomes of a record that is no event (any more)."""


class Mapped(NamedTuple):
    """What one rule ("" where none did) makes of an event: an outcome, why, and the delivery where it is FORWARDED."""

    rule: str
    outcome: str
    reason: str = ""
    delivery: DeliveryRecord | None = None


class Remapper:
    """Maps records of the events topic as the router does, and passes over what the vendor would not take any more.

    `wants` chooses events as the rules see them.
    """

    def __init__(
        self,
        configuration: Configuration,
        integration: str,
        *,
        wants: Callable[[Event], bool] = lambda _: True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        found = configuration.integrations[integration]
        self._configuration, self._wants, self._clock = configuration, wants, clock
        self._route = found.route(configuration.topics)
        self._forwarder = offline(found)
        self._preflight = Preflight(self._forwarder, self._forwarder.limits, found.delivery.max_age)

    def map(self, record: Any, window: Window | None = None) -> list[Mapped]:
        """What becomes of a record; nothing where it is not wanted. Repeats are those that `window` knows."""
        try:
            return self._map(record, window)
        except (EventError, RecordError) as error:
            return [Mapped("", REJECTED, error.code if isinstance(error, EventError) else str(error))]
        except Exception as error:  # noqa: BLE001  # one odd event must not stop the others
            return [Mapped("", REJECTED, f"{INTERNAL}: {describe(error)}")]

    def _map(self, record: Any, window: Window | None) -> list[Mapped]:
        if record.value is None:
            return []
        owner = self._configuration.sources.by_topic(record.topic)
        named = owner.name if owner else source_of(record.headers)
        seconds = record_time(record.timestamp, self._clock)
        check_version(record.headers)
        event = events.parse(record.value, Origin(record.topic, record.partition, record.offset))
        source = find_source(self._configuration.sources, named, event)
        sender, message_id = sender_of(record.headers, event), event["messageId"]
        repeats = window is not None and window.repeats(sender, message_id, record.offset)
        try:
            prepared = Prepared.of(event, datetime.fromtimestamp(seconds, UTC), source)
        except Exception:
            if window is not None and not repeats:
                window.forget(sender, message_id, record.offset)
            raise
        if not self._wants(prepared.event):
            return []
        if repeats:
            return [Mapped("", Outcome.DUPLICATE, "its messageId came before")]
        received = event.get("receivedAt", rfc3339(seconds))
        return [
            self._delivery(record, prepared, source.name, received, taken.rule, taken.payload)
            if taken.outcome == FORWARDED
            else Mapped(taken.rule, taken.outcome, taken.reason)
            for taken in rehearse(self._route, self._forwarder, prepared)
        ]

    def _delivery(
        self, record: Any, prepared: Prepared, source: str, received: str, rule: str, payload: Any
    ) -> Mapped:  # fmt: skip
        if self._preflight.expiry(prepared.time) <= self._clock():
            return Mapped(rule, Outcome.EXPIRED, "older than the vendor takes, or than max_age")
        message_id = prepared.message_id
        delivery = DeliveryRecord(
            message_id if self._route.single else f"{message_id}:{rule}",
            rule,
            self._configuration.version,
            prepared.event["type"],
            prepared.event.get("event"),
            prepared.time,
            received,
            source,
            Origin(record.topic, record.partition, record.offset),
            payload,
        )
        return Mapped(rule, FORWARDED, "", delivery)
