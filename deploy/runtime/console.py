"""The process `turnout console`: serves pages, and reloads a changed configuration."""

import asyncio
import signal
import socket
import sys
import threading
from collections.abc import Callable

import structlog

from deploy.config.configuration import Configuration
from deploy.console.access.audit_log import AuditLog
from deploy.console.app import ConsoleApp
from deploy.console.backend import Backend
from deploy.runtime.logs import log_ready
from deploy.runtime.reload import Reloader
from deploy.terminal.escaping import echo
from streams.worker.http_server import HttpServer, server_config

log = structlog.get_logger()

STOP_SECONDS = 1
"""Seconds that requests may take when the process stops; streams are open for as long as the page is."""


def run(configuration: Configuration, listener: socket.socket, read: Callable[[], Configuration]) -> int:
    """Run the console until SIGTERM or SIGINT; returns the exit code."""
    return asyncio.run(_run(configuration, listener, read))


async def _run(configuration: Configuration, listener: socket.socket, read: Callable[[], Configuration]) -> int:
    reloader = Reloader(configuration, read)
    settings = configuration.settings
    file = settings.console.audit_log
    audit_log = AuditLog(configuration.folder / file if file else None, settings.ledger.key)
    backend = Backend(lambda: reloader.current, audit_log)
    host, port = listener.getsockname()[:2]
    # A warning, because `turnout up` shows those.
    app = ConsoleApp(backend, port, lambda link: log.warning("open the console", link=link))

    def report_ready() -> None:
        link = app.login.link() if app.login.uses_links else settings.console.address(port)
        if sys.stdout.isatty():
            echo(f"open {link}")
        log_ready("console", host=host, port=port, link=link)

    server = HttpServer(server_config(app, timeout_graceful_shutdown=STOP_SECONDS), report_ready)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    # A daemon, so that a Kafka that does not answer delays neither the start nor the stop.
    threading.Thread(target=app.warm_up, name="warm-up", daemon=True).start()
    serving = asyncio.create_task(server.serve([listener]))
    stopped = asyncio.create_task(stopping.wait())
    async with reloader.running():
        await asyncio.wait([stopped, serving], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    server.should_exit = True
    await serving
    await asyncio.to_thread(app.close)
    return 0
