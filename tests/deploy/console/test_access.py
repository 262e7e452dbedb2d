"""Who gets in, and what an attacker's requests get."""

import json
from dataclasses import replace

import pytest
import requests
from pydantic import ValidationError

from deploy.config.models.console import ConsoleSettings, OidcSettings
from deploy.console.access.codes import CODE_SECONDS, OneTimeCodes
from deploy.console.access.roles import Role, role_of
from deploy.console.access.sessions import SESSION_SECONDS, Session, SessionStore
from deploy.console.screens.registry import SCREENS
from tests.deploy.console.serving import ServedConsole, example, serving_console

OIDC = {"issuer": "https://login.example", "client_id": "turnout", "client_secret": "s"}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("path", ["/", "/find.json", "/nothing", *(f"{screen.path}?x=1" for screen in SCREENS)])
def test_no_page_without_a_login(console, path):
    """Without a session every page answers 401, also those that do not exist, in the form that is asked for."""
    answer = console.get(path)
    assert answer.status_code == 401
    assert console.get(path, headers={"cookie": "turnout-1=x; __Host-turnout=y"}).status_code == 401
    assert console.get(path, headers={"accept": "application/json"}).json() == {"error": ""}


def test_code_works_once(console):
    """A link's code is exchanged for a cookie; a second use answers 401 without one."""
    link = console.app.login.link()
    first = requests.get(link, timeout=60, allow_redirects=False)
    assert (first.status_code, first.headers["location"]) == (303, "/")
    cookie = first.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Secure" not in cookie
    assert requests.get(console.url, cookies=first.cookies, timeout=60).status_code == 200
    again = requests.get(link, timeout=60, allow_redirects=False)
    assert again.status_code == 401
    assert "set-cookie" not in again.headers
    assert console.get("/login?code=guess").status_code == 401


def test_cookie_is_secure_behind_tls():
    """Behind TLS the cookie is sent over TLS only, and has the prefix that keeps other hosts from setting it."""
    with serving_console(example(url="https://turnout.example")) as served:
        code = served.app.login.link().partition("?")[2]
        answer = served.get(f"/login?{code}", headers={"host": "turnout.example"})
    assert answer.headers["set-cookie"].startswith("__Host-turnout=")
    assert "Secure" in answer.headers["set-cookie"]
    assert answer.headers["strict-transport-security"]


def test_code_expires():
    """A code is valid for 10 minutes, and not at their end."""
    clock = Clock()
    codes = OneTimeCodes(clock)
    early, late = codes.issue(), codes.issue()
    clock.now = CODE_SECONDS - 1
    assert codes.take(early)
    clock.now = CODE_SECONDS
    assert not codes.take(late)
    assert not codes.take("")


def test_session_ends():
    """A session ends after 12 hours, and at a logout."""
    clock = Clock()
    sessions = SessionStore(clock)
    token, other = sessions.start("ada", Role.VIEWER), sessions.start("bob", Role.VIEWER)
    sessions.end(other)
    assert sessions.find(other) is None
    clock.now = SESSION_SECONDS - 1
    assert sessions.find(token)
    clock.now = SESSION_SECONDS
    assert sessions.find(token) is None


def test_new_link_is_printed_where_the_console_runs(console):
    """A user whose link has expired gets a new one only in the console's own output, and not more than a few."""
    answers = [requests.post(f"{console.url}/login/link", timeout=60) for _ in range(3)]
    assert all(answer.status_code == 401 and "code=" not in answer.text for answer in answers)
    (link,) = console.links
    assert requests.get(link, timeout=60, allow_redirects=False).status_code == 303


def test_foreign_host_is_refused(console):
    """A page that resolves its own name to this machine (DNS rebinding) gets 403 for its Host."""
    for host in ("evil.example", "127.0.0.1.evil.example", f"evil.example:{console.url.rpartition(':')[2]}", ""):
        assert console.get("/", role=Role.EDITOR, headers={"host": host}).status_code == 403, host
    name = console.url.replace("http://127.0.0.1", "localhost")
    assert console.get("/", role=Role.EDITOR, headers={"host": name}).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1", "http://127.0.0.1:1"])
def test_foreign_origin_is_refused(console, origin):
    """A request of another site's page gets 403 for its Origin, whatever it carries."""
    client = console.session(Role.EDITOR)
    form = {"csrf": console.csrf(client)}
    answer = client.post(f"{console.url}/logout", form, headers={"origin": origin}, timeout=60)
    assert answer.status_code == 403
    assert client.get(console.url, timeout=60).status_code == 200
    assert client.get(console.url, headers={"origin": console.url}, timeout=60).status_code == 200


