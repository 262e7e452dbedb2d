"""Check the health of this container's process: python -m deploy.image.healthcheck.

Each kind of process serves it on its own port after TURNOUT_METRICS_PORT, and a container runs one process. Only the
standard library is imported, because this runs every few seconds.
"""

import os
import sys
from contextlib import suppress
from http.client import HTTPConnection, HTTPException

MAX_PROCESSES = 8
"""Ports that are tried, starting at the first process's."""

TIMEOUT_SECONDS = 4.0


def main() -> int:
    """Return 0 if the process responds that it is healthy, else 1."""
    first = int(os.environ.get("TURNOUT_METRICS_PORT", "9400"))
    for port in range(first, first + MAX_PROCESSES):
        with suppress(ConnectionRefusedError):
            return 0 if _status(port) == 200 else 1
    return 1


def _status(port: int) -> int:
    connection = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status
    except HTTPException:
        return 0
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
