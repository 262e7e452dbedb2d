"""Declare the collector's error codes and the exception for a rejected request."""

from collections.abc import Mapping
from typing import NamedTuple

import orjson
import structlog

from streams.events import EventError
from streams.observability.internal_error import to_exception
from streams.observability.logging import error_fields

log = structlog.get_logger()


class Refusal(NamedTuple):
    """The HTTP status of an error code, and its explanation in the API reference."""

    status: int
    meaning: str


REFUSALS: Mapping[str, Refusal] = {
    "bad_request": Refusal(400, "The request is not valid HTTP. The connection is closed."),
    "bad_encoding": Refusal(400, "The body is not compressed as `Content-Encoding` says, or is truncated."),
    "json": Refusal(400, "The body is not valid JSON."),
    "not_an_object": Refusal(400, "The body is not a JSON object."),
    "no_batch": Refusal(400, "`batch` is missing, or is not a list."),
    "bad_batch": Refusal(400, "`context` or `integrations` of the batch is not an object, or is invalid JSON."),
    "too_many_events": Refusal(400, "The batch has more events than the limit."),
    "bad_query": Refusal(400, "A pixel's parameters are not UTF-8, too many, or contradictory."),
    "bad_data": Refusal(400, "A pixel's `data` is not a JSON object in base64."),
    "unauthorized": Refusal(401, "The write key is missing or unknown."),
    "key_disabled": Refusal(401, "The write key is disabled."),
    "bad_signature": Refusal(401, "A webhook's signature is missing, wrong or too old."),
    "origin": Refusal(403, "The source does not accept events from pages of this origin."),
    "not_found": Refusal(404, "There is nothing at this path."),
    "source_disabled": Refusal(404, "The source is disabled."),
    "method_not_allowed": Refusal(405, "The path does not support this method; `Allow` lists the supported methods."),
    "timeout": Refusal(408, "The request did not complete in time. The connection is closed."),
    "too_large": Refusal(413, "The body exceeds the limit, as sent, decompressed, or with its context in each event."),
    "unsupported_encoding": Refusal(415, "`Content-Encoding` is not gzip, deflate or identity."),
    "throttled": Refusal(429, "The write key exceeds its rate limit; wait for `Retry-After` seconds."),
    "head_too_large": Refusal(431, "The request's line and headers exceed the limit. The connection is closed."),
    "internal": Refusal(500, "The collector failed; its log has the reason. Send the request again."),
    "overloaded": Refusal(503, "Too many events wait for Kafka. Send the request again after `Retry-After` seconds."),
    "unconfirmed": Refusal(503, "Kafka has not confirmed the events. Send the request again."),
    "not_ready": Refusal(503, "Kafka does not answer; only for `/ready`."),
}
"""Every error code of a rejected request. A rejected event has the code of its EventError."""


RETRY_SOON = ((b"retry-after", b"5"),)
"""Header of errors that end when Kafka has a new leader, which is usually elected within seconds."""


class RequestError(Exception):
    """A request that is rejected with a code of REFUSALS and a message for people."""

    def __init__(
        self, code: str, message: str, headers: tuple[tuple[bytes, bytes], ...] = (), *, status: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = REFUSALS[code].status if status is None else status
        self.code = code
        self.headers = headers

    @classmethod
    def of_event(cls, error: EventError) -> "RequestError":
        """Reject a request whose only event is invalid."""
        return cls(error.code, str(error), status=REFUSALS["json"].status)

    @property
    def body(self) -> bytes:
        """Return the response's JSON. rudder-sdk-python retries a request if the response lacks one of these keys."""
        return orjson.dumps({"code": self.code, "message": str(self)})


def report_failure(path: str, error: BaseException) -> RequestError:
    """Log an internal error without its text, which can quote an event, and return the response's error.

    Raises the error itself if it ends the task or the process.
    """
    log.error("request failed", path=path, **error_fields(to_exception(error)))
    return RequestError("internal", "the collector failed; see its log")
