"""The examples of deploy/docs/tracking.md run, each as the app that it is, under a real server."""

import ast
import os
import re
import subprocess
import sys
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest

from tests.streams.tracking import examples
from tests.streams.tracking.examples import APPS, DOCUMENT, FILES, block_with, served
from tests.streams.tracking.helpers import FakeCollector, asgi_server, request
from turnout_tracking import Analytics, Tracker, tracker
from turnout_tracking.page_request import AsgiRequest


@pytest.fixture
def example(tmp_path: Path, collector: FakeCollector) -> Path:
    """A folder with the page's files, which send to the test's collector."""
    examples.write(tmp_path, collector.url)
    return tmp_path


def test_every_framework_has_an_example():
    """Each file that the page shows is run here."""
    assert FILES.keys() == APPS.keys() | {"settings.py"}


@pytest.mark.parametrize("name", APPS)
def test_an_example_sends_pages_and_tracks(name: str, example: Path, collector: FakeCollector):
    """A product page sends its track and its page call under the cookie's identity, before the server has ended."""
    examples.check(name, example, collector)


@pytest.mark.parametrize("name", ["asgi.py", "wsgi.py"])
def test_django_identifies_who_logs_in(name: str, example: Path, collector: FakeCollector):
    """A login sends identify with the user's key. Later requests that load the user have it in all events."""
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
        for path in ("/account", "/account-async"):
            assert b"Account of ann" in request(port, path, cookie).body
        request(port, "/products/c-1", cookie)
        request(port, "/logout", cookie)
    sent = {(event["type"], event["context"]["page"]["path"]): event for event in collector.events}
    assert sent["identify", "/login"]["userId"] == "1"
    assert sent["identify", "/login"]["traits"] == {}
    assert {event["anonymousId"] for event in sent.values()} == {"a-1"}
    for path in ("/account", "/account-async", "/logout"):
        assert (sent["track", path]["userId"], sent["page", path]["userId"]) == ("1", "1")
    assert "userId" not in sent["track", "/products/c-1"] | sent["page", "/products/c-1"]


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


def test_the_readme_of_the_distribution(collector: FakeCollector):
    """The example is an app that sends its track and its page call."""
    (block,) = re.findall(r"```python\n(.*?)```", (examples.ROOT / "streams/tracking/README.md").read_text(), re.DOTALL)
    namespace: dict[str, Any] = {}
    exec(block.replace("https://events.example.com", collector.url), namespace)  # noqa: S102
    with asgi_server(namespace["app"]) as port:
        request(port, "/products/c-1")
        assert [event["type"] for event in collector.wait(2)] == ["track", "page"]


def test_the_calls_of_a_view(collector: FakeCollector):
    """The lines that show a view's calls do what their comments say."""
    sending = Tracker(collector.url, "k")
    scope: dict[str, Any] = {"headers": [], "method": "GET", "path": "/p", "query_string": b""}
    analytics = Analytics(sending, AsgiRequest(scope, sending.resolve))
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
    from turnout_tracking import WsgiTracking

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
    asked = AsgiRequest(scope, made.resolve)
    assert made.consent(asked) is True
    assert [made.ask(ask, asked) for ask in (made.user, made.name, made.properties, made.context)] == [
        7,
        None,
        {"variant": "b"},
        {"consent": {"categoryPreferences": {"advertising": False}}},
    ]


def test_every_setting_is_documented():
    """The page's table matches the code: name, default and description of each setting."""
    assert settings_table() in DOCUMENT


def settings_table() -> str:
    """Return the rows of the table of settings, from the fields and their docstrings."""
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
