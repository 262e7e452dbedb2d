"""Logs: JSON lines on stderr, without anything of an event."""

import json
import logging
import sys
from typing import Any

import orjson
import structlog

from deploy.terminal.escaping import escape
from streams.observability.logging import error_fields

READY = "ready"
"""What a process logs when it has begun its work; `turnout up` waits for it."""

_CLIENTS = ("aiokafka", "kafka")
"""Libraries whose messages name hosts, topics and errors only. Faust's may hold a whole record."""


def set_up() -> None:
    """Send our logs, and the libraries' from warnings up, to stderr as JSON lines."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.JSONRenderer(serializer=_encode),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.BytesLoggerFactory(sys.stderr.buffer),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[_Handler(logging.WARNING)], level=logging.WARNING, force=True)


def say_ready(process: str, **facts: Any) -> None:
    """Say that a process has begun its work."""
    structlog.get_logger().info(READY, process=process, **facts)


def _encode(facts: Any, **options: Any) -> bytes:
    """Encode a line of the log, in which a terminal finds nothing to obey."""
    try:
        encoded = orjson.dumps(facts, **options)
    except TypeError:  # half of a surrogate pair
        encoded = json.dumps(facts, default=str).encode()
    return escape(encoded.decode()).encode()


class _Handler(logging.Handler):
    """Hands libraries' records on to structlog, most without the arguments of their message."""

    def emit(self, record: logging.LogRecord) -> None:
        facts: dict[str, Any] = {"logger": record.name}
        if record.exc_info and record.exc_info[1]:
            facts |= error_fields(record.exc_info[1])
        said = record.getMessage() if record.name.startswith(_CLIENTS) else str(record.msg)
        structlog.get_logger().log(record.levelno, said.splitlines()[0] if said else "", **facts)
