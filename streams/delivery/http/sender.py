"""One attempt to deliver a batch: build and send the request, or write, and return one result per delivery."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import structlog

from forwarders.api.contract import (
    AuthFailed,
    Delivered,
    Delivery,
    Forwarder,
    HttpForwarder,
    OffsetRange,
    PermanentFailure,
    Request,
    Response,
    Result,
    Retired,
    Retry,
    Split,
    Throttled,
    WriterForwarder,
)
from forwarders.api.oauth import authorize
from streams.delivery.http.client import Client, UnreachableError, UnsendableError
from streams.delivery.http.tokens import NoTokenError, Tokens
from streams.delivery.outcomes.dead_letters import InternalFailure
from streams.delivery.outcomes.pending import PendingDelivery
from streams.observability.internal_error import PanicError, to_exception
from streams.observability.logging import error_fields
from streams.observability.metrics import INTERNAL_FAILURES

log = structlog.get_logger()


DELIVERY_ERRORS = (
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    RecursionError,
    PanicError,
)
"""Errors of a writer that point to an invalid delivery, and not to the disk, the network or a database."""


class Attempt(NamedTuple):
    """The outcome of an attempt: one result per delivery, the request and response, and why no request was sent."""

    results: Sequence[Result]
    request: Request | None = None
    response: Response | None = None
    why: str = ""

    @property
    def status(self) -> str:
        """Return the status for metrics: `2xx` and so on, or `written` or `failed` without a response."""
        if self.response is not None:
            return f"{self.response.status // 100}xx"
        return "written" if all(isinstance(result, Delivered) for result in self.results) else "failed"


class BatchSender:
    """Send batches to one integration's vendor; errors of the vendor or the forwarder become results."""

    def __init__(self, integration: str, forwarder: Forwarder[Any], client: Client, tokens: Tokens) -> None:
        self._integration, self._forwarder, self._client, self._tokens = integration, forwarder, client, tokens

    async def open(self) -> None:
        """Open connections or files."""
        await self._client.open()
        if isinstance(self._forwarder, WriterForwarder):
            await self._forwarder.open()

    async def close(self) -> None:
        """Close connections or files."""
        if isinstance(self._forwarder, WriterForwarder):
            await self._forwarder.close()
        await self._tokens.close()
        await self._client.close()

    async def send(self, deliveries: Sequence[PendingDelivery]) -> Attempt:
        """Make one attempt to deliver these deliveries."""
        forwarder = self._forwarder
        if isinstance(forwarder, WriterForwarder):
            return Attempt(await self._write(forwarder, deliveries))
        assert isinstance(forwarder, HttpForwarder)
        return await self._request(forwarder, deliveries)

    async def _request(self, forwarder: HttpForwarder[Any], deliveries: Sequence[PendingDelivery]) -> Attempt:
        items = [pending.item for pending in deliveries]
        request = None
        try:
            request = _build_request(forwarder, items)
            return await self._authenticate(forwarder, request, items, deliveries)
        except NoTokenError as error:
            return Attempt([error.result] * len(items), why=str(error))
        except BaseException as error:  # noqa: BLE001  # an error in a forwarder must not stop the worker
            return Attempt(_alone_or_split(items, InternalFailure.by(to_exception(error))), request)

    async def _authenticate(
        self,
        forwarder: HttpForwarder[Any],
        request: Request,
        items: Sequence[Delivery],
        deliveries: Sequence[PendingDelivery],
    ) -> Attempt:
        """Send with an access token if the vendor requires one; raises NoTokenError."""
        token = await self._tokens.get()
        if token is None:
            return await self._exchange(forwarder, request, items)
        if any(pending.fetched.dropped for pending in deliveries):
            return Attempt([Retry()] * len(items), request)  # revoked while the token was fetched
        attempt = await self._exchange(forwarder, authorize(request, token), items)
        if all(isinstance(result, AuthFailed) for result in attempt.results):
            # The token may have been revoked before it expired.
            self._tokens.drop(token)
            fresh = await self._tokens.get()
            if fresh and not any(pending.fetched.dropped for pending in deliveries):
                return await self._exchange(forwarder, authorize(request, fresh), items)
        return attempt

    async def _exchange(self, forwarder: HttpForwarder[Any], request: Request, items: Sequence[Delivery]) -> Attempt:
        try:
            response = await self._client.send(request)
        except UnreachableError as error:
            log.warning("no response", integration=self._integration, error=str(error))
            return Attempt([Retry()] * len(items), request)
        except UnsendableError as error:
            return Attempt(_alone_or_split(items, PermanentFailure("request", str(error))), request)
        try:
            return Attempt(_checked(forwarder.parse_response(response, items), len(items)), request, response)
        except BaseException as error:  # noqa: BLE001  # as above: the status gives a result
            place = error_fields(to_exception(error))
            log.error("the forwarder failed to parse a response", integration=self._integration, **place)  # noqa: TRY400
        INTERNAL_FAILURES.labels(self._integration).inc()
        return Attempt(HttpForwarder.parse_response(forwarder, response, items), request, response)

    async def _write(self, forwarder: WriterForwarder[Any], deliveries: Sequence[PendingDelivery]) -> Sequence[Result]:
        place = OffsetRange(*deliveries[0].fetched.tp, deliveries[0].record.offset, deliveries[-1].record.offset)
        try:
            return _checked(await forwarder.write([pending.item for pending in deliveries], place), len(deliveries))
        except BaseException as error:  # noqa: BLE001  # an error in a forwarder must not stop the worker
            return self._result_of_failed_write(to_exception(error), deliveries)

    def _result_of_failed_write(self, error: Exception, deliveries: Sequence[PendingDelivery]) -> Sequence[Result]:
        if isinstance(error, DELIVERY_ERRORS):
            return _alone_or_split(deliveries, InternalFailure.by(error))
        # A full disk, or a database that cannot be reached.
        log.warning("write failed", integration=self._integration, **error_fields(error))
        return [Retry()] * len(deliveries)


def _build_request(forwarder: HttpForwarder[Any], items: Sequence[Delivery]) -> Request:
    request = forwarder.build_request(items)
    if not isinstance(request, Request):
        raise TypeError("build_request did not return a Request")
    return request


def _checked(results: Sequence[Result], count: int) -> Sequence[Result]:
    """Return a forwarder's results; raises TypeError unless there is one per delivery."""
    if len(results) != count:
        raise TypeError("the forwarder did not return one result per delivery")
    for result in results:
        if type(result) is not Delivered and not _is_result(result):
            raise TypeError("the forwarder returned an invalid result")
    return results


def _is_result(result: object) -> bool:
    """Whether delivery can act on a forwarder's result."""
    match result:
        case Delivered() | Split() | AuthFailed() | Retired():
            return True
        case Retry(after) | Throttled(after):
            return after is None or (isinstance(after, int | float) and after >= 0)
        case PermanentFailure(reason, detail):
            return isinstance(reason, str) and isinstance(detail, str)
    return False


def _alone_or_split(items: Sequence[object], dead: PermanentFailure) -> Sequence[Result]:
    return [dead] if len(items) == 1 else [Split()] * len(items)
