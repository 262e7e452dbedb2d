"""Pause delivery while the vendor fails or rejects the credentials."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import structlog

from forwarders.api.contract import AuthFailed, Delivered, Result, Retry
from streams.observability.metrics import DELIVERY_HELD, DELIVERY_PAUSED
from streams.parsing.times import rfc3339
from streams.records.control import Control
from streams.records.status import VendorState, VendorStatus

log = structlog.get_logger()

_CLOSED = VendorStatus(VendorState.DELIVERING)

REFUSALS = 3
"""Different deliveries in a row whose credentials are refused before delivery is paused."""

MAX_PAUSE_SECONDS = 5.0
"""Longest pause between two probes: many deliveries that always fail must not delay the good ones for hours."""


class Breaker:
    """While closed, every request may be sent. While open, one request at a time probes the vendor.

    The pause before a probe doubles from `shortest` to `longest` seconds, at most `MAX_PAUSE_SECONDS`, whenever a
    delivery has failed as a probe again; deliveries that were not tried before do not lengthen it. A probe that the
    vendor answers closes the breaker. It opens after `failures` failed requests in a row, or if the credentials of
    `REFUSALS` different deliveries in a row are refused.

    A delivery that fails although a request sent after its previous failure delivered others is a *suspect*. The
    failure is its own: it says nothing about the vendor and is not counted. Requests are numbered to tell: `sent` is
    the number of the last one, `delivered` that of the last one that delivered anything.

    While it is held by somebody, no request may be sent, whether it is open or closed. `before_probe` is called when
    somebody asks for a probe.
    """

    def __init__(
        self,
        integration: str,
        failures: int,
        shortest: float,
        longest: float,
    ) -> None:
        self._integration, self._bound = integration, failures
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
        self.before_probe: Callable[[], None] = lambda: None

    @property
    def ready(self) -> bool:
        """Whether `admits` would return True."""
        return not self.is_held and (not self.is_open or self._may_probe)

    @property
    def is_held(self) -> bool:
        """Whether somebody has paused delivery."""
        return self._held_status is not None

    @property
    def blocks(self) -> bool:
        """Whether deliveries wait for the vendor, or for somebody."""
        return self.is_open or self.is_held

    @property
    def status(self) -> VendorStatus:
        """Whether deliveries go out, and the vendor's last answer to a request that failed."""
        status = self._held_status or self._status
        if self._answer is None:
            return status
        code, text, at = self._answer
        return replace(status, status=code, answer=text, answered=rfc3339(at))

    def note_answer(self, status: int | None, text: str) -> None:
        """Keep the vendor's answer to a request that failed, secrets masked; without one, say why in `text`."""
        self._answer = status, text, time.time()

    def hold(self, order: Control | None) -> None:
        """Send nothing by this order; None ends that."""
        if order is None:
            if self.is_held:
                log.info("delivery is resumed", integration=self._integration)
            self._held_status = None
        else:
            self._held_status = VendorStatus(VendorState.PAUSED, order.when, f"by {order.who}")
            log.warning("delivery is paused by hand", integration=self._integration, who=order.who)
        self._held_gauge.set(self.is_held)
        self.wake()

    def probe(self) -> None:
        """If delivery is paused since the vendor fails, let a request probe now."""
        if self.is_open and not self._probing:
            self.close()
            self._end_pause()
            self.before_probe()

    def allows(self) -> bool:
        """Return whether a request may be sent now. While open, True makes the caller the probe, who must report."""
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
        """Let another request probe: the one that was admitted is not sent."""
        if self.is_open and self._probing:
            self._probing = False
            self._may_probe = True
            self.wake()

    async def changed(self) -> None:
        """Wait until `admits` may return another result."""
        await self._change.wait()

    def wake(self) -> None:
        """Wake everyone who waits for a change."""
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
        """Note the results of a request.

        Args:
            results: One per delivery.
            why: Why the request failed as a whole; set if it could not be sent for lack of an access token.
            number: The request's number.
            probe: Whether this request was the probe; by default, if one is out.
            suspect: Whether others were delivered since these deliveries failed before.
            again: Whether the same deliveries failed before.
            comparable: Whether other deliveries can show if the credentials are refused for all.

        """
        counts = not suspect or bool(why)
        if any(isinstance(result, Delivered) for result in results):
            self.delivered = max(self.delivered, number)
        elif any(isinstance(result, AuthFailed) for result in results):
            if counts and not again:
                self._refusals += 1
            at_once = bool(why) or not comparable or self._refusals >= REFUSALS
            why = why or "the vendor refuses the credentials"
            self.fail(why, at_once=at_once, probe=probe, counts=counts, longer=again, state=VendorState.REFUSED)
            return
        elif all(isinstance(result, Retry) for result in results):
            self.fail(why or "the vendor fails", probe=probe, counts=counts, longer=again)
            return
        self.succeed(probe=probe)

    def succeed(self, *, probe: bool | None = None) -> None:
        """Note an answer that a working vendor gives."""
        self._failures = self._refusals = 0
        # While open only the probe counts: an earlier request says nothing about the vendor's state now.
        if self.is_open and (self._probing if probe is None else probe):
            self.is_open = self._probing = False
            self._pauses = 0
            self._status = _CLOSED
            self.close()
            self._gauge.set(0)
            log.info("delivery goes on", integration=self._integration)
            self.wake()

    def fail(
        self,
        reason: str,
        *,
        at_once: bool = False,
        probe: bool | None = None,
        counts: bool = True,
        longer: bool = True,
        state: VendorState = VendorState.FAILING,
    ) -> None:
        """Note a failed request.

        Args:
            reason: Why delivery is paused, if it is.
            at_once: Whether one failure is enough.
            probe: Whether this request was the probe; by default, if one is out.
            counts: Whether it is evidence against the vendor.
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
            self._status = VendorStatus(state, rfc3339(time.time()), reason)
            log.error("delivery is paused", integration=self._integration, reason=reason)
            self._pause(longer=True)

    def close(self) -> None:
        """Cancel the timer; the integration stops."""
        if self._timer:
            self._timer.cancel()

    def _pause(self, *, longer: bool) -> None:
        seconds = min(self._longest, self._shortest * 2 ** min(self._pauses, 30))
        self._pauses += longer
        self._status = replace(self._status, probe=rfc3339(time.time() + seconds))
        self._probing = self._may_probe = False
        self.close()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._end_pause)

    def _end_pause(self) -> None:
        # The timer is what counts: by the clock it may fire a little early, and nobody would wake the waiters again.
        self._may_probe = True
        self.wake()
