"""Browser clients in a real browser: pages on one host, a collector on another host of the same domain."""

import json
import shutil
from collections.abc import Iterator
from time import time
from typing import Any

import pytest
from starlette.responses import HTMLResponse

from streams import events
from tests.clients.browser import Browser, Site, serving
from tests.clients.collecting import EVENT_BYTES, KEY, Collector, collecting
from tests.clients.proxy import Proxy, proxying
from tests.clients.sdk import SDKS, example
from tests.streams.tracking.helpers import asgi_server, until
from tests.support import npm
from turnout_tracking import AsgiTracking, Tracker

pytestmark = pytest.mark.browser

TEXT = "ünï 日本語 😀"
WEEK = 7 * 24 * 3600
MODULES = npm.modules(SDKS)
SEGMENT = MODULES / "@segment/analytics-next/dist/umd/standalone.js"
RUDDERSTACK = MODULES / "@rudderstack/analytics-js/dist/npm/modern/bundled/umd/index.js"
CLIENTS = ["segment-browser", "rudderstack-browser"]
LOAD = f'analytics.load("{KEY}");'
BATCHING = {"integrations": {"Segment.io": {"deliveryStrategy": {"strategy": "batching", "config": {"size": 50}}}}}


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Run a browser."""
    running = Browser(tmp_path_factory.mktemp("profile"))
    yield running
    running.close()


@pytest.fixture
def browser(chromium: Browser) -> Browser:
    """Return the browser, without cookies."""
    chromium.forget()
    return chromium


@pytest.fixture(scope="module")
def collector(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """Run a collector that serves Segment's client and renews the site's ID cookies."""
    folder = tmp_path_factory.mktemp("collector")
    shutil.copy(SEGMENT, folder / "analytics.js")
    client = {"path": "/assets/a.js", "file": "../analytics.js"}
    with collecting(folder, client=client, cookie_domain="example.com") as running:
        yield running


@pytest.fixture
def proxy(collector: Collector) -> Iterator[Proxy]:
    """Run a proxy in front of the collector on a new port, since the browser caches responses by port."""
    with proxying(collector.port) as running:
        yield running


@pytest.fixture
def site(proxy: Proxy) -> Iterator[Site]:
    """Serve a site with a page for each client, an empty one, and the script of RudderStack's client."""
    with serving() as running:
        running.pages["/rudderstack.js"] = ("text/javascript", RUDDERSTACK.read_text())
        running.pages["/empty"] = ("text/html", "")
        for name in CLIENTS:
            running.pages[f"/{name}"] = ("text/html", page(name, running, proxy))
        yield running


def page(name: str, site: Site, proxy: Proxy) -> str:
    text = example(name, f"http://events.example.com:{proxy.port}").replace("WRITE_KEY", KEY)
    return f"<!doctype html><title>Shop {TEXT}</title>" + text.replace("https://shop.example.com", site.url)


def replace(site: Site, name: str, old: str, new: str) -> None:
    """Change a client's page."""
    kind, text = site.pages[f"/{name}"]
    assert old in text
    site.pages[f"/{name}"] = (kind, text.replace(old, new))


def with_options(site: Site, **options: Any) -> None:
    """Make the page load Segment's client with these options."""
    replace(site, "segment-browser", LOAD, f'analytics.load("{KEY}", {json.dumps(options)});')


clients = pytest.mark.parametrize("name", CLIENTS)


