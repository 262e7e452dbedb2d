"""Both middlewares around an app: the visitor's identity, the app's additions, and unchanged responses."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import flask
import flask_login
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute

from tests.streams.tracking.helpers import FakeCollector, asgi_server, request, wsgi_server
from turnout_tracking import Analytics, AsgiTracking, Tracker, WsgiTracking, find_analytics, get_analytics, logged_in
from turnout_tracking.analytics import MAX_WAITING_EVENTS

View = Callable[[Analytics], dict[str, str]]
"""What a test's app does in a request; returns headers of the response."""

PAGE = b"<title>T</title>"


@contextmanager
def serving(kind: str, tracker: Tracker, view: View) -> Iterator[int]:
    """An app behind the ASGI or the WSGI middleware, on a port."""

    async def asgi(scope, _receive, send):
        headers = {"Content-Type": "text/html"} | view(get_analytics(scope))
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": raw})
        await send({"type": "http.response.body", "body": PAGE})

    def wsgi(environ, start_response):
        headers = {"Content-Type": "text/html"} | view(get_analytics(environ))
        start_response("200 OK", list(headers.items()))
        return [PAGE]

    if kind == "asgi":

        async def http_only(scope, receive, send):
            if scope["type"] != "http":
                raise ValueError("this app knows HTTP only")
            await asgi(scope, receive, send)

        with asgi_server(AsgiTracking(http_only, tracker)) as port:
            yield port
    else:
        with wsgi_server(WsgiTracking(wsgi, tracker)) as port:
            yield port


both = pytest.mark.parametrize("kind", ["asgi", "wsgi"])


def tracker(collector: FakeCollector, **settings: Any) -> Tracker:
    """A tracker that sends to the test's collector at once."""
    return Tracker(collector.url, "k", interval=0.0, **settings)


@both
def test_the_app_adds_to_its_page(kind: str, collector: FakeCollector):
    """`page` names the page and adds to it; its values precede the settings, and those the detected values."""

    def view(analytics: Analytics) -> dict[str, str]:
        analytics.page("Product", {"a": "view", "title": "Better"}, category="Shop")
        analytics.page(properties={"d": 1}, context={"page": {"tags": ["x"]}}, integrations={"All": False})
        return {}

    sending = tracker(
        collector,
        name=lambda _: "Other",
        properties=lambda _: {"a": "setting", "b": "setting"},
        context=lambda request: {"consent": {"categoryPreferences": {"ads": request.header("sec-gpc") != "1"}}},
    )
    with serving(kind, sending, view) as port:
        request(port, "/", {"Cookie": "_fbp=fb.1.2.3", "Sec-GPC": "1"})
        (page,) = collector.wait(1)
    assert (page["name"], page["category"]) == ("Product", "Shop")
    assert page["properties"] | {"a": "view", "b": "setting", "d": 1, "title": "Better"} == page["properties"]
    assert page["context"]["page"]["tags"] == ["x"]
    assert page["context"]["page"]["path"] == "/"
    assert page["context"]["consent"] == {"globalPrivacyControl": True, "categoryPreferences": {"ads": False}}
    assert page["integrations"] == {"All": False}


@both
@pytest.mark.parametrize(
    ("said", "merged"),
    [
        (None, {"meta": {"fbp": "fb.1.2.3"}}),
        ({"All": True}, {"All": True, "meta": {"fbp": "fb.1.2.3"}}),
        ({"All": False}, {"All": False}),
        ({"meta": False}, {"meta": False}),
        ({"All": False, "meta": True}, {"All": False, "meta": {"fbp": "fb.1.2.3"}}),
        ({"All": False, "meta": {"fbp": "own", "x": 1}}, {"All": False, "meta": {"fbp": "own", "x": 1}}),
    ],
)
def test_ids_of_vendors_turn_no_integration_on(kind: str, said: Any, merged: Any, collector: FakeCollector):
    """Cookies are added only to integrations that the app has not turned off, and never replace its values."""

    def view(analytics: Analytics) -> dict[str, str]:
        analytics.skip_page()
        analytics.track("E", integrations=said)
        return {}

    with serving(kind, tracker(collector), view) as port:
        request(port, "/", {"Cookie": "_fbp=fb.1.2.3"})
        assert collector.wait(1)[0]["integrations"] == merged


