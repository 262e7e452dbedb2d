"""Define pages and actions, the parts of a screen.

A page is a template and JSON data; the same data is the page's JSON form. It is masked here for viewers, so that
screens need not do it.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from deploy.console.access.csrf import check_csrf, read_form
from deploy.console.access.masking import mask
from deploy.console.access.roles import Role
from deploy.console.access.sessions import Session
from deploy.console.backend import Backend
from deploy.console.text import FILTERS
from deploy.terminal.escaping import escape

ERROR_HEADER = "x-error"
"""The header in which an element's request gets the message of an error."""

MAX_TOAST = 500

HERE = Path(__file__).parent
STATIC = HERE / "static"

MAX_DRAFT_BYTES = 6 * 1024 * 1024
"""Bytes of a form with the text of a file, each of whose characters may take three bytes, and with an event."""


@dataclass(frozen=True, slots=True)
class ConsolePage:
    """A page: its title, its template, and the data of its HTML and JSON forms."""

    title: str
    template: str
    data: Mapping[str, Any]
    status: int = 200


@dataclass(frozen=True, slots=True)
class Done:
    """The result of an action: a sentence for the user, data for programs, and events for the page's own elements."""

    message: str
    data: Mapping[str, Any] = field(default_factory=dict)
    events: Mapping[str, Any] = field(default_factory=dict)


class ConsoleScreen:
    """Base class of a screen: an entry of the navigation with its pages, actions and streams.

    `title` is its name and `path` its first page; pressing `g` and then `key` opens it. `starts_group` separates it
    from the entry before.
    """

    title: ClassVar[str]
    path: ClassVar[str]
    key: ClassVar[str]
    starts_group: ClassVar[bool] = False

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    def routes(self) -> Sequence[Route]:
        """Return the routes, made by `page`, `action` and `stream`."""
        raise NotImplementedError

    def warm_up(self) -> None:
        """Prepare so that the first request does not wait; blocking, raises BrokerError."""

    def close(self) -> None:
        """Release what the screen has opened."""


def page(path: str, show: Callable[[Request], Awaitable[ConsolePage]], *, needs: Role = Role.VIEWER) -> list[Route]:
    """Return the routes of a page and of its JSON form, which is also sent if JSON is accepted but HTML is not."""

    async def answer(request: Request) -> Response:
        check_role(request, needs)
        return renderer_of(request).respond(request, await show(request))

    json_path = f"{path if path != '/' else '/find'}.json"
    return [Route(path, answer, methods=["GET"]), Route(json_path, answer, methods=["GET"])]


def action(
    path: str, act: Callable[[Request, Mapping[str, str]], Awaitable[Done]], *, needs: Role = Role.OPERATOR
) -> list[Route]:
    """Return the route of an action; `act` is called with the form's fields. The request must carry the CSRF token."""

    async def answer(request: Request) -> Response:
        form = await read_form(request)
        check_csrf(request, form, session_of(request))
        check_role(request, needs)
        return renderer_of(request).finish(request, await act(request, form))

    return [Route(path, answer, methods=["POST"])]


def form_page(
    path: str, show: Callable[[Request, Mapping[str, str]], Awaitable[ConsolePage]], *, needs: Role = Role.EDITOR
) -> list[Route]:
    """Return the route of a page that a form requests by POST, because its fields are too long for a URL.

    `show` is called with the form's fields. The request must carry the CSRF token.
    """

    async def answer(request: Request) -> Response:
        form = await read_form(request, MAX_DRAFT_BYTES)
        check_csrf(request, form, session_of(request))
        check_role(request, needs)
        return renderer_of(request).respond(request, await show(request, form))

    return [Route(path, answer, methods=["POST"])]


def stream(
    path: str, listen: Callable[[Request], AsyncIterator[ConsolePage]], *, needs: Role = Role.VIEWER
) -> list[Route]:
    """Return the route of a stream of server-sent events: each page is a message with the HTML of its template.

    With `Accept: application/json` or the suffix `.json`, each message is the page's data instead.
    """

    async def answer(request: Request) -> Response:
        check_role(request, needs)
        renderer = renderer_of(request)

        async def messages() -> AsyncIterator[bytes]:
            async for each in listen(request):
                yield renderer.message(request, each)

        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(messages(), media_type="text/event-stream", headers=headers)

    return [Route(path, answer, methods=["GET"]), Route(f"{path}.json", answer, methods=["GET"])]


def session_of(request: Request) -> Session:
    """Return the user's session; routes other than the login have one."""
    session = request.scope["state"].get("session")
    if not isinstance(session, Session):
        raise HTTPException(401, "log in first")
    return session


