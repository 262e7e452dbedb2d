"""The breaker of one integration: leaves a vendor alone that fails or refuses the credentials, and probes it."""

import asyncio
from collections.abc import Sequence

import structlog

from forwarders.contract import Auth, Result, Retry
from streams.metrics import DELIVERY_PAUSED

log = structlog.get_logger()


class Breaker:
    """Closed, every request may go out. Open, one at a time may, after a pause that doubles from `shortest` to
    `longest` seconds; the first that is answered closes it.

    It opens after so many `failures` in a row, or at once where the credentials are refused.
    """

    def __init__(
        self,
        integration: str,
        failures: int,
        shortest: float,
        longest: float,
    ) -> None:
        self._integration, self._bound = integration, failures
        self._shortest, self._longest = shortest, longest
        self._failures = 0
        self._pauses = 0
        self._probing = False
        self._may_probe = False
        self._timer: asyncio.TimerHandle | None = None
        self._change = asyncio.Event()
        self.is_open = False
        self._gauge = DELIVERY_PAUSED.labels(integration)
        self._gauge.set(0)

    def admits(self) -> bool:
        """Whether a request may go out now. While open, True makes the caller the probe, who must report."""
        if not self.is_open:
            return True
        if not self._may_probe:
            return False
        self._may_probe = False
        self._probing = True
        return True

    async def changed(self) -> None:
        """Wait until `admits` may say something else."""
        await self._change.wait()

    def wake(self) -> None:
        """Let all that wait for a change look again."""
        self._change.set()
        self._change = asyncio.Event()

    def hear(self, results: Sequence[Result], why: str = "") -> None:
        """What came of a request; where it failed as a whole, perhaps why."""
        if any(isinstance(result, Auth) for result in results):
            self.fail(why or "the vendor refuses the credentials", at_once=True)
        elif all(isinstance(result, Retry) for result in results):
            self.fail(why or "the vendor fails")
        else:
            self.succeed()

    def succeed(self) -> None:
        """The vendor has answered as a vendor does that works."""
        self._failures = 0
        # While open only the probe counts: what was on its way before says nothing about now.
        if self.is_open and self._probing:
            self.is_open = self._probing = False
            self._pauses = 0
            self.close()
            self._gauge.set(0)
            log.info("delivery goes on", integration=self._integration)
            self.wake()

    def fail(self, reason: str, *, at_once: bool = False) -> None:
        """A request failed as a whole; `at_once` where it is sure that others will."""
        self._failures += 1
        if self.is_open:
            if self._probing:
                self._pause()
        elif at_once or self._failures >= self._bound:
            self.is_open = True
            self._gauge.set(1)
            log.error("delivery is paused", integration=self._integration, reason=reason)
            self._pause()

    def close(self) -> None:
        """Forget the timer; the integration stops."""
        if self._timer:
            self._timer.cancel()

    def _pause(self) -> None:
        seconds = min(self._longest, self._shortest * 2 ** min(self._pauses, 30))
        self._pauses += 1
        self._probing = self._may_probe = False
        self.close()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._end_pause)

    def _end_pause(self) -> None:
        # That the timer has fired is what counts: by the clock it may be a little early, and nobody would wake again.
        self._may_probe = True
        self.wake()
