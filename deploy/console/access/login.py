"""Log in and out: with the code of a link, or with an OpenID Connect provider."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic
from typing import Protocol

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from deploy.console.access.audit_log import AuditLog
from deploy.console.access.codes import OneTimeCodes
from deploy.console.access.csrf import check_csrf, read_form
from deploy.console.access.oidc import LOGIN_SECONDS, OidcError, OidcProvider
from deploy.console.access.roles import Role
from deploy.console.access.sessions import Session, SessionCookie, SessionStore

LOGIN, CALLBACK, LOGOUT, NEW_LINK = "/login", "/login/callback", "/logout", "/login/link"

PUBLIC_PATHS = (LOGIN, CALLBACK, NEW_LINK, "/up", "/static/")
"""Paths that need no session; those that end with a slash include everything below."""

LINK_SECONDS = 30.0
"""Seconds between two links that anybody may have printed."""

STATE_COOKIE = "turnout-login"
"""The cookie of a login that is under way; behind TLS it has a prefix that keeps other hosts from setting it."""

SECURE_PREFIX = "__Host-"


class Pages(Protocol):
    """Renders pages."""

    def refuse(self, request: Request, status: int, message: str) -> Response:
        """Return an error."""

    def redirect(self, path: str) -> Response:
        """Return a redirect to one of the console's pages."""


class Login:
    """Starts and ends sessions.

    Args:
        address: The address of the console, for links.
        cookie: The cookie of sessions.
        audit_log: Records logins.
        provider: The OpenID Connect provider; without one, links with one-time codes are used.
        print_link: Shows a link to the person who runs the console.

    """

    def __init__(
        self,
        address: str,
        cookie: SessionCookie,
        audit_log: AuditLog,
        provider: OidcProvider | None,
        print_link: Callable[[str], None],
    ) -> None:
        self._address, self._cookie, self._audit_log = address, cookie, audit_log
        self._provider, self._print_link = provider, print_link
        self._sessions, self._codes = SessionStore(), OneTimeCodes()
        self._next_link = monotonic()
        self._is_secure = address.startswith("https:")
        self._state_cookie = f"{SECURE_PREFIX}{STATE_COOKIE}" if self._is_secure else STATE_COOKIE

    @property
    def uses_links(self) -> bool:
        """Whether users log in with a link that is printed."""
        return self._provider is None

    def link(self) -> str:
        """Return a link with a new one-time code."""
        return f"{self._address}{LOGIN}?code={self._codes.issue()}"

    def find_session(self, request: Request) -> Session | None:
        """Return the session of a request."""
        return self._sessions.find(self._cookie.read(request))

    def routes(self, pages: Pages) -> list[Route]:
        """Return the routes of the login."""

        async def log_in(request: Request) -> Response:
            if self._provider is None:
                return self._take_code(request, pages)
            try:
                url, login = await asyncio.to_thread(self._provider.begin, request.query_params.get("next", "/"))
            except OidcError as error:
                return pages.refuse(request, 503, str(error))
            response = RedirectResponse(url, 303)
            response.set_cookie(
                self._state_cookie, login.state, int(LOGIN_SECONDS), path="/", httponly=True, samesite="lax",
                secure=self._is_secure,
            )  # fmt: skip
            return response

        async def come_back(request: Request) -> Response:
            if self._provider is None:
                raise HTTPException(404, "This console has no OpenID Connect provider.")
            parameters: Mapping[str, str] = dict(request.query_params)
            cookie = request.cookies.get(self._state_cookie, "")
            try:
                user, role, path = await asyncio.to_thread(self._provider.finish, parameters, cookie)
            except OidcError as error:
                return pages.refuse(request, 403, str(error))
            response = self._start(user, role, pages.redirect(path))
            response.delete_cookie(self._state_cookie, path="/", httponly=True, samesite="lax", secure=self._is_secure)
            return response

        async def log_out(request: Request) -> Response:
            session = self.find_session(request)
            if session is not None:
                check_csrf(request, await read_form(request), session)
                self._sessions.end(self._cookie.read(request))
                self._audit_log.record(session, "log out")
            response = pages.refuse(request, 401, "You have logged out.")
            self._cookie.clear(response)
            return response

        async def print_link(request: Request) -> Response:
            if self._provider is not None:
                raise HTTPException(404, "Users of this console log in with a provider.")
            if monotonic() >= self._next_link:
                self._next_link = monotonic() + LINK_SECONDS
                self._print_link(self.link())
            return pages.refuse(request, 401, "A new link was printed where the console runs.")

        return [
            _get_only(LOGIN, log_in),
            _get_only(CALLBACK, come_back),
            Route(NEW_LINK, print_link, methods=["POST"]),
            Route(LOGOUT, log_out, methods=["POST"]),
        ]

    def _take_code(self, request: Request, pages: Pages) -> Response:
        code = request.query_params.get("code")
        if code is None:
            return pages.refuse(request, 401, "")
        if not self._codes.take(code):
            return pages.refuse(request, 401, "This link was used before, or is older than 10 minutes.")
        return self._start("local", Role.EDITOR, pages.redirect("/"))

    def _start(self, user: str, role: Role, response: Response) -> Response:
        token = self._sessions.start(user, role)
        session = self._sessions.find(token)
        assert session is not None
        self._audit_log.record(session, "log in")
        self._cookie.write(response, token)
        return response


def _get_only(path: str, answer: Callable[[Request], Awaitable[Response]]) -> Route:
    """Return a route without HEAD, so that link previews do not use up a code."""
    route = Route(path, answer)
    route.methods = {"GET"}
    return route
