"""What both middlewares do around an app: who the visitor is, what the app adds, and that no response suffers."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute

from streams.tracking import Analytics, AsgiTracking, Tracker, WsgiTracking, find_analytics, get_analytics, logged_in
from tests.streams.tracking.helpers import FakeCollector, asgi_server, request, wsgi_server

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
    """`page` names the page and adds to it; what it says wins over the settings, and those over what is found."""

    def view(analytics: Analytics) -> dict[str, str]:
        analytics.page("Product", {"a": "view", "title": "Better"}, category="Shop")
        analytics.page(properties={"d": 1}, context={"page": {"tags": ["x"]}}, integrations={"All": False})
        return {}

    sending = tracker(
        collector,
        name=lambda _: "Other",
        properties=lambda _: {"a": "setting", "b": "setting"},
        context=lambda visit: {"consent": {"categoryPreferences": {"ads": visit.header("sec-gpc") != "1"}}},
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
    """Cookies are given only to integrations that the app has not left out, and never replace what it says."""

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
        if analytics.visit.path == "/skip":
            analytics.skip_page()
        else:
            analytics.page()
        return {"Content-Type": "application/json"} if analytics.visit.path == "/json" else {}

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
        ({"user": lambda visit: int(visit.query)}, None, "5"),
        ({"user": lambda _: None}, None, "cookie"),
        ({"user": lambda _: "setting"}, "assigned", "assigned"),
    ],
)
def test_who_the_user_is(kind: str, settings: Any, assigned: Any, expected: str, collector: FakeCollector):
    """What the app assigns comes first, then what the setting says, then the browser client's cookie."""

    def view(analytics: Analytics) -> dict[str, str]:
        analytics.user_id = assigned
        return {}

    with serving(kind, tracker(collector, **settings), view) as port:
        request(port, "/?5", {"Cookie": "ajs_user_id=cookie"})
        assert collector.wait(1)[0]["userId"] == expected


@both
@pytest.mark.parametrize("name", ["skip", "consent", "user", "name", "properties", "context", "is_bot"])
def test_a_setting_that_raises_breaks_nothing(
    name: str, kind: str, collector: FakeCollector, caplog: pytest.LogCaptureFixture
):
    """Response and page call go out as if it had said nothing (no consent, that is), and the log has no data."""

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
    sending = tracker(collector, consent=lambda visit: visit.cookie("ok") == "yes")
    with serving(kind, sending, lambda _: {}) as port:
        assert request(port, "/").cookie is None
        assert request(port, "/").cookie is None
        assert request(port, "/", {"Cookie": "ok=yes", "Sec-GPC": "1"}).cookie
        assert len({event["anonymousId"] for event in collector.wait(3)}) == 3


@both
def test_a_response_gets_private_with_the_cookie_only(kind: str, collector: FakeCollector):
    """A response that names no caching gets `private` where the cookie is set, and stays as it is elsewhere."""
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
                AsgiTracking, tracker=tracker(collector, name=lambda visit: visit.raw["endpoint"].__name__.title())
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
    """The app's body is closed by the server's close, and what it raises reaches the server."""
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


def test_without_the_middleware():
    """get_analytics says what is missing; logged_in does nothing."""
    for raw in ({}, {"state": {}}, {"state": None}, object()):
        assert find_analytics(raw) is None
        with pytest.raises(LookupError, match="wrap the app in AsgiTracking or WsgiTracking"):
            get_analytics(raw)
        logged_in(raw, "u-1")