@both
def test_page_is_sent_where_the_app_asks(kind: str, collector: FakeCollector):
    """A call of `page` has even JSON that a script fetched sent as a page; `skip_page` has nothing sent."""

    def view(analytics: Analytics) -> dict[str, str]:
        if analytics.page_request.path == "/skip":
            analytics.skip_page()
        else:
            analytics.page()
        return {"Content-Type": "application/json"} if analytics.page_request.path == "/json" else {}

    with serving(kind, tracker(collector), view) as port:
        assert request(port, "/skip").cookie is None
        request(port, "/json", {"Sec-Fetch-Dest": "empty"}, "POST")
        assert [event["properties"]["path"] for event in collector.wait(1)] == ["/json"]


@both
def test_track_and_identify_share_the_pages_identity(kind: str, collector: FakeCollector):
    """All calls of a request have one anonymous id, which its cookie then has, and the user that identify named."""

    def view(analytics: Analytics) -> dict[str, str]:
        analytics.track("Before")
        analytics.identify(7, {"plan": "pro"})
        analytics.track("After", {"total": 9.5}, context={"ip": "0.0.0.0"})
        return {"Content-Type": "application/json"}

    with serving(kind, tracker(collector), view) as port:
        cookie = request(port, "/", {"Cookie": "ajs_user_id=u-0"}, "POST").cookie or ""
        before, identify, after = collector.wait(3)
    assert [event.get("userId") for event in (before, identify, after)] == ["u-0", "7", "7"]
    assert identify["traits"] == {"plan": "pro"}
    assert (after["properties"], after["context"]["ip"]) == ({"total": 9.5}, "0.0.0.0")
    assert {event["anonymousId"] for event in collector.events} == {cookie.partition("=")[2].partition(";")[0]}
    assert len({event["messageId"] for event in collector.events}) == 3


@both
@pytest.mark.parametrize(
    ("settings", "assigned", "expected"),
    [
        ({}, None, "cookie"),
        ({"user": lambda request: int(request.query)}, None, "5"),
        ({"user": lambda _: None}, None, "cookie"),
        ({"user": lambda _: "setting"}, "assigned", "assigned"),
    ],
)
def test_who_the_user_is(kind: str, settings: Any, assigned: Any, expected: str, collector: FakeCollector):
    """The ID that the app assigns comes first, then the setting's, then the browser client's cookie."""

    def view(analytics: Analytics) -> dict[str, str]:
        analytics.user_id = assigned
        return {}

    with serving(kind, tracker(collector, **settings), view) as port:
        request(port, "/?5", {"Cookie": "ajs_user_id=cookie"})
        assert collector.wait(1)[0]["userId"] == expected


@both
@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [(None, "u-1", "u-1"), ("u-1", None, "u-1"), ("u-1", "u-2", "u-1"), (None, None, "cookie")],
)
def test_all_events_of_a_request_have_one_user(
    kind: str, before: str | None, after: str | None, expected: str, collector: FakeCollector
):
    """A user whom the setting `user` finds during the request, before or after the first event, is in all events."""
    found: list[str | None] = [None]

    def view(analytics: Analytics) -> dict[str, str]:
        found[0] = before
        analytics.track("First")
        found[0] = after
        analytics.track("Second")
        return {}

    with serving(kind, tracker(collector, user=lambda _: found[0]), view) as port:
        request(port, "/", {"Cookie": "ajs_user_id=cookie"})
        events = collector.wait(3)
    assert [event.get("event", event["type"]) for event in events] == ["First", "Second", "page"]
    assert [event["userId"] for event in events] == [expected] * 3


@both
def test_an_event_has_the_properties_of_its_call(kind: str, collector: FakeCollector):
    """Objects that the view changes after the call do not change the event."""

    def view(analytics: Analytics) -> dict[str, str]:
        cart = {"items": [1]}
        analytics.track("Seen", cart)
        cart["items"].append(2)
        return {}

    with serving(kind, tracker(collector), view) as port:
        request(port, "/")
        assert collector.wait(2)[0]["properties"] == {"items": [1]}


