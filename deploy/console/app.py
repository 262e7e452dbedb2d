"""Serve the console as an ASGI app."""

from collections.abc import Callable
from urllib.parse import quote

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from deploy.console.access.headers import RequestGuard, own_origins
from deploy.console.access.login import CALLBACK, LOGIN, PUBLIC_PATHS, Login
from deploy.console.access.oidc import OidcProvider
from deploy.console.access.sessions import SessionCookie
from deploy.console.backend import Backend
from deploy.console.pages import STATIC, Renderer, wants_json
from deploy.console.screens.registry import SCREENS
from deploy.ledger.client import LedgerAwayError, LedgerRefusedError
from streams.kafka.settings import BrokerError
from streams.observability.logging import error_fields

log = structlog.get_logger()

ERRORS = (HTTPException, LedgerAwayError, LedgerRefusedError, BrokerError, Exception)
"""Errors that are answered with a page."""

KEEP_SECONDS = 365 * 24 * 3600
"""Seconds that browsers keep static files; their addresses change with their content."""


class ConsoleApp:
    """The console.

    Args:
        backend: Reads the data that screens show.
        port: The port that the console listens on.
        print_link: Shows a login link to the person who runs the console.

    """

    def __init__(self, backend: Backend, port: int, print_link: Callable[[str], None]) -> None:
        settings = backend.configuration.settings
        address = settings.console.address(port)
        oidc = settings.console.oidc
        self.login = Login(
            address,
            SessionCookie(port, secure=address.startswith("https:")),
            backend.audit_log,
            OidcProvider(oidc, f"{address}{CALLBACK}") if oidc else None,
            print_link,
        )
        self._backend, self._screens = backend, [screen(backend) for screen in SCREENS]
        self._renderer = Renderer(settings.prefix, self._screens)
        app = Starlette(
            routes=[
                *self.login.routes(self._renderer),
                *(route for screen in self._screens for route in screen.routes()),
                Route("/up", _answer_health),
                Mount("/static", _StaticFiles(directory=STATIC)),
            ],
            exception_handlers=dict.fromkeys(ERRORS, self._answer_error),
        )
        app.state.renderer = self._renderer
        self._app: ASGIApp = RequestGuard(self._authenticated(self._logged(app)), own_origins(address, port))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        await self._app(scope, receive, send)

    def warm_up(self) -> None:
        """Prepare screens so that their first requests do not wait; blocking."""
        self._renderer.warm_up()
        for screen in self._screens:
            try:
                screen.warm_up()
            except BrokerError as error:
                log.info("the first request will take longer", screen=screen.title, **error_fields(error))

    def close(self) -> None:
        """Close the connections to Kafka; blocking."""
        for screen in self._screens:
            screen.close()
        self._backend.close()

    def _authenticated(self, app: ASGIApp) -> ASGIApp:
        """Let only users who have logged in reach the screens."""

        async def check(scope: Scope, receive: Receive, send: Send) -> None:
            request = Request(scope, receive)
            scope.setdefault("state", {})["session"] = session = self.login.find_session(request)
            if session is None and not _is_public(scope["path"]):
                await self._send_to_login(request)(scope, receive, send)
            else:
                await app(scope, receive, send)

        return check

    def _send_to_login(self, request: Request) -> Response:
        if self.login.uses_links or wants_json(request) or request.method != "GET":
            return self._renderer.refuse(request, 401, "")
        path = f"{request.url.path}?{request.url.query}" if request.url.query else request.url.path
        return RedirectResponse(f"{LOGIN}?next={quote(path)}", 303)

    def _logged(self, app: ASGIApp) -> ASGIApp:
        """Log why a screen failed; the user sees an error page, and the next request may succeed."""

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await app(scope, receive, send)
            except Exception as error:  # noqa: BLE001  # a traceback may hold ids
                log.error("a request failed", path=scope["path"], **error_fields(error))  # noqa: TRY400

        return answer

    async def _answer_error(self, request: Request, error: Exception) -> Response:
        """Respond with an error page."""
        status, message = 500, "The log of the console says where."
        if isinstance(error, HTTPException):
            missing = error.status_code == 404 and error.detail == "Not Found"
            status, message = error.status_code, "This page does not exist." if missing else error.detail
        elif isinstance(error, LedgerAwayError):
            status, message = 503, f"{error.message}. Events can still be found by topic:partition:offset."
        elif isinstance(error, BrokerError):
            status, message = 503, str(error)
        elif isinstance(error, LedgerRefusedError):
            status, message = 502, error.message
        return self._renderer.refuse(request, status, message)


class _StaticFiles(StaticFiles):
    def file_response(self, *args: object, **options: object) -> Response:
        response = super().file_response(*args, **options)  # type: ignore[arg-type]
        response.headers["cache-control"] = f"public, max-age={KEEP_SECONDS}, immutable"
        return response


async def _answer_health(_request: Request) -> Response:
    return PlainTextResponse("up\n")


def _is_public(path: str) -> bool:
    return any(path == each or (each.endswith("/") and path.startswith(each)) for each in PUBLIC_PATHS)
