"""Run all of Turnout on one machine: the command `turnout up`."""

import asyncio
import os
import secrets
import signal
import socket
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any, ParamSpec, TypeVar

from deploy.config.configuration import Configuration
from deploy.live.live_view import LiveView, Watch
from deploy.runtime import embedded_broker
from deploy.runtime.folder_watch import FolderWatch
from deploy.runtime.reload import INVALID, NEEDS_RESTART, NEEDS_TOPIC
from deploy.runtime.supervisor import Child, Supervisor, turnout_command
from deploy.runtime.up_output import Terminal
from deploy.runtime.workers import check_topics
from deploy.terminal.failures import Failed
from deploy.terminal.waiting import WaitingLines
from streams.kafka.admin import create_topics, find_partitions
from streams.kafka.settings import Broker, BrokerError

P = ParamSpec("P")
T = TypeVar("T")

BROKER_START_SECONDS = 120.0
"""Seconds until the embedded broker must accept connections."""

BROKER_TIMEOUT, BROKER_ATTEMPTS = 20.0, 6
"""Seconds to wait for the broker's response about topics, which stopping may also wait for, and how often to ask."""

RELOAD_SECONDS = 30.0
"""Seconds to wait for all processes to apply a changed configuration before it is reported as reloaded."""

ON_RELOAD = frozenset({INVALID, NEEDS_RESTART, NEEDS_TOPIC})
"""Warnings of processes that are not shown: `up` follows the folder itself, and reports each change once."""

OTHERS_SECONDS = 60.0
"""Seconds to wait for the ledger and the console, and its link, before events are shown without them."""

GRACE = "3"
"""Seconds for each worker to finish its work, so that all have stopped within 10."""


async def run(configuration: Configuration, read: Callable[[], Configuration], waiting: WaitingLines) -> int:
    """Start all processes, show events until SIGINT or SIGTERM, and stop them; returns the exit code.

    `read` reads the changed folder; it raises Misconfigured. `waiting` is stopped when events are accepted.
    """
    terminal = Terminal(configuration)
    supervisor = Supervisor(terminal.report, ON_RELOAD)
    with ExitStack() as folders:
        local = _Local(configuration, read, supervisor, terminal, waiting, folders)
        return await _run(local, terminal, supervisor)


