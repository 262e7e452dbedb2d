"""Keep the sessions of logged-in users, and their cookie."""

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

from starlette.requests import HTTPConnection
from starlette.responses import Response

from deploy.console.access.roles import Role

SESSION_SECONDS = 12 * 3600
"""Seconds after which a user logs in again."""

MAX_SESSIONS = 1000
"""Sessions that are kept; a new one ends the oldest."""


@dataclass(frozen=True, slots=True)
class Session:
    """A user who has logged in. `csrf` is the token that forms carry."""

    user: str
    role: Role
    ends: float
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(24))


class SessionStore:
    """Keeps sessions in memory, by digests of their tokens; they end with the process."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._sessions: dict[bytes, Session] = {}

    def start(self, user: str, role: Role) -> str:
        """Start a session; returns the token for its cookie."""
        token = secrets.token_urlsafe(32)
        self._sessions[_digest(token)] = Session(user, role, self._clock() + SESSION_SECONDS)
        while len(self._sessions) > MAX_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        return token

    def find(self, token: str) -> Session | None:
        """Return the session of a token; None if the token is unknown or expired."""
        session = self._sessions.get(_digest(token))
        if session is not None and self._clock() >= session.ends:
            self.end(token)
            return None
        return session

    def end(self, token: str) -> None:
        """End a session."""
        self._sessions.pop(_digest(token), None)


class SessionCookie:
    """The cookie that carries a token.

    Args:
        port: The port of the console; cookies of one host are shared by all of its ports.
        secure: Whether users reach the console over TLS.

    """

    def __init__(self, port: int, *, secure: bool) -> None:
        self._name = "__Host-turnout" if secure else f"turnout-{port}"
        self._secure = secure

    def read(self, request: HTTPConnection) -> str:
        """Return the token of a request, or an empty text."""
        return request.cookies.get(self._name, "")

    def write(self, response: Response, token: str) -> None:
        """Set the cookie."""
        response.set_cookie(
            self._name, token, max_age=SESSION_SECONDS, httponly=True, samesite="lax", secure=self._secure, path="/"
        )

    def clear(self, response: Response) -> None:
        """Remove the cookie."""
        response.delete_cookie(self._name, httponly=True, samesite="lax", secure=self._secure, path="/")


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="replace")).digest()
