"""The examples of deploy/docs/tracking.md run, each as the app that it is, under a real server."""

import ast
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest

from streams.tracking import Analytics, Tracker, tracker
from streams.tracking.visit import AsgiVisit
from tests.ports import free_port
from tests.streams.tracking.helpers import FakeCollector, request, until

DOCUMENT = (Path(__file__).parents[3] / "deploy" / "docs" / "tracking.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
FILES = {block.partition("\n")[0].removeprefix("# "): block for block in BLOCKS if re.match(r"# \w+\.py\n", block)}
SITE = Path(__file__).parent / "site"

UVICORN = ("uvicorn", "--log-level", "warning", "--port")
GUNICORN = ("gunicorn", "--workers", "2", "--preload", "--log-level", "warning", "--bind")

APPS = {
    "starlette_app.py": (*UVICORN, "starlette_app:app"),
    "fastapi_app.py": (*UVICORN, "fastapi_app:app"),
    "flask_app.py": (*GUNICORN, "flask_app:app"),
    "asgi.py": (*UVICORN, "asgi:application"),
    "wsgi.py": (*GUNICORN, "wsgi:application"),
}


def block_with(text: str) -> str:
    """The one block of the page that has this in it."""
    (found,) = [block for block in BLOCKS if text in block]
    return found


@contextmanager
def served(folder: Path, arguments: tuple[str, ...], environment: dict[str, str]) -> Iterator[int]:
    """`python -m SERVER … PORT APP` until the end of the `with`, then SIGTERM, as an init system stops it; the port."""
    port = free_port()
    *options, app = arguments
    bind = str(port) if "--port" in options else f"127.0.0.1:{port}"
    command = [sys.executable, "-m", *options, bind, app]
    server = subprocess.Popen(command, cwd=folder, env=os.environ | environment | {"PYTHONPATH": str(folder)})

    def answers() -> bool:
        assert server.poll() is None
        try:
            return request(port, "/none").status == 404
        except OSError:
            return False

    try:
        until(answers, 120)
        yield port
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(120)


@pytest.fixture
def example(tmp_path: Path, collector: FakeCollector) -> Path:
    """A folder with the page's files, which send to the test's collector, and the Django project around them."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text.replace("https://events.example.com", collector.url))
    settings = (SITE / "site_settings.py").read_text() + FILES["settings.py"]
    (tmp_path / "site_settings.py").write_text(settings)
    (tmp_path / "site_views.py").write_text((SITE / "site_views.py").read_text())
    return tmp_path


def test_every_framework_has_an_example():
    """Each file that the page shows is run here."""
    assert FILES.keys() == APPS.keys() | {"settings.py"}


@pytest.mark.parametrize("name", APPS)
def test_an_example_sends_pages_and_tracks(name: str, example: Path, collector: FakeCollector):
    """A product page sends its track and its page call under the cookie's identity, before the server has ended."""
    environment = {"TURNOUT_WRITE_KEY": "web-key", "SITE_DATABASE": str(example / "site.sqlite3")}
    with served(example, APPS[name], environment) as port:
        first = request(port, "/products/c-1?utm_source=mail", {"Host": "shop.example.com"})
        anonymous_id = (first.cookie or "").partition("=")[2].partition(";")[0]
        request(port, "/products/c-2", {"Cookie": f"ajs_anonymous_id={anonymous_id}; ajs_user_id=u-1"})
    assert {batch.key for batch in collector.batches} == {"web-key"}
    sent = {(event["type"], event["properties"].get("path")): event for event in collector.events}
    assert len(sent) == 3, "one track by its last request, and two pages"
    page = sent["page", "/products/c-1"]
    assert page["properties"]["url"] == "http://shop.example.com/products/c-1?utm_source=mail"
    assert page["properties"]["title"] == "Coffee"
    assert page["context"]["campaign"] == {"source": "mail"}
    assert {event["anonymousId"] for event in collector.events} == {anonymous_id}
    tracks = [event for event in collector.events if event["type"] == "track"]
    assert sorted(track["properties"]["product_id"] for track in tracks) == ["c-1", "c-2"]
    assert {event.get("userId") for event in collector.events} == {None, "u-1"}
    assert "Domain=example.com" in (first.cookie or "")


@pytest.mark.parametrize("name", ["asgi.py", "wsgi.py"])
def test_django_identifies_who_logs_in(name: str, example: Path, collector: FakeCollector):
    """A login sends identify with the user's key; later pages that ask for the user have it, and others do not."""
    environment = {"TURNOUT_WRITE_KEY": "web-key", "SITE_DATABASE": str(example / "site.sqlite3")}
    settings = {"DJANGO_SETTINGS_MODULE": "site_settings", "PYTHONPATH": str(example)}
    subprocess.run(
        [sys.executable, "-m", "django", "migrate", "--verbosity", "0"],
        check=True,
        env=os.environ | environment | settings,
    )
    with served(example, APPS[name], environment) as port:
        login = request(port, "/login", {"Cookie": "ajs_anonymous_id=a-1"})
        session = next(c for c in login.headers.get_all("Set-Cookie") or [] if c.startswith("sessionid="))
        cookie = {"Cookie": f"ajs_anonymous_id=a-1; {session.partition(';')[0]}"}
        assert b"Account of ann" in request(port, "/account", cookie).body
        request(port, "/products/c-1", cookie)
    sent = {(event["type"], event["context"]["page"]["path"]): event for event in collector.events}
    assert sent["identify", "/login"]["userId"] == "1"
    assert sent["identify", "/login"]["traits"] == {}
    assert {event["anonymousId"] for event in sent.values()} == {"a-1"}
    assert sent["page", "/account"]["userId"] == "1"
    assert "userId" not in sent["page", "/products/c-1"]


def test_djangos_test_client_needs_no_middleware(example: Path, collector: FakeCollector):
    """Under the test client, which goes around wsgi.py, the view's calls are taken and nothing is sent."""
    program = """
import django; django.setup()
from django.test import Client
assert Client().get("/products/c-1").status_code == 200
"""
    environment = {
        "DJANGO_SETTINGS_MODULE": "site_settings",
        "PYTHONPATH": str(example),
        "SITE_DATABASE": str(example / "site.sqlite3"),
    }
    subprocess.run([sys.executable, "-c", program], check=True, env=os.environ | environment)
    assert collector.batches == []


def test_the_calls_of_a_view(collector: FakeCollector):
    """The lines that show what a view may call do what stands beside them."""
    sending = Tracker(collector.url, "k")
    scope: dict[str, Any] = {"headers": [], "method": "GET", "path": "/p", "query_string": b""}
    analytics = Analytics(sending, AsgiVisit(scope, sending.resolve))
    exec(block_with("analytics.skip_page()"), {"analytics": analytics})  # noqa: S102
    analytics.start(200, {"content-type": "text/html"})
    analytics.finish()
    assert sending.flush(5)
    assert [(event["type"], event.get("userId")) for event in collector.events] == [
        ("track", None),
        ("identify", "u-1"),
    ]


def test_the_example_of_a_login_signal(collector: FakeCollector):
    """With Flask-Login's signal connected as shown, a login sends identify with the traits that the setting gives."""
    flask = pytest.importorskip("flask")
    flask_login = pytest.importorskip("flask_login")
    from streams.tracking import WsgiTracking

    sending = Tracker(collector.url, "k", traits=lambda user: {"plan": user.plan})
    app = flask.Flask("example")
    app.secret_key = "test"
    manager = flask_login.LoginManager(app)

    class User(flask_login.UserMixin):
        id = "u-1"
        plan = "pro"

    manager.user_loader(lambda _: User())

    @app.get("/login")
    def log_in():
        flask_login.login_user(User())
        return "<title>Welcome</title>"

    app.wsgi_app = WsgiTracking(app.wsgi_app, sending)  # type: ignore[method-assign]
    namespace: dict[str, Any] = {}
    exec(block_with("user_logged_in.connect"), namespace)  # noqa: S102
    assert app.test_client().get("/login").status_code == 200
    assert sending.flush(5)
    (identify,) = collector.events
    assert (identify["type"], identify["userId"], identify["traits"]) == ("identify", "u-1", {"plan": "pro"})


def test_the_example_of_settings(monkeypatch: pytest.MonkeyPatch):
    """The settings that the page shows are settings, and its callables work on any request."""
    monkeypatch.setenv("TURNOUT_WRITE_KEY", "k")
    namespace: dict[str, Any] = {"os": os, "Tracker": Tracker}
    exec(block_with("trusted_proxies=["), namespace)  # noqa: S102
    made: Tracker = namespace["tracker"]
    scope = {"headers": [(b"cookie", b"cookie_consent=yes; experiment=b; ads=no")], "session": {"user_id": 7}}
    visit = AsgiVisit(scope, made.resolve)
    assert made.consent(visit) is True
    assert [made.ask(ask, visit) for ask in (made.user, made.name, made.properties, made.context)] == [
        7,
        None,
        {"variant": "b"},
        {"consent": {"categoryPreferences": {"advertising": False}}},
    ]


def test_every_setting_is_documented():
    """The page's table is what the code declares: name, default and description of each setting."""
    assert settings_table() in DOCUMENT


def settings_table() -> str:
    """The rows of the table of settings, from the fields and the texts that stand below them in the code."""
    (declared,) = [
        node
        for node in ast.parse(Path(tracker.__file__).read_text()).body
        if isinstance(node, ast.ClassDef) and node.name == "Tracker"
    ]
    texts = {
        before.target.id: after.value.value
        for before, after in zip(declared.body, declared.body[1:], strict=False)
        if isinstance(before, ast.AnnAssign) and isinstance(after, ast.Expr)
    }
    rows = []
    for field in fields(Tracker):
        if field.init:
            default = field.default
            shown = "" if default is MISSING or callable(default) or default in (None, (), "") else f"`{default}`"
            if isinstance(default, frozenset):
                shown = "`GET`" if "GET" in default else ""
            rows.append(f"| `{field.name}` | {shown} | {texts[field.name]} |")
    return "\n".join(rows)