def test_form_without_its_token_is_refused(console):
    """An action whose CSRF token is missing or another session's answers 403, and nothing happens."""
    client, other = console.session(Role.EDITOR), console.session(Role.EDITOR)
    for form in ({}, {"csrf": ""}, {"csrf": console.csrf(other)}, {"csrf": "\u00fc"}):
        assert client.post(f"{console.url}/logout", form, timeout=60).status_code == 403
    assert client.get(console.url, timeout=60).status_code == 200
    headers = {"x-csrf-token": console.csrf(client)}
    assert client.post(f"{console.url}/logout", headers=headers, timeout=60).status_code == 401
    assert client.get(console.url, timeout=60).status_code == 401


def test_large_form_is_refused(console):
    """A form of more than 256 KB answers 413."""
    client = console.session(Role.EDITOR)
    assert client.post(f"{console.url}/logout", {"a": "x" * 300_000}, timeout=60).status_code == 413


@pytest.mark.parametrize("path", ["/", "/static/console.js", "/nothing", "/up"])
def test_every_response_is_protected(console, path):
    """Every response has a policy without unsafe-inline, and the other security headers."""
    answer = console.get(path)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == ("no-store" if "static" not in path else answer.headers["cache-control"])
    assert "server" not in answer.headers


@pytest.mark.parametrize(
    "path",
    ["/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static/%2e%2e%2f%2e%2e%2fetc/passwd"],
)
def test_no_file_outside_of_the_static_folder(console, path):
    """A path with `..` leads to no file."""
    request = requests.Request("GET", f"{console.url}/").prepare()
    request.url = f"{console.url}{path}"
    answer = requests.Session().send(request, timeout=60)
    assert answer.status_code in (401, 404)
    assert "ASGI" not in answer.text


def test_login_does_not_lead_elsewhere(console):
    """The path after the login is one of the console's."""
    renderer = console.app._renderer
    for path in ("https://evil.example", "//evil.example", "/\\evil.example", "evil"):
        assert renderer.redirect(path).headers["location"] == "/", path
    assert renderer.redirect("/flow?source=web").headers["location"] == "/flow?source=web"


def test_actions_are_kept_without_ids(console, audit_file):
    """The audit log has who did what, and ids only as keyed digests."""
    client, digest_of = console.session(Role.OPERATOR), console.backend.audit_log.digest
    client.post(f"{console.url}/logout", {"csrf": console.csrf(client)}, timeout=60)
    entry = json.loads(audit_file.read_text().splitlines()[-1])
    assert (entry["user"], entry["role"], entry["action"]) == ("Mira Vogt", "operator", "log out")
    console.backend.audit_log.record(Session("ada", Role.OPERATOR, 0.0), "replay", event=digest_of("m-1"))
    assert json.loads(audit_file.read_text().splitlines()[-1])["event"] == digest_of("m-1") != "m-1"
    assert digest_of("u-1") != digest_of("u-2")


def test_console_is_open_on_loopback_only():
    """An address that others reach needs `oidc`, and a provider that others reach needs https."""
    with pytest.raises(ValidationError, match="needs `oidc`"):
        ConsoleSettings(host="0.0.0.0")
    assert ConsoleSettings(host="0.0.0.0", oidc=OIDC).oidc
    with pytest.raises(ValidationError, match="https"):
        OidcSettings(**OIDC | {"issuer": "http://login.example"})
    with pytest.raises(ValidationError, match="openid"):
        OidcSettings(**OIDC, scopes=("profile",))


def test_highest_role_of_the_groups_holds():
    """A user has the highest role of their groups, and none without one."""
    settings = OidcSettings(**OIDC, viewers=("staff",), operators=("on-call", "data"), editors=("data",))
    assert role_of(["staff", "data"], settings) == Role.EDITOR
    assert role_of(["on-call"], settings) == Role.OPERATOR
    assert role_of(["staff"], settings) == Role.VIEWER
    assert role_of(["*"], settings) is None
    assert role_of([], OidcSettings(**OIDC)) == Role.VIEWER
    assert Role.EDITOR.may(Role.OPERATOR)
    assert not Role.VIEWER.may(Role.OPERATOR)


def test_away_backends_are_said(console: ServedConsole):
    """Without Kafka and the ledger, a page names the unreachable service in both forms; the console keeps running."""
    answer = console.get("/find.json?q=turnout.events:0:1", role=Role.VIEWER)
    assert answer.status_code == 503
    assert "cannot reach Kafka" in answer.json()["error"]
    assert console.get("/", role=Role.VIEWER).status_code == 200


def test_configuration_is_that_of_now():
    """A page shows the configuration that the folder has now."""
    configuration = example()
    with serving_console(configuration) as served:
        served.backend._current = lambda: replace(configuration, version="changed")
        assert served.backend.configuration.version == "changed"
