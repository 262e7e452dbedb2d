"""Measure the page middleware's overhead per request of a Starlette app: microseconds and ratio.

    python -m tests.benchmarks.tracking [PAIRS]

The same app is called with and without the middleware in turns, in this process and without a socket, so that only the
middleware differs. The result is the median difference of the pairs. The CPU time of the whole process is measured,
including the thread that sends page calls to a collector in another process. The request is a browser's, with its
cookies.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from statistics import median, quantiles
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from tests.benchmarks import measure
from turnout_tracking import AsgiTracking, Tracker

REQUESTS = 200
"""Requests in one run."""

LIMIT = 40.0
"""Microseconds that may be added."""

PAGE = "<!doctype html><html><head><title>Coffee, 1 kg</title></head><body>" + "<p>Coffee</p>" * 200

HEADERS = {
    "host": "shop.example.com",
    "user-agent": "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 Chrome/141.0.0.0 Safari/537.36",
    "accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "accept-language": "en-GB,en;q=0.9,de;q=0.8",
    "accept-encoding": "gzip, deflate, br, zstd",
    "referer": "https://www.example.org/search",
    "sec-ch-ua": '"Chromium";v="141", "Not?A_Brand";v="8", "Google Chrome";v="141"',
    "sec-ch-ua-mobile": "?0",
    "sec-ch-ua-platform": '"macOS"',
    "sec-fetch-dest": "document",
    "sec-fetch-mode": "navigate",
    "sec-fetch-site": "cross-site",
    "cookie": "ajs_anonymous_id=5d1c3f4e-8a0b-4c7d-9e2f-1a2b3c4d5e6f; ajs_user_id=%22u-1%22; session=0123456789abcdef;"
    " _ga=GA1.1.1234567890.1755000000; _ga_ABC123=GS2.1.s1755000001$o4$g1$t1755000101$j60; _fbp=fb.1.1755000000.99",
    "x-forwarded-for": "198.51.100.1",
}


def known() -> dict[str, Any]:
    """Return the scope of a returning visitor."""
    return {
        "type": "http",
        "method": "GET",
        "path": "/products/7",
        "raw_path": b"/products/7",
        "query_string": b"utm_source=newsletter&utm_medium=email&utm_campaign=winter&gclid=Cj0KCQ",
        "headers": [(name.encode(), value.encode()) for name, value in HEADERS.items()],
        "client": ("10.0.0.2", 40000),
        "server": ("10.0.0.1", 80),
        "scheme": "http",
        "http_version": "1.1",
        "root_path": "",
    }


def new() -> dict[str, Any]:
    """Return the scope of a first visit, whose response sets the cookie."""
    scope = known()
    scope["headers"] = [header for header in scope["headers"] if header[0] != b"cookie"]
    return scope


def asset() -> dict[str, Any]:
    """Return the scope of a script's fetch, which is not a page view."""
    scope = known()
    scope["headers"] = [(name, b"empty" if name == b"sec-fetch-dest" else value) for name, value in scope["headers"]]
    return scope


async def product(_: Request) -> HTMLResponse:
    return HTMLResponse(PAGE)


def make_app(tracker: Tracker | None) -> Starlette:
    app = Starlette(routes=[Route("/products/{id}", product)])
    if tracker:
        app.add_middleware(AsgiTracking, tracker=tracker)
    return app


async def run(app: Callable[..., Awaitable[None]], scope: Callable[[], dict[str, Any]]) -> float:
    """Return the CPU microseconds per request."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_: Any) -> None:
        pass

    began = time.process_time()
    for _ in range(REQUESTS):
        await app(scope(), receive, send)
    return (time.process_time() - began) / REQUESTS * 1e6


async def compare(title: str, tracker: Tracker, scope: Callable[[], dict[str, Any]], pairs: int) -> float:
    """Print the medians of `pairs` pairs of runs; returns the overhead."""
    bare, tracked = make_app(None), make_app(tracker)
    await run(bare, scope)
    await run(tracked, scope)
    without, added, ratios = [], [], []
    for number in range(pairs):
        if number % 2:
            one, other = await run(bare, scope), await run(tracked, scope)
        else:
            other, one = await run(tracked, scope), await run(bare, scope)
        without.append(one)
        added.append(other - one)
        ratios.append(other / one)
        tracker.flush(30)
    low, _, high = quantiles(added, n=4)
    print(
        f"{title}: {median(added):.1f} µs added (quartiles {low:.1f} to {high:.1f}) to {median(without):.1f} µs,"
        f" ratio {median(ratios):.2f}",
        flush=True,
    )
    return median(added)


def collect() -> None:
    """Run the other process: a collector that responds with 200."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "16")
            self.end_headers()
            self.wfile.write(b'{"success":true}')

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


async def main(pairs: int) -> None:
    _, other = measure.cores()
    child = measure.start("tests.benchmarks.tracking", "--collect", core=other)
    assert child.stdout
    try:
        url = f"http://127.0.0.1:{child.stdout.readline().strip()}"
        tracker = Tracker(url, "key", cookie_domain="example.com", trusted_proxies=["10.0.0.0/8"])
        added = await compare("a page of a known visitor", tracker, known, pairs)
        await compare("a page of a new visitor", tracker, new, pairs)
        await compare("no page", tracker, asset, pairs)
        assert tracker.counts.get("full", 0) == 0
        print(f"{tracker.counts['sent']:,} page calls sent; at most {LIMIT:.0f} µs are wanted")
        sys.exit(added > LIMIT)
    finally:
        child.terminate()
        child.wait()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--collect"]:
        collect()
    else:
        asyncio.run(main(int(sys.argv[1]) if sys.argv[1:] else 200))
