"""Reserve ports for processes that need a fixed one."""

import random
import socket
from contextlib import suppress
from pathlib import Path

_HELD: list[socket.socket] = []
_DICE = random.SystemRandom()


def free_port() -> int:
    """Return a free TCP port that is reserved until the test run ends."""
    return free_row(1)


def free_row(length: int) -> int:
    """Return the first of `length` such ports in a row.

    They are outside the kernel's ephemeral range. A UDP socket on each reserves it among test runs.
    """
    first, last = _range()
    while True:
        port = _DICE.randrange(first, last - length)
        guards: list[socket.socket] = []
        with suppress(OSError):
            for each in range(port, port + length):
                guards.append(socket.socket(type=socket.SOCK_DGRAM))
                guards[-1].bind(("127.0.0.1", each))
                socket.create_server(("", each)).close()
            _HELD.extend(guards)
            return port
        for guard in guards:
            guard.close()


def _range() -> tuple[int, int]:
    """Return the larger range of ports below or above the ephemeral ones."""
    low, high = 32_768, 60_999
    with suppress(OSError):
        low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    return max((10_000, low), (high + 1, 65_536), key=lambda ports: ports[1] - ports[0])
