"""Run the tasks that send an integration's batches, and stop them when its partitions are revoked."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from streams.delivery.outcomes.writer import OutcomeWriter
from streams.observability.internal_error import to_exception

T = TypeVar("T")


class WorkerPool(Generic[T]):
    """Run workers that take from queues; `fail` is called with each error of `work`.

    `leaving` is set while the partitions are being revoked: workers that wait then start nothing more.
    """

    def __init__(self, work: Callable[[T], Awaitable[None]], fail: Callable[[Exception], None]) -> None:
        self._work, self._fail = work, fail
        self._tasks: list[asyncio.Task[None]] = []
        self._busy = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.leaving = asyncio.Event()

    @property
    def busy(self) -> int:
        """Return the number of workers that are working."""
        return self._busy

    def start(self, queues: Sequence["asyncio.Queue[T]"], size: int) -> None:
        """Start `size` workers, which share the queues evenly."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._take(queues[number % len(queues)])) for number in range(size)]

    async def stop(self) -> None:
        """Stop the workers."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def wait_until_idle(self, writer: OutcomeWriter, timeout: float) -> bool:
        """Wait until no worker is working and all outcomes are written; return False after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
                await writer.wait_until_idle()
        except TimeoutError:
            return False
        return True

    async def sleep(self, seconds: float) -> None:
        """Wait for a number of seconds, or until the partitions are being revoked."""
        try:
            await asyncio.wait_for(self.leaving.wait(), seconds)
        except TimeoutError:
            return

    async def _take(self, queue: "asyncio.Queue[T]") -> None:
        while True:
            found = await queue.get()
            self._busy += 1
            self._idle.clear()
            try:
                await self._work(found)
            except BaseException as error:  # noqa: BLE001  # unfinished records are not committed, and redelivered
                self._fail(to_exception(error))
            finally:
                self._busy -= 1
                if not self._busy:
                    self._idle.set()
