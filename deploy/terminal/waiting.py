"""Show that a command is waiting."""

import threading
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import Self

PERIOD_SECONDS = 3.0
"""Seconds between two lines; with the delays of a busy machine there is one every 5 seconds."""


class WaitingLines:
    """Shows a line every few seconds inside the context, with the subject and the duration of the wait.

    The lines come from a thread, so that they also come while modules are imported. Set `describe` to change the
    subject.
    """

    def __init__(self, describe: Callable[[], str], show: Callable[[str], object]) -> None:
        self.describe = describe
        self._show = show
        self._began = monotonic()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Show no more lines."""
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(PERIOD_SECONDS):
            self._show(f"waiting for {self.describe()} ({monotonic() - self._began:.0f} s)")
