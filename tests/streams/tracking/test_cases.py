"""The cases of tests/cases/tracking: cookies, caches, addresses, bots, and whole requests through both middlewares."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.streams.tracking.helpers import asgi_server, keep_events, request, until, wsgi_server
from turnout_tracking import AsgiTracking, Tracker, WsgiTracking
from turnout_tracking.identity import keep_private, read_cookies
from turnout_tracking.pages import is_bot
from turnout_tracking.proxies import make_resolve


class Loader(yaml.SafeLoader):
    """YAML with `!re`, a regular expression that the whole text matches."""


Loader.add_constructor("!re", lambda loader, node: re.compile(loader.construct_scalar(node)))


def load(name: str) -> Any:
    return yaml.load((Path(__file__).parents[2] / "cases" / "tracking" / name).read_text(), Loader)  # noqa: S506


def cases(name: str) -> Any:
    loaded = load(name)
    return pytest.mark.parametrize("case", loaded, ids=[case["name"] for case in loaded])


@cases("identity.yaml")
def test_ids_are_read_from_cookies(case):
    """The first valid value of each cookie is the id, however the browser client wrote it."""
    found = read_cookies(case["cookie"])
    assert (found.anonymous, found.user) == (case.get("anonymous"), case.get("user"))


@cases("caching.yaml")
def test_no_shared_cache_may_store_the_cookie(case):
    """The cookie goes only with responses that shared caches must not store."""
    added = keep_private({name.lower(): value for name, value in case["headers"].items()})
    assert (added is not None) == case["sets"]
    assert bool(added) == case.get("adds", False)


@cases("addresses.yaml")
def test_only_trusted_proxies_are_believed(case):
    """The address is the peer's, or the first from the right that no trusted proxy has; none if that is unreadable."""
    ip, _ = make_resolve(case["trusted"])(case["peer"], case.get("forwarded_for"), case.get("forwarded"))
    assert ip == case["ip"]


@pytest.mark.parametrize(("kind", "expected"), [("people", False), ("bots", True)])
def test_bots_are_told_from_people(kind, expected):
    """Crawlers, monitors and libraries are bots, and browsers are not."""
    assert {agent: is_bot(agent) for agent in load("bots.yaml")[kind]} == dict.fromkeys(
        load("bots.yaml")[kind], expected
    )


class Site:
    """An app with the case's response behind the middleware; its tracker keeps the events."""

    def __init__(self) -> None:
        self.case: dict[str, Any] = {}
        self.sent: list[dict[str, Any]] = []

    def tracker(self) -> Tracker:
        tracker = Tracker(None, **self.case.get("settings", {}))
        self.sent = keep_events(tracker)
        return tracker

    def response(self) -> tuple[int, dict[str, str], bytes]:
        said = self.case.get("response", {})
        body = bytes.fromhex(said["hex"]) if "hex" in said else said.get("body", "<title>T</title>").encode()
        return said.get("status", 200), said.get("headers", {"Content-Type": "text/html; charset=utf-8"}), body

    async def asgi(self, scope, receive, send):
        if scope["type"] == "http":
            await AsgiTracking(self.answer_asgi, self.tracker())(scope, receive, send)

    async def answer_asgi(self, _scope, _receive, send):
        status, headers, body = self.response()
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        for part in (body[:7], body[7:]):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body"})

    def wsgi(self, environ, start_response):
        return WsgiTracking(self.answer_wsgi, self.tracker())(environ, start_response)

    def answer_wsgi(self, _environ, start_response):
        status, headers, body = self.response()
        start_response(f"{status} Said", list(headers.items()))
        return [body[:7], body[7:]]


@pytest.fixture(scope="module", params=["asgi", "wsgi"])
def site(request: pytest.FixtureRequest) -> Iterator[tuple[Site, int]]:
    """The site, and the port that it listens on."""
    site = Site()
    with asgi_server(site.asgi) if request.param == "asgi" else wsgi_server(site.wsgi) as port:
        yield site, port


@cases("requests.yaml")
def test_a_request_is_tracked(case, site):
    """Of a case's request the page call is sent that the case says, and the cookie is set that it says."""
    site, port = site
    site.case = case
    site.sent = []
    wanted = case["request"]
    answer = request(port, wanted["path"], wanted.get("headers", {}), wanted.get("method", "GET"))
    assert answer.status == case.get("response", {}).get("status", 200)
    if case["page"] is None:
        assert site.sent == []
    else:
        until(lambda: site.sent)  # the last bytes go out before the page is sent
        (sent,) = site.sent
        assert_like(sent, case["page"], "")
        for path in case.get("absent", []):
            assert not find(sent, path), path
    if "cookie" in case:
        assert (answer.cookie is None) == (case["cookie"] is None), answer.cookie
        assert answer.cookie is None or re.fullmatch(case["cookie"], answer.cookie), answer.cookie


def assert_like(found: Any, expected: Any, path: str) -> None:
    """Whether all that is expected is there."""
    if isinstance(expected, dict):
        assert isinstance(found, dict), path
        for name, part in expected.items():
            assert name in found, f"{path}.{name}"
            assert_like(found[name], part, f"{path}.{name}")
    elif isinstance(expected, re.Pattern):
        assert expected.fullmatch(found), f"{path}: {found}"
    else:
        assert found == expected, path


def find(event: dict[str, Any], path: str) -> bool:
    """Whether the event has something there."""
    found: Any = event
    for step in path.split("."):
        if not isinstance(found, dict) or step not in found:
            return False
        found = found[step]
    return True
