"""Run the tasks that send an integration's batches, and stop them when its partitions are revoked."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from streams.delivery.outcomes.writer import OutcomeWriter
from streams.observability.internal_error import to_exception

T = TypeVar("T")


class WorkerPool(Generic[T]):
    """Run workers that take from queues; `fail` is called with each error of `work`.

    `leaving` is set while the partitions go: who waits for anything then begins nothing more.
    """

    def __init__(self, work: Callable[[T], Awaitable[None]], fail: Callable[[Exception], None]) -> None:
        self._work, self._fail = work, fail
        self._tasks: list[asyncio.Task[None]] = []
        self._busy = 0
        self._at_rest = asyncio.Event()
        self._at_rest.set()
        self.leaving = asyncio.Event()

    @property
    def busy(self) -> int:
        """How many workers are at work."""
        return self._busy

    def start(self, queues: Sequence["asyncio.Queue[T]"], size: int) -> None:
        """Start so many workers, which share the queues evenly."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._take(queues[number % len(queues)])) for number in range(size)]

    async def stop(self) -> None:
        """End the workers."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def rest(self, writer: OutcomeWriter, patience: float) -> bool:
        """Wait until nobody is at work and all is settled, for so many seconds; False where that was too short."""
        try:
            async with asyncio.timeout(patience):
                await self._at_rest.wait()
                await writer.wait_until_idle()
        except TimeoutError:
            return False
        return True

    async def sleep(self, seconds: float) -> None:
        """Wait for so long, or until the partitions go."""
        try:
            await asyncio.wait_for(self.leaving.wait(), seconds)
        except TimeoutError:
            return

    async def _take(self, queue: "asyncio.Queue[T]") -> None:
        while True:
            found = await queue.get()
            self._busy += 1
            self._at_rest.clear()
            try:
                await self._work(found)
            except BaseException as error:  # noqa: BLE001  # what is not finished is not committed, and comes again
                self._fail(to_exception(error))
            finally:
                self._busy -= 1
                if not self._busy:
                    self._at_rest.set()
