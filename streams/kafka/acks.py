"""Count the acknowledgements of records that were passed to the producer."""

import asyncio
from collections.abc import Callable

from streams.kafka.settings import BrokerError


class PendingAcks:
    """Count outstanding acknowledgements, and report when all have arrived.

    The producer calls `hold` for each batch that contains a record of the caller, and `release` when Kafka has stored
    or refused the batch. The caller holds one count itself until it calls `seal`, so that acknowledgements which arrive
    while it still appends do not end the count. The first error is kept.

    Args:
        on_settled: Called once, after `seal` and the last acknowledgement, with the first error or None.

    """

    __slots__ = ("_done", "_error", "_on_settled", "_open", "_sealed")

    def __init__(self, on_settled: Callable[[BaseException | None], object] | None = None) -> None:
        self._on_settled = on_settled
        self._open = 1
        self._sealed = False
        self._error: BaseException | None = None
        self._done: asyncio.Future[None] | None = None

    def hold(self) -> None:
        """Wait for one more acknowledgement."""
        self._open += 1

    def release(self, error: BaseException | None) -> None:
        """Count one acknowledgement; `error` is why Kafka refused the batch."""
        self._open -= 1
        if error is not None and self._error is None:
            self._error = error
        if self._open:
            return
        if self._on_settled is not None:
            self._on_settled(self._error)
        if self._done is not None and not self._done.done():
            self._done.set_result(None)

    def seal(self) -> None:
        """Report that everything was appended."""
        if not self._sealed:
            self._sealed = True
            self.release(None)

    async def confirmed(self, timeout: float) -> None:
        """Seal, and wait until everything is acknowledged.

        Raises:
            BrokerError: Kafka refused a batch.
            TimeoutError: Not everything was acknowledged within `timeout` seconds.

        """
        self.seal()
        if self._open:
            self._done = asyncio.get_running_loop().create_future()
            await asyncio.wait_for(self._done, timeout)
        if self._error is not None:
            raise BrokerError(f"Kafka did not accept the records: {type(self._error).__name__}") from self._error