@both
def test_a_view_that_raises_has_its_events_sent(kind: str, collector: FakeCollector):
    """Events before the exception are sent, without a page call."""

    def view(analytics: Analytics) -> dict[str, str]:
        analytics.track("Before")
        raise RuntimeError

    with serving(kind, tracker(collector), view) as port:
        assert request(port, "/").status == 500
        assert [event["event"] for event in collector.wait(1)] == ["Before"]


@both
def test_events_that_wait_for_a_user_are_bounded(kind: str, collector: FakeCollector):
    """A view with very many events has them sent before it ends."""

    def view(analytics: Analytics) -> dict[str, str]:
        for number in range(MAX_WAITING_EVENTS):
            analytics.track("E", {"number": number})
        collector.wait(MAX_WAITING_EVENTS)
        return {}

    with serving(kind, tracker(collector), view) as port:
        request(port, "/")
        assert len(collector.wait(MAX_WAITING_EVENTS + 1)) == MAX_WAITING_EVENTS + 1


@both
@pytest.mark.parametrize(
    ("domain", "host", "kept"),
    [
        ("example.com", "shop.example.com:8000", True),
        (".example.com", "EXAMPLE.com", True),
        ("localhost", "localhost:8000", True),
        ("example.com", "localhost:8000", False),
        ("example.com", "notexample.com", False),
        ("example.com", "127.0.0.1:8000", False),
        ("0.0.1", "127.0.0.1", False),
        ("example.com", "[::1]:8000", False),
    ],
)
def test_a_cookie_domain_that_the_host_is_not_in_is_logged_once(
    kind: str, domain: str, host: str, kept: bool, collector: FakeCollector, caplog: pytest.LogCaptureFixture
):
    """Browsers discard that cookie, so the log says once which host it was and what to do."""
    with serving(kind, tracker(collector, cookie_domain=domain), lambda _: {}) as port:
        request(port, "/", {"Host": host})
        request(port, "/", {"Host": host})
        collector.wait(2)
    warnings = [record.getMessage() for record in caplog.records if "cookie_domain" in record.getMessage()]
    assert len(warnings) == (0 if kept else 1)
    assert kept or (f"the host '{host}'" in warnings[0] and "Leave cookie_domain unset in development" in warnings[0])


@both
@pytest.mark.parametrize("name", ["skip", "consent", "user", "name", "properties", "context", "is_bot"])
def test_a_setting_that_raises_breaks_nothing(
    name: str, kind: str, collector: FakeCollector, caplog: pytest.LogCaptureFixture
):
    """Response and page call are sent as if the callable had returned None, and the log has no data."""

    def wrong(_: Any) -> Any:
        raise ValueError("ann@example.com")

    with serving(kind, tracker(collector, **{name: wrong}), lambda _: {}) as port:
        answer = request(port, "/")
        assert (answer.status, answer.body) == (200, PAGE)
        assert (answer.cookie is None) == (name == "consent")
        assert collector.wait(1)[0]["type"] == "page"
    assert "wrong raised ValueError" in caplog.text
    assert "ann" not in caplog.text


@both
def test_consent_decides_about_the_cookie(kind: str, collector: FakeCollector):
    """Without consent no cookie is set, and each page call has an id of its own; with it there is one."""
    sending = tracker(collector, consent=lambda request: request.cookie("ok") == "yes")
    with serving(kind, sending, lambda _: {}) as port:
        assert request(port, "/").cookie is None
        assert request(port, "/").cookie is None
        assert request(port, "/", {"Cookie": "ok=yes", "Sec-GPC": "1"}).cookie
        assert len({event["anonymousId"] for event in collector.wait(3)}) == 3


@both
def test_a_response_gets_private_with_the_cookie_only(kind: str, collector: FakeCollector):
    """A response without caching headers gets `private` if the cookie is set, and is unchanged otherwise."""
    with serving(kind, tracker(collector), lambda _: {}) as port:
        assert request(port, "/").headers.get_all("Cache-Control") == ["private"]
        assert request(port, "/", {"Cookie": "ajs_anonymous_id=a"}).headers["Cache-Control"] is None


