"""Run all of Turnout on one machine: the command `turnout up`."""

import asyncio
import os
import secrets
import signal
import socket
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any

from deploy.config.configuration import Configuration
from deploy.runtime import embedded_broker
from deploy.runtime.exposition import PROCESSES, port_of
from deploy.runtime.live_view import LiveView, Watch
from deploy.runtime.supervisor import Child, Supervisor, turnout_command
from deploy.runtime.up_output import Terminal
from deploy.runtime.workers import check_topics
from deploy.terminal.failures import Failed, listen
from streams.kafka.admin import create_topics, find_partitions
from streams.kafka.settings import Broker, BrokerError

READY_TIMEOUT = 120.0
"""Seconds that each stage of the start may take; it takes 3 on an idle machine, and up to 40 on a busy one."""

BROKER_TIMEOUT = 20.0
"""Seconds to wait for the broker's response about topics; stopping waits as long."""

GRACE = "3"
"""Seconds for each worker to finish its work, so that all have stopped within 10."""


async def run(configuration: Configuration) -> int:
    """Start all processes, show events until SIGINT or SIGTERM, and stop them; returns the exit code."""
    terminal = Terminal(configuration)
    supervisor = Supervisor(terminal.report)
    with ExitStack() as folders:
        return await _run(configuration, terminal, supervisor, folders)


async def _run(configuration: Configuration, terminal: Terminal, supervisor: Supervisor, folders: ExitStack) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    work = asyncio.create_task(_run_all(configuration, supervisor, terminal, folders))
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


async def _run_all(
    configuration: Configuration, supervisor: Supervisor, terminal: Terminal, folders: ExitStack
) -> None:
    """Start all processes and show events; raises Failed if a process other than the ledger or the console ends."""
    settings = configuration.settings
    _check_ports_are_free(configuration)
    environment = {**os.environ, "TURNOUT_GRACE": GRACE}

    async def start(command: str, *arguments: str) -> Child:
        return await supervisor.start(command, turnout_command(command, *arguments), environment)

    terminal.print_line(f"starting with the configuration in {configuration.folder}")
    if settings.embedded:
        await _start_broker(settings.broker, supervisor)
        # Nobody else can have created external topics in the embedded broker.
        declared = [replace(it, partitions=it.partitions or settings.partitions) for it in configuration.declared]
        await asyncio.to_thread(create_topics, settings.broker, declared, settings.replication, BROKER_TIMEOUT)
    else:
        await asyncio.to_thread(check_topics, configuration, BROKER_TIMEOUT)
    commands: list[tuple[str, ...]] = [
        (command, "--config", str(configuration.folder)) for command in ("forwarder", "router", "collector")
    ]
    if settings.simulator_port:
        commands.insert(0, ("simulate", "--quiet", "--port", str(settings.simulator_port)))
    children = [await start(*command) for command in commands]
    read = {topic: source.source for source in configuration.source_files.values() for topic in source.topics}
    view = LiveView(configuration.topics, configuration.integrations, read)
    partitions = await asyncio.to_thread(find_partitions, settings.broker, configuration.declared, BROKER_TIMEOUT)
    watch = Watch(settings.broker, partitions, view)
    tasks: list[asyncio.Task[Any]] = []
    try:
        await watch.start()
        await supervisor.until_ready(children, READY_TIMEOUT)
        # Last, so that events are accepted as soon as before.
        await _start_ledger(configuration, supervisor, environment, folders)
        command = turnout_command("console", "--config", str(configuration.folder))
        console = await supervisor.start("console", command, environment, essential=False)
        await supervisor.until_ready_or_ended(console, READY_TIMEOUT)
        terminal.welcome(_url(children[-1].facts), console.facts.get("link"))
        watching = asyncio.create_task(watch.run(terminal.show_update, terminal.show_rejected))
        ended = asyncio.create_task(supervisor.until_one_ends())
        tasks = [watching, ended]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        raise Failed(ended.result().exit_reason() if ended.done() else f"cannot watch: {watching.exception()}")
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await watch.stop()


async def _start_ledger(
    configuration: Configuration, supervisor: Supervisor, environment: Mapping[str, str], folders: ExitStack
) -> None:
    """Start the ledger; the data of an embedded broker ends with it, and so does that ledger's folder."""
    settings, variables = configuration.settings, dict(environment)
    if settings.embedded:
        temporary = tempfile.TemporaryDirectory(prefix="turnout-ledger-", ignore_cleanup_errors=True)
        variables["TURNOUT_LEDGER__FOLDER"] = folders.enter_context(temporary)
        if settings.ledger.user_key is None:
            variables["TURNOUT_LEDGER__USER_KEY"] = secrets.token_hex(32)
    command = turnout_command("ledger", "--config", str(configuration.folder))
    await supervisor.start("ledger", command, variables, essential=False)


def _url(facts: Mapping[str, Any]) -> str:
    """Return the collector's URL on this machine, from the fields that it logged when it was ready."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(facts["host"], facts["host"])
    return f"http://[{host}]:{facts['port']}" if ":" in host else f"http://{host}:{facts['port']}"


def _check_ports_are_free(configuration: Configuration) -> None:
    settings = configuration.settings
    listen(settings.collector.host, settings.collector.port).close()
    for port in (port_of(process, settings) for process in PROCESSES):
        if port:
            listen(settings.metrics_host, port).close()
    if settings.simulator_port:
        listen("127.0.0.1", settings.simulator_port).close()
    if settings.embedded:
        listen(*embedded_broker.address(settings.broker)).close()


async def _start_broker(broker: Broker, supervisor: Supervisor) -> None:
    child = await supervisor.start("broker", embedded_broker.command(broker), os.environ)
    address = embedded_broker.address(broker)
    for _ in range(int(READY_TIMEOUT * 20)):
        if child.process.returncode is not None:
            raise Failed(child.exit_reason())
        with suppress(OSError):
            await asyncio.to_thread(lambda: socket.create_connection(address, 1).close())
            return
        await asyncio.sleep(0.05)
    raise Failed(f"the embedded broker does not respond on port {address[1]}")
