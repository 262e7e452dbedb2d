"""The console as an ASGI app."""

from collections.abc import Callable
from urllib.parse import quote

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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

KEEP_SECONDS = 365 * 24 * 3600
"""Seconds that browsers keep static files; their addresses change with their content."""


class ConsoleApp:
    """The console.

    Args:
        backend: Reads what screens show.
        port: The port that is listened on.
        print_link: Shows a link for the login to who runs the console.

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
        screens = [screen(backend) for screen in SCREENS]
        self._renderer = Renderer(settings.prefix, screens)
        app = Starlette(
            routes=[
                *self.login.routes(self._renderer),
                *(route for screen in screens for route in screen.routes()),
                Route("/up", _answer_health),
                Mount("/static", _StaticFiles(directory=STATIC)),
            ],
            exception_handlers={HTTPException: self._answer_http_error},
        )
        app.state.renderer = self._renderer
        self._app: ASGIApp = RequestGuard(self._authenticated(self._safe(app)), own_origins(address, port))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self._app(scope, receive, send)

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

    def _safe(self, app: ASGIApp) -> ASGIApp:
        """Answer with an error if a screen fails; the next request may succeed."""

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            begun = False

            async def send_on(message: Message) -> None:
                nonlocal begun
                begun = True
                await send(message)

            try:
                await app(scope, receive, send_on)
            except (LedgerAwayError, BrokerError) as error:
                failed = self._renderer.refuse(Request(scope), 503, _message(error))
            except LedgerRefusedError as error:
                failed = self._renderer.refuse(Request(scope), 502, _message(error))
            except Exception as error:  # noqa: BLE001  # a traceback may hold ids
                log.error("a request failed", path=scope["path"], **error_fields(error))  # noqa: TRY400
                failed = self._renderer.refuse(Request(scope), 500, "The log of the console says where.")
            else:
                return
            if not begun:
                await failed(scope, receive, send)

        return answer

    async def _answer_http_error(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # Starlette's type for handlers is wider
        message = (
            "This page does not exist." if error.status_code == 404 and error.detail == "Not Found" else error.detail
        )
        return self._renderer.refuse(request, error.status_code, message)


class _StaticFiles(StaticFiles):
    def file_response(self, *args: object, **options: object) -> Response:
        response = super().file_response(*args, **options)  # type: ignore[arg-type]
        response.headers["cache-control"] = f"public, max-age={KEEP_SECONDS}, immutable"
        return response


async def _answer_health(_request: Request) -> Response:
    return PlainTextResponse("up\n")


def _is_public(path: str) -> bool:
    return any(path == each or (each.endswith("/") and path.startswith(each)) for each in PUBLIC_PATHS)


def _message(error: Exception) -> str:
    return str(getattr(error, "message", error))
