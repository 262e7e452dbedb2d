"""Follow changes of the configuration folder for `turnout up`."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from deploy.config.configuration import Configuration
from deploy.config.diagnostics import render
from deploy.runtime.reload import FolderState
from deploy.terminal.failures import Misconfigured

PERIOD_SECONDS = 0.5
"""Seconds between two checks of the folder."""

SETTINGS_FILE = "turnout.yaml"


class FolderWatch:
    """Reports each change of a folder once: which files are in use, or every error with its caret.

    `read` reads the folder, and raises Misconfigured. `apply` is called with the new configuration; the change is
    reported when it returns.
    """

    def __init__(
        self,
        configuration: Configuration,
        read: Callable[[], Configuration],
        apply: Callable[[Configuration], Awaitable[object]],
        show: Callable[[str], object],
    ) -> None:
        self._folder, self._settings = configuration.folder, configuration.settings
        self._read, self._apply, self._show = read, apply, show
        self._state = FolderState(configuration)

    async def run(self) -> None:
        """Check the folder until cancelled."""
        while True:
            await asyncio.sleep(PERIOD_SECONDS)
            if changed := await asyncio.to_thread(self._state.changed):
                await self._reload(changed)

    async def _reload(self, changed: list[Path]) -> None:
        try:
            configuration = await asyncio.to_thread(self._read)
        except Misconfigured as error:
            self._state.data_files = error.data_files
            self._show(f"{render(error.errors)}; the previous configuration is still in use")
            return
        self._state.data_files = configuration.data_files
        await self._apply(configuration)
        names = [str(path.relative_to(self._folder) if path.is_relative_to(self._folder) else path) for path in changed]
        if reloaded := [name for name in names if name != SETTINGS_FILE]:
            self._show(f"reloaded {', '.join(reloaded)}")
        if configuration.settings != self._settings:
            self._show(f"restart to apply the changes in {SETTINGS_FILE}")