def check_role(request: Request, needed: Role) -> None:
    """Raise HTTPException unless the user has a role."""
    if not session_of(request).role.may(needed):
        role = session_of(request).role
        raise HTTPException(403, f"This needs the role {needed}, and you are {role}. Ask who runs this console.")


def renderer_of(request: Request) -> "Renderer":
    """Return the renderer of a request's app."""
    renderer = request.app.state.renderer
    assert isinstance(renderer, Renderer)
    return renderer


class Renderer:
    """Renders pages as responses.

    Args:
        environment: The name of this environment, shown on every page: the prefix of its topics.
        screens: The entries of the navigation.

    """

    def __init__(self, environment: str, screens: Sequence[ConsoleScreen]) -> None:
        self._name, self._screens = environment, screens
        self._jinja = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=_finalize,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._jinja.policies["json.dumps_kwargs"] = {"sort_keys": False}
        self._jinja.filters.update(FILTERS)
        self._jinja.globals.update(version=_version(), Role=Role)

    def warm_up(self) -> None:
        """Compile the templates."""
        for name in self._jinja.list_templates():
            self._jinja.get_template(name)

    def respond(self, request: Request, shown: ConsolePage) -> Response:
        """Return a page in the requested form."""
        data = self._masked(request, shown.data)
        if wants_json(request):
            return Response(json.dumps(data), shown.status, media_type="application/json")
        return HTMLResponse(self._html(request, shown, data), shown.status)

    def finish(self, request: Request, done: Done) -> Response:
        """Return the result of an action: JSON, a toast for htmx, or a redirect back for a plain form."""
        if wants_json(request):
            data = self._masked(request, {"message": done.message, **done.data})
            return Response(json.dumps(data), media_type="application/json")
        if "hx-request" in request.headers:
            return Response(
                status_code=204, headers={"hx-trigger": json.dumps({"toast": {"message": done.message}, **done.events})}
            )
        return self.respond(request, ConsolePage("Done", "done.html", {"message": done.message, **done.data}))

    def refuse(self, request: Request, status: int, message: str) -> Response:
        """Return an error as a page, or as JSON."""
        template = "login.html" if status == 401 else "error.html"
        shown = ConsolePage(_ERRORS.get(status, "Error"), template, {"error": message}, status)
        response = self.respond(request, shown)
        if "hx-request" in request.headers:
            # For the toast; a header has no text but ASCII.
            response.headers[ERROR_HEADER] = quote(self._masked(request, shown.data)["error"][:MAX_TOAST])
        return response

    def redirect(self, path: str) -> Response:
        """Return a redirect to one of the console's pages."""
        return RedirectResponse(path if path.startswith("/") and path[1:2] not in ("/", "\\") else "/", 303)

    def message(self, request: Request, shown: ConsolePage) -> bytes:
        """Return a page as one message of a stream."""
        data = self._masked(request, shown.data)
        text = json.dumps(data) if wants_json(request) else self._html(request, shown, data)
        return "".join(f"data: {line}\n" for line in text.splitlines()).encode() + b"\n"

    def _masked(self, request: Request, data: Mapping[str, Any]) -> Any:
        session = request.scope["state"].get("session")
        return data if isinstance(session, Session) and session.role.may(Role.OPERATOR) else mask(data)

    def _html(self, request: Request, shown: ConsolePage, data: Mapping[str, Any]) -> str:
        session = request.scope["state"].get("session")
        ui = {
            "title": shown.title,
            "environment": self._name,
            "screens": self._screens,
            "session": session,
            "path": request.url.path,
            "query": request.url.query,
            "csrf": session.csrf if session else "",
            "masked": session is not None and not session.role.may(Role.OPERATOR),
        }
        return self._jinja.get_template(shown.template).render(data, ui=ui)


def wants_json(request: Request) -> bool:
    """Return whether JSON is requested, by the path's suffix or the Accept header."""
    accepted = request.headers.get("accept", "")
    return request.url.path.endswith(".json") or ("application/json" in accepted and "text/html" not in accepted)


_ERRORS = {
    400: "Bad request",
    401: "Log in",
    403: "Not allowed",
    404: "Not found",
    405: "Not allowed",
    409: "Not possible",
    413: "Too large",
    502: "Refused by the ledger",
    503: "Not available",
    500: "The console failed",
}


def _finalize(value: Any) -> Any:
    """Escape control characters and direction marks in any text."""
    if value is None:
        return ""
    return value if isinstance(value, Markup) else escape(str(value))


def _version() -> str:
    """Return a digest of the static files; their URLs contain it so that browsers can cache them."""
    files = sorted(path for path in STATIC.rglob("*") if path.is_file())
    return sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:10]
