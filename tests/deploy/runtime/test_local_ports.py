import socket

from deploy.config.settings import TurnoutSettings
from deploy.runtime.local_ports import choose_ports
from tests.support.ports import free_port, free_row


def settings(**given: object) -> TurnoutSettings:
    ports = {name: {"host": "127.0.0.1", "port": free_port()} for name in ("collector", "ledger", "console")}
    return TurnoutSettings(**{**ports, **given})


def test_free_ports_stay():
    """If all configured ports are free, nothing is replaced."""
    assert choose_ports(settings(metrics_port=free_row(4))) == ({}, [])


def test_busy_port_is_replaced_by_the_next_free_one():
    """A port in use is replaced, and a line says so."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        chosen = choose_ports(settings(collector={"host": "127.0.0.1", "port": port}, metrics_port=None))
    new = int(chosen.variables["TURNOUT_COLLECTOR__PORT"])
    assert new > port
    assert chosen.notes == [f"port {port} is in use; using {new} for the collector"]


def test_default_ports_of_metrics_are_left_to_the_processes():
    """Each process takes a free port if its default one is in use, at the time that it starts."""
    default = settings().metrics_port
    assert default
    try:
        taken = socket.create_server(("127.0.0.1", default))
    except OSError:
        assert choose_ports(settings()).variables == {}
        return
    with taken:
        assert choose_ports(settings()).variables == {}
