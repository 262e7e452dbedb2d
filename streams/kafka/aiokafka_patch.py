"""Patch aiokafka 0.14.0 to treat a write to a closed connection as a connection error.

On asyncio's own loop such a write is dropped, and the missing response is handled. On uvloop it raises RuntimeError;
aiokafka treats that as an internal bug, and its consumer or producer stops for good.
"""

from collections.abc import Awaitable
from typing import Any

import aiokafka.conn
from aiokafka.errors import KafkaConnectionError


class PatchedConnection(aiokafka.conn.AIOKafkaConnection):  # type: ignore[misc]  # aiokafka is untyped
    """A connection whose failed writes raise the error that aiokafka handles."""

    def send(self, request: Any, expect_response: bool = True) -> Awaitable[Any]:
        """Send as the parent does; raises KafkaConnectionError if the transport is already closed."""
        try:
            return super().send(request, expect_response)  # type: ignore[no-any-return]
        except RuntimeError as error:
            self.close(reason=aiokafka.conn.CloseReason.CONNECTION_BROKEN)
            raise KafkaConnectionError(f"Connection at {self.host}:{self.port} broken: {error}") from error


def apply() -> None:
    """Make aiokafka use this class for its connections."""
    aiokafka.conn.AIOKafkaConnection = PatchedConnection
