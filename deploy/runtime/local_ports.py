"""Choose the ports of `turnout up`: the configured ones, or the next that are free."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import NamedTuple

from deploy.config.settings import DELIMITER, PREFIX, TurnoutSettings
from deploy.runtime import embedded_broker
from deploy.runtime.exposition import PROCESSES
from deploy.terminal.failures import Failed, listen

MAX_PORT = 65_535


class PortUse(NamedTuple):
    """A port, or the first of a `row` of ports, that a process listens on; `variable` sets it."""

    user: str
    variable: str
    host: str
    port: int
    row: int = 1

    def at(self, port: int) -> str:
        """Return the variable's value for another port."""
        return f"{self.host}:{port}" if self.variable == BROKER_VARIABLE else str(port)


BROKER_VARIABLE = f"{PREFIX}BROKER{DELIMITER}BOOTSTRAP"


class ChosenPorts(NamedTuple):
    """Variables that replace busy ports, and a line about each."""

    variables: Mapping[str, str]
    notes: list[str]


def choose_ports(settings: TurnoutSettings) -> ChosenPorts:
    """Return replacements for the settings' ports that are in use; raises Failed if no port is free."""
    uses = [use for use in _uses(settings) if use.port]
    wanted = {number for use in uses for number in range(use.port, use.port + use.row)}
    taken: set[int] = set()
    variables, notes = {}, []
    for use in uses:
        own = set(range(use.port, use.port + use.row))
        port = _next_free(use, taken | (wanted - own))
        taken |= set(range(port, port + use.row))
        if port != use.port:
            variables[use.variable] = use.at(port)
            notes.append(f"port {use.port} is in use; using {port} for the {use.user}")
    return ChosenPorts(variables, notes)


def _uses(settings: TurnoutSettings) -> Iterator[PortUse]:
    yield PortUse("collector", _variable("COLLECTOR", "PORT"), settings.collector.host, settings.collector.port)
    yield PortUse("ledger", _variable("LEDGER", "PORT"), settings.ledger.host, settings.ledger.port)
    yield PortUse("console", _variable("CONSOLE", "PORT"), settings.console.host, settings.console.port)
    # A process whose default port is in use takes a free one by itself.
    if settings.metrics_port and "metrics_port" in settings.model_fields_set:
        variable, host = _variable("METRICS_PORT"), settings.metrics_host
        yield PortUse("metrics", variable, host, settings.metrics_port, len(PROCESSES))
    if settings.simulator_port:
        yield PortUse("simulator", _variable("SIMULATOR_PORT"), "127.0.0.1", settings.simulator_port)
    if settings.embedded:
        yield PortUse("embedded broker", BROKER_VARIABLE, *embedded_broker.address(settings.broker))


def _variable(*names: str) -> str:
    return PREFIX + DELIMITER.join(names)


def _next_free(use: PortUse, taken: set[int]) -> int:
    """Return the first free port at or after the configured one, with the rest of its row."""
    for first in range(use.port, MAX_PORT + 2 - use.row):
        ports = range(first, first + use.row)
        if not taken.intersection(ports) and _are_free(use.host, ports):
            return first
    raise Failed(f"no free port for the {use.user} from {use.port} on")


def _are_free(host: str, ports: range) -> bool:
    try:
        with ExitStack() as sockets:
            for port in ports:
                sockets.enter_context(listen(host, port))
    except Failed:
        return False
    return True
