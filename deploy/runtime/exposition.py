"""Serves a process's metrics to Prometheus."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from deploy.config.settings import TurnoutSettings
from deploy.terminal.failures import Failed

PROCESSES = ("collector", "router", "forwarder", "ledger")
"""The processes that have metrics, by their distance from `metrics_port`: one of each can run on a machine."""


def port_of(process: str, settings: TurnoutSettings) -> int | None:
    """Where a process serves its metrics: 0 is any free port, None not at all."""
    return settings.metrics_port and settings.metrics_port + PROCESSES.index(process)


@contextmanager
def serving_metrics(process: str, settings: TurnoutSettings) -> Iterator[Mapping[str, Any]]:
    """Serve metrics while this is entered, from a thread; yields what the log is to say of it. Raises Failed."""
    port = port_of(process, settings)
    if port is None:
        yield {}
        return
    from prometheus_client import disable_created_metrics, start_http_server

    disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, which nobody asks for
    try:
        server, thread = start_http_server(port, settings.metrics_host)
    except OSError as error:
        hint = "another process of the kind wants another TURNOUT_METRICS_PORT"
        raise Failed(f"cannot serve metrics on {settings.metrics_host}:{port}: {error.strerror} ({hint})") from error
    try:
        yield {"metrics": server.server_port}
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