@clients
def test_all_kinds_of_events_arrive_as_they_were_sent(name: str, browser: Browser, site: Site, collector: Collector):
    """Each call from a page of another origin is in the topic once, with non-ASCII letters intact."""
    browser.open(f"{site.url}/{name}")
    calls = f"""
        analytics.track('Order Completed', {{text: '{TEXT}', total: 59.9, products: [{{sku: 'B-7'}}]}})
        analytics.identify('u-1', {{name: '{TEXT}'}})
        analytics.group('g-1', {{name: '{TEXT}'}})
        analytics.alias('u-2', 'u-1')
        {"analytics.screen('Main')" if name == "segment-browser" else ""}
    """
    browser.run(calls)
    kinds = ["alias", "group", "identify", "page", *(["screen"] if "screen" in calls else []), "track"]
    until(lambda: len(collector.events(site.url)) >= len(kinds))
    taken = {event["type"]: events.normalize(event) for event in collector.events(site.url)}
    assert sorted(event["type"] for event in collector.events(site.url)) == kinds
    assert taken["page"]["properties"]["title"] == f"Shop {TEXT}"
    assert taken["page"]["properties"]["url"] == f"{site.url}/{name}"
    assert taken["track"]["properties"]["text"] == TEXT
    assert taken["track"]["properties"]["products"] == [{"sku": "B-7"}]
    assert (taken["identify"]["userId"], taken["identify"]["traits"]) == ("u-1", {"name": TEXT})
    assert taken["group"]["groupId"] == "g-1"
    assert taken["alias"]["previousId"] == "u-1"
    assert len({event["anonymousId"] for event in taken.values()}) == 1


@clients
def test_what_the_collector_could_not_take_is_sent_again(
    name: str, browser: Browser, site: Site, proxy: Proxy, collector: Collector
):
    """After responses 500 and 429 the page's event is sent a third time."""
    proxy.faults += [(500, {}), (429, {"Retry-After": "1"})]
    browser.open(f"{site.url}/{name}")
    until(lambda: [one.status for one in proxy.events] == [500, 429, 200], 120)
    assert len(collector.events(site.url)) == 1


@clients
def test_a_refused_event_is_no_storm(name: str, browser: Browser, site: Site, proxy: Proxy, collector: Collector):
    """An event that gets a 400 is not sent again, and later events are accepted."""
    browser.open(f"{site.url}/{name}")
    until(lambda: collector.events(site.url))
    browser.run(f"analytics.track('Large', {{text: 'x'.repeat({EVENT_BYTES})}})")
    until(lambda: [one.status for one in proxy.events] == [200, 400])
    browser.run("analytics.track('Small')")
    until(lambda: [one.status for one in proxy.events] == [200, 400, 200])
    assert len(collector.events(site.url)) == 2


def test_a_batch_is_sent_while_the_page_is_left(browser: Browser, site: Site, proxy: Proxy, collector: Collector):
    """Queued events are sent in one batch even though their page is left."""
    with_options(site, **BATCHING)
    browser.open(f"{site.url}/segment-browser")
    browser.run("new Promise((done) => analytics.ready(done))")
    browser.run("Promise.all([1, 2, 3, 4, 5].map((n) => analytics.track('Clicked', {n}))).then(() => null)")
    assert proxy.events == []
    browser.open(f"{site.url}/empty")
    until(lambda: [(one.path, one.status) for one in proxy.events] == [("/v1/b", 200)])
    assert len(collector.events(site.url)) == 6
    assert proxy.events[0].headers["Content-Type"] == "text/plain"


def test_a_beacon_is_sent_while_the_page_is_left(browser: Browser, site: Site, proxy: Proxy, collector: Collector):
    """RudderStack's client with sendBeacon sends queued events when its page is left, with its key in the URL."""
    replace(site, "rudderstack-browser", "{ configUrl", "{ useBeacon: true, configUrl")
    browser.open(f"{site.url}/rudderstack-browser")
    browser.run("new Promise((done) => analytics.ready(done))")
    browser.run("for (let n = 0; n < 3; n++) analytics.track('Clicked', {n})")
    browser.open(f"{site.url}/empty")
    until(lambda: len(collector.events(site.url)) == 4)
    assert {(one.path.partition("?")[0], one.headers["Content-Type"], one.status) for one in proxy.events} == {
        ("/beacon/v1/batch", "text/plain", 200)
    }


def test_the_collector_is_all_that_the_client_asks(browser: Browser, site: Site, proxy: Proxy, collector: Collector):
    """The client contacts only the collector; the browser caches script and settings."""
    browser.open(f"{site.url}/segment-browser")
    until(lambda: proxy.events)
    assert [(one.method, one.path, one.status) for one in proxy.passed] == [
        ("GET", "/assets/a.js", 200),
        ("GET", f"/v1/projects/{KEY}/settings", 200),
        ("OPTIONS", "/v1/p", 204),
        ("POST", "/v1/p", 200),
    ]
    browser.open(f"{site.url}/segment-browser")
    until(lambda: [(one.method, one.path) for one in proxy.passed[4:]] == [("POST", "/v1/p")])