@both
def test_a_collector_that_hangs_slows_no_response(kind: str, collector: FakeCollector):
    """While the collector answers nothing and the queue is full, requests are answered as ever."""
    collector.held.clear()
    sending = tracker(collector, queue_events=2)
    with serving(kind, sending, lambda _: {}) as port:
        for _ in range(20):
            assert request(port, "/").body == PAGE
        assert sending.counts["full"] >= 15
        collector.held.set()


def home(request: Request) -> HTMLResponse:
    request.state.analytics.track("Seen")
    return HTMLResponse("<html>" + "x" * 100_000)


async def stream(_: Request) -> StreamingResponse:
    async def parts():
        yield "<html><title>Str"
        yield "eamed</title>"
        for _ in range(3):
            await asyncio.sleep(0)
            yield "x" * 10_000

    return StreamingResponse(parts(), media_type="text/html")


async def fail(_: Request) -> HTMLResponse:
    raise RuntimeError("ann@example.com")


async def echo(websocket):
    await websocket.accept()
    await websocket.send_text(str(find_analytics(websocket)))
    await websocket.close()


def test_starlette_with_mounts_threads_streams_and_compression(collector: FakeCollector):
    """Views in threads, mounted apps, streamed and compressed responses are tracked; what raises is not a page."""
    inner = Starlette(routes=[Route("/page", home, name="home")])
    routes = [Route("/stream", stream), Route("/fail", fail), Route("/json", lambda _: JSONResponse({}))]
    app = Starlette(
        routes=[*routes, Mount("/in", inner), WebSocketRoute("/ws", echo)],
        middleware=[
            Middleware(GZipMiddleware),
            Middleware(
                AsgiTracking, tracker=tracker(collector, name=lambda request: request.raw["endpoint"].__name__.title())
            ),
        ],
    )
    with asgi_server(app) as port:
        assert request(port, "/in/page", {"Accept-Encoding": "gzip"}).headers["Content-Encoding"] == "gzip"
        assert len(request(port, "/stream").body) > 30_000
        assert request(port, "/fail").status == 500
        assert request(port, "/json").status == 200
        events = collector.wait(3)
    pages = {event["name"]: event["properties"] for event in events if event["type"] == "page"}
    assert pages.keys() == {"Home", "Stream"}
    assert pages["Home"]["path"] == "/in/page"
    assert pages["Stream"]["title"] == "Streamed"


@pytest.mark.anyio
async def test_websockets_pass_by():
    """A WebSocket is served by the app alone."""
    seen: list[str] = []

    async def app(scope, _receive, _send):
        seen.append(scope["type"])
        assert find_analytics(scope) is None

    await AsgiTracking(app, Tracker(None))({"type": "websocket", "headers": []}, None, None)  # type: ignore[arg-type]
    assert seen == ["websocket"]


@pytest.mark.anyio
async def test_an_app_that_fails_at_startup_is_not_overruled():
    """What an app says of its lifespan goes to the server as it is, an exception included."""

    async def app(_scope, receive, _send):
        await receive()
        raise RuntimeError("no database")

    async def receive():
        return {"type": "lifespan.startup"}

    with pytest.raises(RuntimeError, match="no database"):
        await AsgiTracking(app, Tracker(None))({"type": "lifespan"}, receive, None)  # type: ignore[arg-type]


def test_a_file_that_the_server_sends_stays_one(collector: FakeCollector):
    """A body made by the server's file wrapper reaches the server as such, so that it can send it its own way."""
    sending = tracker(collector)

    class Wrapper:
        def __init__(self, file: BytesIO) -> None:
            self.file = file

    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/html")])
        return environ["wsgi.file_wrapper"](BytesIO(PAGE))

    environ = {
        "REQUEST_METHOD": "GET",
        "wsgi.file_wrapper": Wrapper,
        "HTTP_USER_AGENT": "Mozilla/5.0",
        "HTTP_ACCEPT": "text/html",
    }
    assert isinstance(WsgiTracking(app, sending)(environ, lambda *_: None), Wrapper)
    assert collector.wait(1)[0]["type"] == "page"


