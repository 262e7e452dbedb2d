"""Log JSON lines to stderr, without data of events."""

import json
import logging
import sys
from typing import Any

import orjson
import structlog

from deploy.terminal.escaping import escape
from streams.observability.logging import error_fields

READY = "ready"
"""The log message of a process that is ready for work; `turnout up` waits for it."""

_CLIENTS = ("aiokafka", "kafka")
"""Libraries whose messages contain only hosts, topics and errors. Faust's may contain whole records."""


def set_up() -> None:
    """Write our logs, and libraries' warnings and errors, to stderr as JSON lines."""
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


def log_ready(process: str, **facts: Any) -> None:
    """Log that a process is ready for work."""
    structlog.get_logger().info(READY, process=process, **facts)


def _encode(facts: Any, **options: Any) -> bytes:
    """Encode a log line, with control characters escaped for terminals."""
    try:
        encoded = orjson.dumps(facts, **options)
    except TypeError:  # a lone surrogate
        encoded = json.dumps(facts, default=str).encode()
    return escape(encoded.decode()).encode()


class _Handler(logging.Handler):
    """Passes libraries' log records to structlog, mostly without the arguments of the message."""

    def emit(self, record: logging.LogRecord) -> None:
        facts: dict[str, Any] = {"logger": record.name}
        if record.exc_info and record.exc_info[1]:
            facts |= error_fields(record.exc_info[1])
        message = record.getMessage() if record.name.startswith(_CLIENTS) else str(record.msg)
        structlog.get_logger().log(record.levelno, message.splitlines()[0] if message else "", **facts)
