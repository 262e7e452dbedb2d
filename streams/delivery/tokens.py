"""The access token of one integration: got once for all its workers, and again before it ends."""

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Any

from forwarders.contract import Answer, Auth, Forwarder, HttpForwarder, Retry
from forwarders.oauth import Token, read_token, refreshes
from streams.delivery.client import Client, UnreachableError, UnsendableError
from streams.internal_error import describe

CODE = re.compile("[A-Za-z_]{1,64}")


class NoTokenError(Exception):
    """There is no access token: `result` says whether to try again or that the credentials are refused."""

    def __init__(self, result: Auth | Retry, why: str) -> None:
        super().__init__(why)
        self.result = result


class Tokens:
    """Gets a forwarder's access tokens; `learn` hears of each, to mask it."""

    def __init__(
        self,
        integration: str,
        forwarder: Forwarder[Any],
        client: Client,
        *,
        clock: Callable[[], float],
        learn: Callable[[str], None],
    ) -> None:
        self._integration, self._client, self._clock, self._learn = integration, client, clock, learn
        self._forwarder: HttpForwarder[Any] | None = None
        if isinstance(forwarder, HttpForwarder) and set(forwarder.contract.auth) != {"static"}:
            self._forwarder = forwarder
        self._token: Token | None = None
        self._renewal: asyncio.Task[Token | None] | None = None

    async def get(self) -> Token | None:
        """The token that requests need, None where the settings suffice; raises NoTokenError.

        Those who ask while one is being got share it, and its failure.
        """
        if self._forwarder is None:
            return None
        if self._token is not None and self._clock() < self._token.ends:
            return self._token
        if self._renewal is None or self._renewal.done():
            self._renewal = asyncio.get_running_loop().create_task(self._renew(self._forwarder))
        return await asyncio.shield(self._renewal)

    def drop(self, token: Token) -> None:
        """The vendor refuses this token; whoever asks next gets another."""
        if self._token is token:
            self._token = None

    async def close(self) -> None:
        """Give up what is on its way."""
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.gather(self._renewal, return_exceptions=True)

    async def _renew(self, forwarder: HttpForwarder[Any]) -> Token | None:
        now = self._clock()
        try:
            request = forwarder.token_request(now)
        except ImportError as error:  # its text is the command that installs what is missing
            raise NoTokenError(Auth(), str(error)) from error
        except Exception as error:  # a key that is none; its text may quote the key
            raise NoTokenError(Auth(), f"`auth` in the settings is unusable ({type(error).__name__})") from error
        if request is None:
            self._forwarder = None
            return None
        try:
            answer = await self._client.send(request)
        except (UnreachableError, UnsendableError) as error:
            raise NoTokenError(Retry(), f"no answer of the token endpoint: {error}") from error
        except Exception as error:  # a request that cannot be encoded
            raise NoTokenError(Auth(), f"the token request cannot be sent ({describe(error)})") from error
        try:
            read = read_token(answer, now)
        except Exception as error:
            raise NoTokenError(Retry(), f"the token endpoint's answer cannot be read ({describe(error)})") from error
        match read:
            case Token() as token:
                self._token = token
                self._learn(token.value)
                return token
            case Auth() as refused:
                repair = "mend the service account in its settings"
                if refreshes(request):
                    repair = f"mend it with `turnout authorize {self._integration}`"
                raise NoTokenError(refused, f"the vendor refuses the grant ({_code(answer)}): {repair}")
            case Retry() as later:
                raise NoTokenError(later, f"the token endpoint answers {answer.status}")


def _code(answer: Answer) -> str:
    """The code in which the endpoint says why (RFC 6749, section 5.2), or the status."""
    body = answer.json if isinstance(answer.json, Mapping) else {}
    code = body.get("error", body.get("status"))
    return code if isinstance(code, str) and CODE.fullmatch(code) else f"status {answer.status}"
