"""Requests of an attacker, one test each."""

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote, urlsplit

import pytest
import requests

from deploy.console.access.codes import MAX_CODES
from deploy.console.access.headers import MAX_QUERY_BYTES, own_origins
from deploy.console.access.login import LINK_SECONDS
from deploy.console.access.oidc import MAX_PATH, OidcProvider
from deploy.console.access.roles import Role
from tests.deploy.console.serving import ServedConsole, example, serving_console

OIDC = {"issuer": "https://login.example", "client_id": "turnout", "client_secret": "s"}
PARALLEL = 1_000


def raw(console: ServedConsole, request: str) -> str:
    """Send a request as it is; returns the first line of the answer."""
    address = urlsplit(console.url)
    with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
        connection.sendall(request.encode())
        return connection.makefile("rb").readline().decode()


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "POST", "PUT", "DELETE", "TRACE", "PROPFIND"])
def test_no_method_passes_without_a_login(console, method):
    """Without a session no method reaches a page, nor its JSON form."""
    for path in ("/", "/find.json?q=m-1", "/flow.json", "/event/replay"):
        answer = requests.request(method, f"{console.url}{path}", timeout=60, allow_redirects=False)
        assert answer.status_code == 401, (method, path)
        assert "access-control-allow-origin" not in answer.headers


def test_preview_does_not_use_up_a_link(console):
    """A program that sends HEAD for a link, as chats do, leaves its code valid."""
    link = console.app.login.link()
    assert requests.head(link, timeout=60).status_code == 405
    assert requests.get(link, timeout=60, allow_redirects=False).status_code == 303


async def _statuses(console: ServedConsole, method: str, path: str, query: str = "") -> list[int]:
    """Send many requests at once, without sockets; returns the statuses."""
    host = urlsplit(console.url).netloc.encode()

    async def send_one() -> int:
        sent = []
        scope = {
            "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": query.encode(),
            "headers": [(b"host", host)], "scheme": "http", "http_version": "1.1", "server": ("127.0.0.1", 1),
            "root_path": "", "client": ("127.0.0.1", 1),
        }  # fmt: skip

        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def keep(message: dict[str, object]) -> None:
            sent.append(message)

        await console.app(scope, receive, keep)
        return int(sent[0]["status"])

    return await asyncio.gather(*(send_one() for _ in range(PARALLEL)))


def test_one_of_many_gets_the_session():
    """Of 1,000 requests at once with the same code, one gets a session."""
    with serving_console(example()) as served:
        query = urlsplit(served.app.login.link()).query
        statuses = asyncio.run(_statuses(served, "GET", "/login", query))
    assert sorted(set(statuses)) == [303, 401]
    assert statuses.count(303) == 1


def test_many_requests_for_links_end_no_valid_one():
    """1,000 requests at once for a link print one; in 10 minutes fewer can be printed than are valid at a time."""
    with serving_console(example()) as served:
        link = served.app.login.link()
        assert set(asyncio.run(_statuses(served, "POST", "/login/link"))) == {401}
        assert len(served.links) == 1
        assert requests.get(link.replace(urlsplit(link).netloc, urlsplit(served.url).netloc), timeout=60).ok
    assert 600 / LINK_SECONDS + 1 < MAX_CODES


def test_code_is_taken_once_by_threads(console):
    """A code that several connections send at the same time gives one session."""
    link = console.app.login.link()
    with ThreadPoolExecutor(16) as pool:
        statuses = list(
            pool.map(lambda _: requests.get(link, timeout=60, allow_redirects=False).status_code, range(32))
        )
    assert statuses.count(303) == 1


@pytest.mark.parametrize(
    "host",
    ["localhost.:{port}", "127.0.0.1.:{port}", "127.0.0.1", "127.1:{port}", "user@127.0.0.1:{port}", "[::]:{port}"],
)
def test_other_spellings_of_the_host_are_refused(console, host):
    """A trailing dot, a missing port, a short address or user information in Host is refused."""
    host = host.format(port=urlsplit(console.url).port)
    assert console.get("/", role=Role.EDITOR, headers={"host": host}).status_code == 403


def test_two_hosts_are_refused(console):
    """A request with two Host headers, which a proxy may read differently, is refused."""
    own = urlsplit(console.url).netloc
    for hosts in ((own, "evil.example"), ("evil.example", own)):
        lines = "".join(f"Host: {host}\r\n" for host in hosts)
        assert " 403 " in raw(console, f"GET /up HTTP/1.1\r\n{lines}Connection: close\r\n\r\n") or " 400 " in raw(
            console, f"GET /up HTTP/1.1\r\n{lines}Connection: close\r\n\r\n"
        )


def test_default_port_is_the_same_host():
    """An address with its scheme's default port is the one that browsers send, with the port or without."""
    assert own_origins("https://Turnout.example:443", 8070) == ("https://turnout.example",)
    assert "http://127.0.0.1" in own_origins("http://localhost:80", 80)
    with serving_console(example(url="https://turnout.example:443")) as served:
        for host in ("turnout.example", "turnout.example:443", "TURNOUT.example"):
            assert served.get("/up", headers={"host": host}).status_code == 200, host
        for host in ("turnout.example:80", "turnout.example.", "x.turnout.example"):
            assert served.get("/up", headers={"host": host}).status_code == 403, host


