"""Map events in Kafka with today's rules to the deliveries that the router would make for one integration."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from deploy.config.configuration import Configuration
from deploy.dryrun.masked import make_masked_forwarder
from deploy.dryrun.preview import preview_delivery
from streams.delivery.outcomes.preflight import Preflight
from streams.events import Event, EventError
from streams.observability.internal_error import INTERNAL, describe, to_exception
from streams.records.delivery import DeliveryRecord
from streams.records.outcomes import FORWARDED, Outcome
from streams.routing.decision import RouteDecision, decide
from streams.routing.decoding import decode, named_source
from streams.routing.dedupe import Window, sender_of
from streams.routing.ruleset import RuleSet

REJECTED = "rejected"
"""The outcome of a record that is rejected."""

NO_WINDOW = Window(0)
"""A window that never finds repeats."""


class Mapped(NamedTuple):
    """The outcome of an event for one rule ("" if none matched), its reason, and the delivery if it is FORWARDED."""

    rule: str
    outcome: str
    reason: str = ""
    delivery: DeliveryRecord | None = None


class Remapper:
    """Maps records of the events topic as the router does; deliveries that are too old for the vendor are expired.

    `selects` is called with each event after the steps of its source.
    """

    def __init__(
        self,
        configuration: Configuration,
        integration: str,
        *,
        selects: Callable[[Event], bool] = lambda _: True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        found = configuration.integrations[integration]
        self._selects, self._clock = selects, clock
        self._rules = RuleSet(configuration.version, configuration.sources, [found.route(configuration.topics)])
        self._forwarder = make_masked_forwarder(found)
        self._preflight = Preflight(self._forwarder, self._forwarder.limits, found.delivery.max_age)

    def map(self, record: Any, window: Window = NO_WINDOW) -> list[Mapped]:
        """Map a record; returns an empty list if it is not selected. `window` finds repeats."""
        try:
            return self._map(record, window)
        except EventError as error:
            return [Mapped("", REJECTED, error.code)]
        except BaseException as error:  # noqa: BLE001  # one odd event must not stop the others
            return [Mapped("", REJECTED, f"{INTERNAL}: {describe(to_exception(error))}")]

    def _map(self, record: Any, window: Window) -> list[Mapped]:
        if record.value is None:
            return []
        sources = self._rules.sources
        incoming = decode(record, sources, named_source(record, sources))
        sender, message_id = sender_of(record.headers, incoming.event), incoming.event["messageId"]
        repeats = window.repeats(sender, message_id, record.offset)
        try:
            decision = decide(incoming, self._rules, self._clock, _ignore)
        except BaseException:
            window.forget(sender, message_id, record.offset)
            raise
        if decision.is_rejected:
            window.forget(sender, message_id, record.offset)
            return [Mapped("", REJECTED, decision.rejected.reason if decision.rejected else "")]
        if not self._selects(decision.event):
            return []
        if repeats:
            return [Mapped("", Outcome.DUPLICATE, "an earlier event has the same messageId")]
        return [self._mapped(decided) for decided in decision.outcomes]

    def _mapped(self, decided: RouteDecision) -> Mapped:
        result = preview_delivery(decided, self._forwarder)
        if result.outcome != FORWARDED or decided.value is None:
            return Mapped(result.rule, result.outcome, result.reason)
        delivery = DeliveryRecord.decode(decided.value)
        if self._preflight.expiry(delivery.time) <= self._clock():
            return Mapped(result.rule, Outcome.EXPIRED, "older than the vendor accepts, or than max_age")
        return Mapped(result.rule, FORWARDED, "", delivery)


def _ignore(_reason: str, _detail: str) -> None:
    """Ignore notes, which the router recorded when it read the event."""
