"""Log JSON lines to stderr, without data of events."""

import json
import logging
import re
import sys
import threading
from collections.abc import Mapping
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

import orjson
import structlog

from deploy.terminal.escaping import escape
from streams.observability.logging import error_fields

if TYPE_CHECKING:
    from streams.kafka.outage import OutageWatch
    from streams.kafka.settings import Broker

READY = "ready"
"""The log message of a process that is ready for work; `turnout up` waits for it."""

STOPPED = "stopped"

REPEAT_SECONDS = 30.0
"""Seconds in which a library writes one line per cause, and Turnout one per thing that it tries again."""

RETRYING = "trying again"
"""Lines of ours that end so are repeated for as long as something does not work."""

_CLIENTS = ("aiokafka", "kafka")
"""Libraries whose messages contain only hosts, topics and errors. Faust's may contain whole records."""

_OF_KAFKA = (*_CLIENTS, "faust", "mode")
"""Libraries that complain while Kafka is away."""

_PLACEHOLDER = re.compile(r"%%|%(?:\(\w+\))?[-+ #0]*(?:\d+|\*)?(?:\.(?:\d+|\*))?[hlL]?[diouxXeEfFgGcrsa]")


def set_up(broker: "Broker | None" = None) -> None:
    """Write our logs, and libraries' warnings and errors, to stderr as JSON lines.

    With a `broker`, errors that libraries log are replaced by one line while Kafka is unreachable.
    """
    watch = None
    if broker is not None:
        from streams.kafka.outage import OutageWatch

        watch = OutageWatch(broker)
    limit = _Limit()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            _RetryFilter(limit, watch),
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.JSONRenderer(serializer=_encode),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.BytesLoggerFactory(sys.stderr.buffer),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[_Handler(limit, watch)], level=logging.WARNING, force=True)
    # They report each step that is a little late, as all are on a busy machine. The watchdog reports real stalls.
    logging.getLogger("kafka.net.selector").setLevel(logging.ERROR)
    logging.getLogger("mode.timers").setLevel(logging.CRITICAL)
    logging.getLogger("streams.kafka.consumer_thread").addFilter(_is_no_late_thread)
    threading.excepthook = _log_failed_thread


def _is_no_late_thread(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("Thread keepalive is not responding")


def log_ready(process: str, **facts: Any) -> None:
    """Log that a process is ready for work."""
    structlog.get_logger().info(READY, process=process, **facts)


def log_stopped(process: str, code: int) -> None:
    """Log that a process has finished its work, with its exit code."""
    structlog.get_logger().info(STOPPED, process=process, code=code)


def _encode(facts: Any, **options: Any) -> bytes:
    """Encode a log line, with control characters escaped for terminals."""
    try:
        encoded = orjson.dumps(facts, **options)
    except TypeError:  # a lone surrogate
        encoded = json.dumps(facts, default=str).encode()
    return escape(encoded.decode()).encode()


def _log_failed_thread(failed: threading.ExceptHookArgs) -> None:
    """Log that a thread failed, in one line: Python would print the text of its error."""
    if failed.exc_value is not None:
        logging.getLogger("threading").error("a thread failed", exc_info=failed.exc_value)


class _Limit:
    """Allows one line per cause in REPEAT_SECONDS, and counts the others."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._causes: dict[Any, tuple[float, int]] = {}

    def allow(self, cause: Any) -> int | None:
        """Return how many lines were left out since the last one; None if this one is also left out."""
        with self._lock:
            now = monotonic()
            began, left_out = self._causes.get(cause, (float("-inf"), 0))
            if now - began < REPEAT_SECONDS:
                self._causes[cause] = began, left_out + 1
                return None
            self._causes[cause] = now, 0
            return left_out


class _RetryFilter:
    """Limits our own lines about operations that are being retried."""

    def __init__(self, limit: _Limit, watch: "OutageWatch | None") -> None:
        self._limit, self._watch = limit, watch

    def __call__(self, _logger: Any, _method: str, facts: Any) -> Any:
        if not str(facts["event"]).endswith(RETRYING) or facts.pop("_is_known", False):
            return facts
        cause = tuple((key, str(facts[key])) for key in sorted(facts.keys() & {"event", "topic", "integration"}))
        if (left_out := self._limit.allow(cause)) is None:
            raise structlog.DropEvent
        if left_out:
            facts["left_out"] = left_out
        if self._watch is None:
            return facts
        # Written by the watch, unless Kafka is away.
        level, fields = facts.pop("level"), {**facts, "_is_known": True}
        event = fields.pop("event")
        self._watch.complain(partial(structlog.get_logger().log, logging.getLevelName(level.upper()), event, **fields))
        raise structlog.DropEvent


class _Handler(logging.Handler):
    """Passes libraries' log records to structlog, mostly without the arguments of the message."""

    def __init__(self, limit: _Limit, watch: "OutageWatch | None") -> None:
        super().__init__(logging.WARNING)
        self._limit, self._watch = limit, watch

    def emit(self, record: logging.LogRecord) -> None:
        facts: dict[str, Any] = {"logger": record.name}
        if record.exc_info and record.exc_info[1]:
            facts |= error_fields(record.exc_info[1])
        is_of_client = record.name.startswith(_CLIENTS)
        message = _format(record) if is_of_client else _format_without_arguments(record)
        write = partial(self._write, record, message.splitlines()[0] if message else "", facts)
        if self._watch is not None and record.name.startswith(_OF_KAFKA):
            self._watch.complain(write, is_suspicious=is_of_client)
        else:
            write()

    def _write(self, record: logging.LogRecord, message: str, facts: Mapping[str, Any]) -> None:
        if (left_out := self._limit.allow((record.name, record.levelno, str(record.msg)))) is None:
            return
        more = {"left_out": left_out} if left_out else {}
        structlog.get_logger().log(record.levelno, message, **facts, **more)


class _Hidden:
    """Replaces an argument of a message, which may be a record."""

    def __repr__(self) -> str:
        return "…"


def _format(record: logging.LogRecord) -> str:
    """Format a message with its arguments, even if they do not match its placeholders."""
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):
        return _fill(str(record.msg))


def _format_without_arguments(record: logging.LogRecord) -> str:
    """Return a message with `…` for each argument other than a number."""
    text, args = str(record.msg), record.args
    if not args:
        return text
    try:
        if isinstance(args, Mapping):
            return text % {key: _hide(value) for key, value in args.items()}
        return text % tuple(map(_hide, args))
    except (TypeError, ValueError, KeyError):
        return _fill(text)


def _fill(text: str) -> str:
    """Replace each placeholder of a message whose arguments do not match."""
    return _PLACEHOLDER.sub(lambda found: "%" if found[0] == "%%" else "…", text)


def _hide(value: object) -> object:
    return value if isinstance(value, int | float) else _Hidden()