def test_a_wsgi_body_is_closed_and_its_errors_pass(collector: FakeCollector):
    """The server's close closes the app's body, and its exceptions reach the server."""
    closed = threading.Event()

    class Body:
        def __iter__(self):
            yield PAGE
            raise RuntimeError("broken off")

        def close(self):
            closed.set()

    def app(_environ, start_response):
        start_response("200 OK", [("Content-Type", "text/html")])
        return Body()

    body = WsgiTracking(app, tracker(collector))({"REQUEST_METHOD": "POST"}, lambda *_: None)
    with pytest.raises(RuntimeError, match="broken off"):
        list(body)
    body.close()  # type: ignore[attr-defined]
    assert closed.is_set()


async def log_in(request: Request) -> HTMLResponse:
    request.state.analytics.track("Before")
    request.session["user_id"] = 7
    request.state.analytics.track("After")
    return HTMLResponse(PAGE)


async def log_out(request: Request) -> HTMLResponse:
    request.state.analytics.track("Before")
    request.session.clear()
    return HTMLResponse(PAGE)


def test_a_starlette_session_gives_one_user(collector: FakeCollector):
    """All events of a request that logs in or out by Starlette's session have the user of that session."""
    app = Starlette(routes=[Route("/in", log_in), Route("/out", log_out)])
    app.add_middleware(SessionMiddleware, secret_key="test")
    app.add_middleware(
        AsgiTracking, tracker=tracker(collector, user=lambda request: request.raw.get("session", {}).get("user_id"))
    )
    with asgi_server(app) as port:
        cookies = request(port, "/in").headers.get_all("Set-Cookie") or []
        session = next(cookie.partition(";")[0] for cookie in cookies if cookie.startswith("session="))
        request(port, "/out", {"Cookie": session})
        events = collector.wait(5)
    assert [event.get("event", "page") for event in events] == ["Before", "After", "page", "Before", "page"]
    assert {event["userId"] for event in events} == {"7"}


def test_flask_logins_current_user_is_in_all_events(collector: FakeCollector, caplog: pytest.LogCaptureFixture):
    """`current_user`, which exists only within Flask's request, is the user of the track and of the page call."""
    app = flask.Flask("example")
    app.secret_key = "test"
    manager = flask_login.LoginManager(app)

    class User(flask_login.UserMixin):
        id = "u-1"

    manager.request_loader(lambda request: User() if request.args else None)

    @app.get("/")
    def home() -> str:
        get_analytics(flask.request).track("Seen")
        return "<title>Home</title>"

    sending = tracker(collector, user=lambda _: flask_login.current_user.get_id())
    app.wsgi_app = WsgiTracking(app.wsgi_app, sending)  # type: ignore[method-assign]
    with wsgi_server(app) as port:
        request(port, "/?in")
        request(port, "/")
        events = collector.wait(4)
    assert [(event["type"], event.get("userId")) for event in events] == [
        ("track", "u-1"),
        ("page", "u-1"),
        ("track", None),
        ("page", None),
    ]
    assert "raised" not in caplog.text


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("import streams.tracking", "pip install turnout-tracking, then import from turnout_tracking"),
        ("from streams.tracking.django import attach", "pip install turnout-tracking"),
        ("from turnout_tracking import Visit", "turnout_tracking.Visit is now turnout_tracking.PageRequest"),
    ],
)
def test_old_names_say_the_new_ones(program: str, message: str):
    """An import of an old name fails with the new name."""
    with pytest.raises(ImportError, match=message):
        exec(program)  # noqa: S102


def test_without_the_middleware():
    """get_analytics names what is missing; logged_in does nothing."""
    for raw in ({}, {"state": {}}, {"state": None}, object()):
        assert find_analytics(raw) is None
        with pytest.raises(LookupError, match="wrap the app in AsgiTracking or WsgiTracking"):
            get_analytics(raw)
        logged_in(raw, "u-1")