def set_by_script(browser: Browser, site: Site, value: str) -> None:
    """Make the site's script set the ID cookie for a week, as Safari limits it."""
    browser.open(f"{site.url}/empty")
    browser.run(f"document.cookie = 'ajs_anonymous_id={value}; path=/; domain=example.com; max-age={WEEK}'")


def test_the_id_that_a_script_set_lasts(browser: Browser, site: Site, collector: Collector):
    """The ID is kept and its cookie lasts a year after each event, though the client sets it for a week each time."""
    with_options(site, cookie={"maxage": 7})
    set_by_script(browser, site, "set-by-script")
    assert browser.cookies()["ajs_anonymous_id"]["expires"] < time() + WEEK + 60
    browser.open(f"{site.url}/segment-browser")
    for count in (1, 2, 3):
        until(lambda: len(collector.events(site.url)) == count)  # noqa: B023
        until(lambda: browser.cookies()["ajs_anonymous_id"]["expires"] > time() + 50 * WEEK)
        browser.run("analytics.track('Clicked')")
    cookie = browser.cookies()["ajs_anonymous_id"]
    assert (cookie["value"], cookie["domain"], cookie["sameSite"]) == ("set-by-script", ".example.com", "Lax")
    assert not cookie["httpOnly"]
    assert not cookie["secure"], "the page came over http"
    assert {event["anonymousId"] for event in collector.events(site.url)} == {"set-by-script"}


def test_who_logs_out_is_somebody_else_after_it(browser: Browser, site: Site, collector: Collector):
    """The ID that the client drops at `reset` is not restored by the response to the event just before."""
    browser.open(f"{site.url}/segment-browser")
    until(lambda: len(collector.events(site.url)) == 1)
    browser.run("analytics.track('Signed Out'); analytics.reset()")
    until(lambda: len(collector.events(site.url)) == 2)
    browser.run("analytics.track('Clicked')")
    until(lambda: len(collector.events(site.url)) == 3)
    ids = {event.get("event", "page"): event["anonymousId"] for event in collector.events(site.url)}
    assert ids["page"] == ids["Signed Out"] != ids["Clicked"]
    assert browser.cookies()["ajs_anonymous_id"]["value"] == ids["Clicked"]


def test_browser_and_server_know_a_visitor_by_one_id(browser: Browser, site: Site, proxy: Proxy, collector: Collector):
    """The client on a page uses the ID that the page's server created on the first visit."""
    settings = {"cookie_domain": "example.com", "skip_bots": False, "interval": 0}
    tracker = Tracker(f"http://127.0.0.1:{proxy.port}", KEY, **settings)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            answer = HTMLResponse(site.pages["/segment-browser"][1])
            await AsgiTracking(answer, tracker)(scope, receive, send)

    with asgi_server(app) as port:
        browser.open(f"http://shop.example.com:{port}/")
        until(lambda: len(collector.events(f"shop.example.com:{port}")) == 2)
    pages = collector.events(f"shop.example.com:{port}")
    assert {page["context"]["library"]["name"] for page in pages} == {"turnout-tracking", "analytics.js"}
    assert {page["anonymousId"] for page in pages} == {browser.cookies()["ajs_anonymous_id"]["value"]}


def test_global_privacy_control_leaves_the_cookie_alone(browser: Browser, site: Site, collector: Collector):
    """With Sec-GPC the collector leaves the client's cookie unchanged."""
    with_options(site, cookie={"maxage": 7})
    set_by_script(browser, site, "private")
    browser.send_headers({"Sec-GPC": "1"})
    try:
        browser.open(f"{site.url}/segment-browser")
        until(lambda: collector.events(site.url))
    finally:
        browser.send_headers({})
    assert browser.cookies()["ajs_anonymous_id"]["expires"] < time() + WEEK + 60
