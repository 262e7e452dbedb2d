"""Request an integration's access token once for all its workers, and renew it before it expires."""

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Any

from forwarders.api.contract import AuthFailed, Forwarder, HttpForwarder, Response, Retry
from forwarders.api.oauth import Token, parse_token_response, uses_refresh_token
from streams.delivery.http.client import RequestSender, UnreachableError, UnsendableError
from streams.observability.internal_error import describe, to_exception

CODE = re.compile("[A-Za-z_]{1,64}")


class NoTokenError(Exception):
    """An access token is missing; `result` is the result of deliveries that need one."""

    def __init__(self, result: AuthFailed | Retry, why: str) -> None:
        super().__init__(why)
        self.result = result


class Tokens:
    """Request a forwarder's access tokens; `learn` is called with each token, to mask it."""

    def __init__(
        self,
        integration: str,
        forwarder: Forwarder[Any],
        client: RequestSender,
        *,
        clock: Callable[[], float],
        learn: Callable[[str], None],
    ) -> None:
        self._integration, self._client, self._clock, self._learn = integration, client, clock, learn
        self._forwarder: HttpForwarder[Any] | None = None
        if isinstance(forwarder, HttpForwarder) and set(forwarder.contract.auth_methods) != {"static"}:
            self._forwarder = forwarder
        self._token: Token | None = None
        self._renewal: asyncio.Task[Token | None] | None = None

    async def get(self) -> Token | None:
        """Return the access token, or None if the settings contain all credentials; raises NoTokenError.

        Concurrent calls share a token request and its failure.
        """
        if self._forwarder is None:
            return None
        if self._token is not None and self._clock() < self._token.renew_at:
            return self._token
        if self._renewal is None or self._renewal.done():
            self._renewal = asyncio.get_running_loop().create_task(self._renew(self._forwarder))
        return await asyncio.shield(self._renewal)

    def drop(self, token: Token) -> None:
        """Discard a token that the vendor rejected, so that the next call requests another."""
        if self._token is token:
            self._token = None

    async def close(self) -> None:
        """Cancel a token request in flight."""
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.gather(self._renewal, return_exceptions=True)

    async def _renew(self, forwarder: HttpForwarder[Any]) -> Token | None:
        now = self._clock()
        try:
            request = forwarder.build_token_request(now)
        except ImportError as error:  # its message has the command that installs the extra
            raise NoTokenError(AuthFailed(), str(error)) from error
        except BaseException as error:  # an invalid key, which its message may quote
            raise NoTokenError(
                AuthFailed(), f"the setting `auth` is invalid ({type(to_exception(error)).__name__})"
            ) from error
        if request is None:
            self._forwarder = None
            return None
        try:
            response = await self._client.send(request)
        except (UnreachableError, UnsendableError) as error:
            raise NoTokenError(Retry(), f"no response from the token endpoint: {error}") from error
        except BaseException as error:  # a request that cannot be encoded
            raise NoTokenError(
                AuthFailed(), f"the token request cannot be sent ({describe(to_exception(error))})"
            ) from error
        try:
            read = parse_token_response(response, now)
        except BaseException as error:
            raise NoTokenError(
                Retry(), f"the token endpoint's response cannot be parsed ({describe(to_exception(error))})"
            ) from error
        match read:
            case Token() as token:
                self._token = token
                self._learn(token.value)
                return token
            case AuthFailed() as rejected:
                fix = "fix the service account in the settings"
                if uses_refresh_token(request):
                    fix = f"run `turnout authorize {self._integration}`"
                raise NoTokenError(rejected, f"the vendor rejected the grant ({_code(response)}): {fix}")
            case Retry() as later:
                raise NoTokenError(later, f"the token endpoint responded {response.status}")


def _code(response: Response) -> str:
    """Return the error code of a token endpoint (RFC 6749, section 5.2), or the status."""
    body = response.json if isinstance(response.json, Mapping) else {}
    code = body.get("error", body.get("status"))
    return code if isinstance(code, str) and CODE.fullmatch(code) else f"status {response.status}"
