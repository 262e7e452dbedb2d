"""Run the console in a thread, without Kafka and without a ledger."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import requests
import uvicorn
from starlette.types import ASGIApp

from deploy.config.configuration import Configuration, read_configuration
from deploy.config.models.console import ConsoleSettings
from deploy.console.access.audit_log import AuditLog
from deploy.console.access.roles import Role
from deploy.console.app import ConsoleApp
from deploy.console.backend import Backend
from deploy.terminal.failures import listen
from streams.kafka.settings import Broker
from streams.ledger.api import LedgerApi
from streams.ledger.audit import AuditReport
from streams.ledger.settings import LedgerSettings
from streams.ledger.sqlite_store import SqliteReader
from streams.ledger.undelivered import PartitionDeliveries

EXAMPLE = Path("deploy/example")
NOWHERE = "127.0.0.1:1"
USERS = {Role.VIEWER: "Vera Lind", Role.OPERATOR: "Mira Vogt", Role.EDITOR: "Jonas Kern"}
LEDGER_KEY = b"a key for users, long"


class ServedConsole:
    """A console at `url`; `links` are the login links that it has printed."""

    def __init__(self, url: str, app: ConsoleApp, backend: Backend, links: list[str]) -> None:
        self.url, self.app, self.backend, self.links = url, app, backend, links

    def get(self, path: str, *, role: Role | None = None, **options: Any) -> requests.Response:
        """Get a page, logged in if there is a role."""
        return self.session(role).get(f"{self.url}{path}", timeout=60, allow_redirects=False, **options)

    def session(self, role: Role | None) -> requests.Session:
        """Return a client that is logged in as a role."""
        client = requests.Session()
        if role is not None:
            token = self.app.login._sessions.start(USERS[role], role)
            client.cookies.set(self.app.login._cookie._name, token)
        return client

    def csrf(self, client: requests.Session) -> str:
        """Return the CSRF token of a logged-in client's forms."""
        token = client.cookies.get(self.app.login._cookie._name)
        session = self.app.login._sessions.find(token)
        return session.csrf


def example(ledger_port: int = 1, **console: Any) -> Configuration:
    """Return the example with these console settings, and an unreachable Kafka.

    Without `ledger_port`, the ledger is also unreachable.
    """
    configuration = read_configuration(EXAMPLE)
    settings = configuration.settings.model_copy(
        update={
            "console": ConsoleSettings(**console),
            "broker": Broker(bootstrap=NOWHERE),
            "ledger": LedgerSettings(port=ledger_port),
        }
    )
    return replace(configuration, settings=settings)


@contextmanager
def serving_console(configuration: Configuration, file: Path | None = None) -> Iterator[ServedConsole]:
    """Run the console on a free port inside a `with` block."""
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        links: list[str] = []
        backend = Backend(lambda: configuration, AuditLog(file, b"key"))
        app = ConsoleApp(backend, port, links.append)
        try:
            with _serving(app, listener):
                yield ServedConsole(f"http://127.0.0.1:{port}", app, backend, links)
        finally:
            app.close()


@contextmanager
def serving_ledger(folder: Path) -> Iterator[int]:
    """Serve the API of a folder's ledger, without Kafka, inside a `with` block; yields its port."""

    async def audit(_since: int, _until: int | None) -> AuditReport:
        return AuditReport()

    async def find_deliveries(_integration: str, _since: int, _until: int | None) -> list[PartitionDeliveries]:
        return []

    def open_reader() -> SqliteReader:
        return SqliteReader(folder, LEDGER_KEY)

    api = LedgerApi(open_reader, audit, lambda: True, None, lambda: 0, find_deliveries)
    with listen("127.0.0.1", 0) as listener, _serving(api, listener):
        yield listener.getsockname()[1]


@contextmanager
def _serving(app: ASGIApp, listener: socket.socket) -> Iterator[None]:
    config = uvicorn.Config(
        app, ws="none", lifespan="off", log_config=None, server_header=False, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=asyncio.run, args=(server.serve([listener]),))
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()
