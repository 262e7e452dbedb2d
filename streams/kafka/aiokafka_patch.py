"""Patch aiokafka 0.14.0 to treat a write to a closed connection as a connection error.

On asyncio's own loop such a write is dropped, and the answer that never comes is handled; on uvloop it raises
RuntimeError, which aiokafka takes for a bug of its own, and gives its consumer or producer up for good.
"""

from collections.abc import Awaitable
from typing import Any

import aiokafka.conn
from aiokafka.errors import KafkaConnectionError


class PatchedConnection(aiokafka.conn.AIOKafkaConnection):  # type: ignore[misc]  # aiokafka is untyped
    """A connection whose failed writes raise what aiokafka expects."""

    def send(self, request: Any, expect_response: bool = True) -> Awaitable[Any]:
        """Send as the parent does; raises KafkaConnectionError where the transport is closed already."""
        try:
            return super().send(request, expect_response)  # type: ignore[no-any-return]
        except RuntimeError as error:
            self.close(reason=aiokafka.conn.CloseReason.CONNECTION_BROKEN)
            raise KafkaConnectionError(f"Connection at {self.host}:{self.port} broken: {error}") from error


def apply() -> None:
    """Make aiokafka use this class for its connections."""
    aiokafka.conn.AIOKafkaConnection = PatchedConnection
