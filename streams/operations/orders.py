"""Pause, resume and probe integrations: send the command, and wait until forwarders confirm it."""

import time
from dataclasses import dataclass

from streams.kafka.settings import Broker
from streams.operations.overview import make_overview
from streams.operations.reading import OperationsReader, send_order
from streams.parsing.times import rfc3339
from streams.plurals import counted
from streams.records.control import Control, ControlAction
from streams.records.status import DeliveryState
from streams.topics import Topics

OBEY_SECONDS = 5.0
"""Seconds that forwarders have to report that they obey."""

_DONE = {
    ControlAction.PAUSED: "paused",
    ControlAction.RESUMED: "resumed",
    ControlAction.PROBE: "asked to probe",
}


class PausedError(Exception):
    """The integration is paused by hand and cannot probe; `order` has the operator."""

    def __init__(self, order: Control) -> None:
        super().__init__(f"paused by {order.who} since {order.when}")
        self.order = order


@dataclass(frozen=True, slots=True)
class GivenOrder:
    """A command and its result.

    Attributes:
        integration: The integration.
        order: The command.
        before: The command that paused it before, if it was paused by hand.
        changed: Whether the command was sent; it is not if nothing would change.
        obeyed: How many forwarders confirmed the command.
        forwarders: How many deliver to the integration.

    """

    integration: str
    order: Control
    before: Control | None
    changed: bool
    obeyed: int
    forwarders: int

    def sentence(self) -> str:
        """Describe the command in one sentence, with the number of forwarders that confirmed it."""
        done = _DONE[self.order.action]
        if not self.changed:
            before = self.before
            done = f"already paused, by {before.who} since {before.when}" if before else "not paused by hand"
        return f"{self.integration} is {done}; {self._confirmation()}"

    def _confirmation(self) -> str:
        if not self.forwarders:
            return "no forwarder reports that it delivers to it, and the next one to start obeys"
        if self.order.action is ControlAction.PROBE:
            return f"{counted(self.forwarders, 'forwarder delivers', 'forwarders deliver')} to it"
        if self.obeyed < self.forwarders:
            of = counted(self.forwarders, "forwarder")
            return f"only {self.obeyed} of {of} confirmed it within {OBEY_SECONDS:.0f} s"
        return f"{counted(self.forwarders, 'forwarder')} confirmed it"


def give_order(broker: Broker, topics: Topics, integration: str, action: ControlAction, who: str) -> GivenOrder:
    """Send a command for an integration, and wait for its forwarders; blocking.

    Raises BrokerError, and PausedError for a probe of a paused integration.
    """
    with OperationsReader(broker, topics) as reader:
        reader.catch_up()
        before = reader.paused(integration)
        if action is ControlAction.PROBE and before:
            raise PausedError(before)
        order = Control(action, who, rfc3339(time.time()))
        changes = action is ControlAction.PROBE or (action is ControlAction.PAUSED) != (before is not None)
        if changes:
            send_order(broker, topics, integration, order)
        return GivenOrder(integration, order, before, changes, *_wait(reader, integration, action))


def _wait(reader: OperationsReader, integration: str, action: ControlAction) -> tuple[int, int]:
    """Return how many forwarders confirmed the command, and how many deliver to the integration."""
    deadline = time.monotonic() + OBEY_SECONDS
    while True:
        reader.catch_up()
        (row,) = make_overview(reader.reports, [integration], {}, time.time()).integrations
        vendors = [share.pipeline.vendor for share in row.shares if share.pipeline.vendor]
        held = sum(vendor.state is DeliveryState.PAUSED for vendor in vendors)
        obeyed = held if action is ControlAction.PAUSED else len(vendors) - held
        if obeyed == len(vendors) or time.monotonic() > deadline:
            return obeyed, len(vendors)
        time.sleep(0.2)
