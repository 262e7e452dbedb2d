"""Pause delivery while the vendor fails, or rejects the credentials or the version of its API."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

import structlog

from forwarders.api.contract import AuthFailed, Delivered, Result, Retired, Retry
from streams.clock import time
from streams.observability.metrics import DELIVERY_HELD, DELIVERY_PAUSED
from streams.parsing.times import rfc3339
from streams.records.control import Control
from streams.records.status import DeliveryState, VendorStatus

log = structlog.get_logger()

_CLOSED = VendorStatus(DeliveryState.DELIVERING)

REFUSALS = 3
"""Consecutive deliveries with rejected credentials before delivery is paused."""

RETIRED = "the vendor has turned off this version of its API: set a newer one, or upgrade Turnout"
"""Why delivery is paused after `Retired`."""

MAX_LOGGED_CHARACTERS = 200
"""Characters of a vendor's answer, secrets masked, in the line about a pause."""

MAX_PAUSE_SECONDS = 5.0
"""Maximum seconds between two probes: many deliveries that always fail must not delay the others for hours."""


class Breaker:
    """While closed, every request may be sent. While open, one request at a time probes the vendor.

    The pause before a probe doubles from `shortest` to `longest` seconds, at most `MAX_PAUSE_SECONDS`, each time that a
    delivery fails as a probe again; deliveries that were not tried before do not lengthen it. A probe with a response
    closes the breaker. It opens after `failures` failed requests in a row, or after `REFUSALS` different deliveries in
    a row with rejected credentials, or at once if the version of the vendor's API is retired.

    A delivery that fails although a request sent after its previous failure delivered others is a *suspect*. Its
    failure is attributed to the delivery, not to the vendor, and not counted. To detect this, requests are numbered:
    `sent` is the number of the last one, `delivered` that of the last one that delivered anything.

    While it is held by a command, no request may be sent, whether it is open or closed. `on_probe` is called when a
    command asks for a probe.
    """

    def __init__(
        self,
        integration: str,
        failures: int,
        shortest: float,
        longest: float,
        on_probe: Callable[[], None] = lambda: None,
    ) -> None:
        self._integration, self._bound, self._on_probe = integration, failures, on_probe
        self._shortest, self._longest = shortest, min(longest, max(shortest, MAX_PAUSE_SECONDS))
        self._failures = 0
        self._refusals = 0
        self._pauses = 0
        self._probing = False
        self._may_probe = False
        self._timer: asyncio.TimerHandle | None = None
        self._change = asyncio.Event()
        self.is_open = False
        self.sent = self.delivered = 0
        self._gauge = DELIVERY_PAUSED.labels(integration)
        self._gauge.set(0)
        self._held_gauge = DELIVERY_HELD.labels(integration)
        self._held_gauge.set(0)
        self._status = _CLOSED
        self._held_status: VendorStatus | None = None
        self._answer: tuple[int | None, str, float] | None = None

    @property
    def ready(self) -> bool:
        """Return whether `allows` would return True."""
        return not self.is_held and (not self.is_open or self._may_probe)

    @property
    def is_held(self) -> bool:
        """Whether delivery is paused by a command."""
        return self._held_status is not None

    @property
    def blocks(self) -> bool:
        """Whether deliveries wait for the vendor, or for a command."""
        return self.is_open or self.is_held

    @property
    def status(self) -> VendorStatus:
        """Return whether deliveries are sent, and the vendor's last response to a failed request."""
        status = self._held_status or self._status
        if self._answer is None:
            return status
        code, text, at = self._answer
        return replace(status, status=code, answer=text, answered=rfc3339(at))

    def note_answer(self, status: int | None, text: str) -> None:
        """Keep the vendor's response to a failed request, secrets masked; without a response, `text` is the reason."""
        self._answer = status, text, time()

    def hold(self, order: Control | None) -> None:
        """Pause delivery by an operator's command; None ends the pause."""
        if order is None:
            if self.is_held:
                log.info("delivery resumed by hand", integration=self._integration)
            self._held_status = None
        else:
            self._held_status = VendorStatus(DeliveryState.PAUSED, order.when, f"by {order.who}")
            log.warning("delivery is paused by hand", integration=self._integration, who=order.who)
        self._held_gauge.set(self.is_held)
        self.wake()

    def probe(self) -> None:
        """If delivery is paused because the vendor fails, allow a probe now."""
        if self.is_open and not self._probing:
            self.close()
            self._end_pause()
            self._on_probe()

    def allows(self) -> bool:
        """Return whether a request may be sent now. While open, True makes it the probe, which must be reported."""
        if self.is_held:
            return False
        if not self.is_open:
            return True
        if not self._may_probe:
            return False
        self._may_probe = False
        self._probing = True
        return True

    def give_back(self) -> None:
        """Allow another probe, because the allowed one is not sent."""
        if self.is_open and self._probing:
            self._probing = False
            self._may_probe = True
            self.wake()

    async def changed(self) -> None:
        """Wait until `allows` may return another result."""
        await self._change.wait()

    def wake(self) -> None:
        """Wake all tasks in `changed`."""
        self._change.set()
        self._change = asyncio.Event()

    def record_results(
        self,
        results: Sequence[Result],
        why: str = "",
        *,
        number: int = 0,
        probe: bool | None = None,
        suspect: bool = False,
        again: bool = False,
        comparable: bool = False,
    ) -> None:
        """Record the results of a request.

        Args:
            results: One per delivery.
            why: Why the request failed as a whole; set if no access token was available.
            number: The request's number.
            probe: Whether this request was the probe; by default, whether one is in flight.
            suspect: Whether others were delivered since these deliveries failed before.
            again: Whether the same deliveries failed before.
            comparable: Whether other deliveries can show if the credentials are rejected for all.

        """
        counts = not suspect or bool(why)
        if any(isinstance(result, Delivered) for result in results):
            self.delivered = max(self.delivered, number)
        elif any(isinstance(result, AuthFailed) for result in results):
            if counts and not again:
                self._refusals += 1
            at_once = bool(why) or not comparable or self._refusals >= REFUSALS
            why = why or "the vendor rejects the credentials"
            self.fail(why, at_once=at_once, probe=probe, counts=counts, longer=again, state=DeliveryState.REFUSED)
            return
        elif any(isinstance(result, Retired) for result in results):
            self.fail(RETIRED, at_once=True, probe=probe, longer=again, state=DeliveryState.REFUSED)
            return
        elif all(isinstance(result, Retry) for result in results):
            self.fail(why or "the vendor fails", probe=probe, counts=counts, longer=again)
            return
        self.succeed(probe=probe)

    def succeed(self, *, probe: bool | None = None) -> None:
        """Record a response of a working vendor."""
        self._failures = self._refusals = 0
        # While open only the probe counts: earlier requests do not show the vendor's current state.
        if self.is_open and (self._probing if probe is None else probe):
            self.is_open = self._probing = False
            self._pauses = 0
            self._status = _CLOSED
            self.close()
            self._gauge.set(0)
            log.info("delivery resumed", integration=self._integration)
            self.wake()

    def fail(
        self,
        reason: str,
        *,
        at_once: bool = False,
        probe: bool | None = None,
        counts: bool = True,
        longer: bool = True,
        state: DeliveryState = DeliveryState.FAILING,
    ) -> None:
        """Record a failed request.

        Args:
            reason: Why delivery is paused, if it is.
            at_once: Whether one failure is enough.
            probe: Whether this request was the probe; by default, whether one is in flight.
            counts: Whether the failure is attributed to the vendor.
            longer: Whether the next pause is longer.
            state: The state that is reported while delivery is paused.

        """
        if self.is_open:
            if self._probing if probe is None else probe:
                self._status = replace(self._status, state=state, reason=reason)
                self._pause(longer=longer)
            return
        if not counts:
            return
        self._failures += 1
        if at_once or self._failures >= self._bound:
            self.is_open = True
            self._gauge.set(1)
            self._status = VendorStatus(state, rfc3339(time()), reason)
            self._pause(longer=True)
            status = self.status
            log.error(
                "delivery is paused",
                integration=self._integration,
                reason=reason,
                status=status.status,
                answer=status.answer[:MAX_LOGGED_CHARACTERS],
                next_probe=status.probe,
            )

    def close(self) -> None:
        """Cancel the timer when the integration stops."""
        if self._timer:
            self._timer.cancel()

    def _pause(self, *, longer: bool) -> None:
        seconds = min(self._longest, self._shortest * 2 ** min(self._pauses, 30))
        self._pauses += longer
        self._status = replace(self._status, probe=rfc3339(time() + seconds))
        self._probing = self._may_probe = False
        self.close()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._end_pause)

    def _end_pause(self) -> None:
        # Not checked by the clock: the timer may fire slightly early, and nothing would wake the waiting tasks again.
        self._may_probe = True
        self.wake()