def test_long_addresses_are_refused(console):
    """An address of more than 8 KB is refused before a screen, the ledger or Kafka sees it."""
    for path in ("/find.json?q=" + "x" * MAX_QUERY_BYTES, "/" + "x" * MAX_QUERY_BYTES, "/?" + "a&" * MAX_QUERY_BYTES):
        assert console.get(path, role=Role.EDITOR).status_code in (400, 414), len(path)
    assert console.get("/find.json", role=Role.EDITOR).status_code == 200


def test_form_with_many_fields_is_refused(console):
    """A form of very many fields is refused."""
    client = console.session(Role.EDITOR)
    assert client.post(f"{console.url}/logout", "&a=1" * 10_000, timeout=60).status_code == 400


@pytest.mark.parametrize("path", ["/\t/evil.example", "/\n/evil.example", "/%2f/evil.example", "///evil.example"])
def test_no_spelling_of_a_path_leads_elsewhere(console, path):
    """A path that browsers may read as another host does not become a redirect to it."""
    location = console.app._renderer.redirect(path).headers["location"]
    assert location.startswith("/")
    assert not location.startswith("//")
    assert not set(location) & set("\t\n\r\\")


def test_login_keeps_no_long_path(monkeypatch):
    """A login that anybody can begin keeps only a short path."""
    settings = example(oidc=OIDC).settings.console.oidc
    provider = OidcProvider(settings, "http://127.0.0.1/login/callback")
    monkeypatch.setattr(provider, "_discover", lambda: {"authorization_endpoint": "https://login.example/auth"})
    assert provider.begin("/" + "x" * MAX_PATH)[1].path == "/"
    assert provider.begin("/flow")[1].path == "/flow"


def test_login_cookie_is_bound_to_the_host_behind_tls(monkeypatch):
    """Behind TLS another host of the domain cannot set the cookie of a login, to log a user in as somebody else."""
    monkeypatch.setattr(OidcProvider, "_discover", lambda _: {"authorization_endpoint": "https://login.example/auth"})
    with serving_console(example(url="https://turnout.example", oidc=OIDC)) as served:
        answer = served.get("/login?next=//evil.example", headers={"host": "turnout.example"})
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-turnout-login=")
    assert {"Secure", "HttpOnly", "Path=/"} <= set(cookie.split("; "))
    assert "evil" not in answer.headers["location"]


@pytest.mark.parametrize("path", ["/", "/find.json", "/?q=m-1", "/flow.json", "/health.json", "/missing", "/login"])
def test_nothing_personal_is_kept_by_caches(console, path):
    """Pages, their JSON forms and errors are kept by no cache."""
    assert console.get(path, role=Role.VIEWER).headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/static", "/static/", "/static/vendor", "/static/vendor/", "/static//etc/passwd"])
def test_folders_are_not_listed(console, path):
    """A folder of static files has no page."""
    answer = console.get(path)
    assert answer.status_code in (401, 404)
    assert "htmx" not in answer.text.replace("/static/vendor/htmx.js", "").replace("htmx-config", "")


def test_json_is_no_script(console):
    """A JSON form is not run as a script, nor read as a page, whatever a field contains."""
    text = "</script><script>alert(1)</script>\u2028=cmd|'/C calc'!A0"
    answer = console.get(f"/flow.json?period={quote(text)}", role=Role.EDITOR)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert "\u2028" not in answer.text
    assert answer.json()["error"].startswith(f"The period {text!r} is not one of")


@pytest.mark.parametrize(
    "query",
    ["%00", "%ED%A0%80", "%FF", "turnout.events:0:" + "9" * 30, "turnout.events:" + "9" * 30 + ":0", "a" * 4_000],
)
def test_odd_searches_are_no_internal_errors(console, query):
    """A search for invalid text, or for numbers that Kafka cannot have, is answered like any other."""
    assert console.get(f"/find.json?q={query}", role=Role.EDITOR).status_code in (200, 503)


def test_ids_are_not_logged(console, capfd, caplog):
    """What users search for is in no log, also if the search fails."""
    for path in (
        "/find.json?q=u-secret-1",
        "/event/explain.json?at=u-secret-1",
        "/u-secret-1",
        "/login?code=u-secret-1",
    ):
        console.get(path, role=Role.EDITOR)
    output = capfd.readouterr()
    assert "u-secret-1" not in caplog.text + output.out + output.err


def test_other_topics_are_not_shown(console):
    """A place in a topic that has no events is not read, whatever Kafka lets the console read."""
    for topic in ("__consumer_offsets", "turnout.dead", "turnout.rulesets", "payments", "turnout.forward.meta"):
        answer = console.get(f"/event/explain.json?at={topic}:0:0", role=Role.EDITOR)
        assert answer.status_code == 400, topic
    assert console.get("/event/explain.json?at=turnout.events:0:0", role=Role.EDITOR).status_code == 503
