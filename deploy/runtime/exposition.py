"""Serve a process's metrics to Prometheus."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from deploy.config.settings import TurnoutSettings
from deploy.terminal.failures import Failed

PROCESSES = ("collector", "router", "forwarder", "ledger")
"""The processes with metrics; a process's index is added to `metrics_port`, so that each can run on one machine."""


def port_of(process: str, settings: TurnoutSettings) -> int | None:
    """Return the port of a process's metrics: 0 for any free port, None if they are not served."""
    return settings.metrics_port and settings.metrics_port + PROCESSES.index(process)


@contextmanager
def serve_metrics(process: str, settings: TurnoutSettings) -> Iterator[Mapping[str, Any]]:
    """Serve metrics from a thread inside the context; yields fields for the log. Raises Failed."""
    port = port_of(process, settings)
    if port is None:
        yield {}
        return
    from prometheus_client import disable_created_metrics, start_http_server

    disable_created_metrics()  # type: ignore[no-untyped-call]  # they would double the number of series
    try:
        server, thread = start_http_server(port, settings.metrics_host)
    except OSError as error:
        hint = "a second process of this kind needs another TURNOUT_METRICS_PORT"
        raise Failed(f"cannot serve metrics on {settings.metrics_host}:{port}: {error.strerror} ({hint})") from error
    try:
        yield {"metrics": server.server_port}
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