async def _run(local: "_Local", terminal: Terminal, supervisor: Supervisor) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    work = asyncio.create_task(local.run())
    stopped = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait([work, stopped], return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            await work
        terminal.print_line("stopping")
    except BrokerError as error:
        raise Failed(str(error)) from error
    finally:
        work.cancel()
        stopped.cancel()
        await asyncio.gather(work, stopped, return_exceptions=True)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
            loop.add_signal_handler(number, supervisor.kill)
        await supervisor.stop()
    return 0


class _Local:
    """All processes of one machine."""

    def __init__(
        self,
        configuration: Configuration,
        read: Callable[[], Configuration],
        supervisor: Supervisor,
        terminal: Terminal,
        waiting: WaitingLines,
        folders: ExitStack,
    ) -> None:
        self._configuration, self._read = configuration, read
        self._supervisor, self._terminal, self._waiting = supervisor, terminal, waiting
        self._folders = folders
        self._environment = {**os.environ, "TURNOUT_GRACE": GRACE}
        self._view = LiveView(configuration.topics, configuration.integrations, _read_topics(configuration))
        self._watch = Watch(configuration.settings.broker, self._view)

    async def run(self) -> None:
        """Start all processes and show events; raises Failed if a process other than the ledger or the console ends."""
        configuration, settings = self._configuration, self._configuration.settings
        if settings.embedded:
            self._waiting.describe = lambda: "the embedded broker"
            await _start_broker(settings.broker, self._supervisor)
            self._waiting.describe = lambda: "the embedded broker to create the topics"
            await self._create_topics(configuration)
        else:
            self._waiting.describe = lambda: "Kafka"
            await asyncio.to_thread(check_topics, configuration)
        children = await self._start_processes()
        self._waiting.describe = lambda: ", ".join(child.name for child in children if not child.ready.is_set())
        tasks: list[asyncio.Task[Any]] = []
        try:
            await self._watch.start(await self._find_partitions(configuration))
            await self._supervisor.until_ready(children)
            self._waiting.describe = lambda: "the ledger and the console"
            # Last, so that events are accepted as soon as before.
            ledger = await _start_ledger(configuration, self._supervisor, self._environment, self._folders)
            console = await self._start_console()
            # Both read the folder, so a later change must not end them.
            await asyncio.gather(
                *(self._supervisor.until_ready_or_ended(each, OTHERS_SECONDS) for each in (ledger, console))
            )
            self._waiting.stop()
            self._terminal.welcome(_url(children[-1].facts), console.facts.get("link"))
            folder = FolderWatch(configuration, self._read, self._apply, self._terminal.print_line)
            watching = asyncio.create_task(self._watch.run(self._terminal.show_update, self._terminal.show_rejected))
            ended = asyncio.create_task(self._supervisor.until_one_ends())
            following = asyncio.create_task(folder.run())
            tasks = [watching, ended, following]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                raise Failed(ended.result().exit_reason())
            failed = watching if watching.done() else following
            raise Failed(f"cannot watch: {failed.exception()}")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._watch.stop()

    async def _start_processes(self) -> list[Child]:
        """Start all processes but the ledger; the collector is the last."""
        settings, folder = self._configuration.settings, str(self._configuration.folder)
        commands = [(command, "--config", folder) for command in ("forwarder", "router", "collector")]
        if settings.simulator_port:
            commands.insert(0, ("simulate", "--quiet", f"--port={settings.simulator_port}"))
        return [
            await self._supervisor.start(command[0], turnout_command(*command), self._environment)
            for command in commands
        ]

    async def _start_console(self) -> Child:
        """Start the console; `up` continues if the console ends."""
        command = turnout_command("console", "--config", str(self._configuration.folder))
        return await self._supervisor.start("console", command, self._environment, essential=False)

    async def _apply(self, configuration: Configuration) -> None:
        """Have all processes use a changed configuration, with the topics of new integrations."""
        if configuration.settings.embedded:
            await self._create_topics(configuration)
        self._terminal.follow(configuration)
        self._view.follow(configuration.integrations, _read_topics(configuration))
        self._watch.add(await self._find_partitions(configuration))
        self._supervisor.reload()
        await self._supervisor.until_version(configuration.version, RELOAD_SECONDS)

    async def _create_topics(self, configuration: Configuration) -> None:
        """Create the topics in the embedded broker, including external ones, since nothing else can create them."""
        settings = configuration.settings
        declared = [replace(it, partitions=it.partitions or settings.partitions) for it in configuration.declared]
        await _ask(create_topics, settings.broker, declared, settings.replication, BROKER_TIMEOUT)

    async def _find_partitions(self, configuration: Configuration) -> Mapping[str, int]:
        """Return the number of partitions of each declared topic that exists."""
        return await _ask(find_partitions, configuration.settings.broker, configuration.declared, BROKER_TIMEOUT)


async def _ask(question: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """Query the broker in a thread; retries if it does not respond. Raises BrokerError after some attempts."""
    for _ in range(BROKER_ATTEMPTS - 1):
        with suppress(BrokerError):
            return await asyncio.to_thread(question, *arguments, **options)
    return await asyncio.to_thread(question, *arguments, **options)


def _read_topics(configuration: Configuration) -> Mapping[str, str]:
    """Return the external topics that sources read, with the source of each."""
    return {topic: source.source for source in configuration.source_files.values() for topic in source.topics}


async def _start_ledger(
    configuration: Configuration, supervisor: Supervisor, environment: Mapping[str, str], folders: ExitStack
) -> Child:
    """Start the ledger; with an embedded broker its folder is temporary, since the broker's data is."""
    settings, variables = configuration.settings, dict(environment)
    if settings.embedded:
        temporary = tempfile.TemporaryDirectory(prefix="turnout-ledger-", ignore_cleanup_errors=True)
        variables["TURNOUT_LEDGER__FOLDER"] = folders.enter_context(temporary)
        if settings.ledger.user_key is None:
            variables["TURNOUT_LEDGER__USER_KEY"] = secrets.token_hex(32)
    command = turnout_command("ledger", "--config", str(configuration.folder))
    return await supervisor.start("ledger", command, variables, essential=False)


def _url(facts: Mapping[str, Any]) -> str:
    """Return the collector's URL on this machine, from the fields that it logged when it was ready."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(facts["host"], facts["host"])
    return f"http://[{host}]:{facts['port']}" if ":" in host else f"http://{host}:{facts['port']}"


async def _start_broker(broker: Broker, supervisor: Supervisor) -> None:
    child = await supervisor.start("broker", embedded_broker.command(broker), os.environ)
    address = embedded_broker.address(broker)
    for _ in range(int(BROKER_START_SECONDS * 20)):
        if child.process.returncode is not None:
            raise Failed(child.exit_reason())
        with suppress(OSError):
            await asyncio.to_thread(lambda: socket.create_connection(address, 1).close())
            return
        await asyncio.sleep(0.05)
    raise Failed(f"the embedded broker does not respond on port {address[1]}")
