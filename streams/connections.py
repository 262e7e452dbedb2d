"""A mend of aiokafka 0.14.0: a write to a connection that the broker has closed is an error of the connection.

On asyncio's own loop such a write is dropped, and the answer that never comes is handled; on uvloop it raises
RuntimeError, which aiokafka takes for a bug of its own, and gives its consumer or producer up for good.
"""

from collections.abc import Awaitable
from typing import Any

import aiokafka.conn
from aiokafka.errors import KafkaConnectionError


class Connection(aiokafka.conn.AIOKafkaConnection):  # type: ignore[misc]  # aiokafka is untyped
    """A connection whose writes fail as aiokafka expects them to."""

    def send(self, request: Any, expect_response: bool = True) -> Awaitable[Any]:
        """Send as the parent does; raises KafkaConnectionError where the transport is closed already."""
        try:
            return super().send(request, expect_response)  # type: ignore[no-any-return]
        except RuntimeError as error:
            self.close(reason=aiokafka.conn.CloseReason.CONNECTION_BROKEN)
            raise KafkaConnectionError(f"Connection at {self.host}:{self.port} broken: {error}") from error


def mend() -> None:
    """Have aiokafka make its connections of this class."""
    aiokafka.conn.AIOKafkaConnection = Connection
