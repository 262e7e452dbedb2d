"""Run a real browser, and a site for it: the browser resolves every host of example.com to this machine."""

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.clients.sdk import SDKS, missing
from tests.support import npm


class Browser:
    """Chromium with one page."""

    def __init__(self, folder: Path) -> None:
        chromium = shutil.which("chromium") or missing("chromium")
        command, environment = npm.command(SDKS / "drive.js", SDKS) or missing("npm")
        self._process = subprocess.Popen(
            [*command, chromium, folder], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def open(self, address: str) -> None:
        """Open a page, and wait until it is loaded."""
        self._order("open", address)

    def run(self, script: str) -> Any:
        """Evaluate a script in the page, and return its value, awaited."""
        return self._order("run", script)

    def cookies(self) -> dict[str, dict[str, Any]]:
        """The cookies by their names: `value`, `domain`, `expires` in seconds since 1970, `sameSite` and so on."""
        return {cookie["name"]: cookie for cookie in self._order("cookies")}

    def forget(self) -> None:
        """Delete all cookies."""
        self._order("forget")

    def send_headers(self, headers: dict[str, str]) -> None:
        """Send these headers with each further request."""
        self._order("headers", headers)

    def close(self) -> None:
        """End the browser."""
        self._process.communicate(timeout=120)

    def _order(self, order: str, argument: Any = None) -> Any:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps([order, argument]) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


@dataclass
class Site:
    """A running site: its pages and scripts by path, with their content types."""

    url: str = ""
    pages: dict[str, tuple[str, str]] = field(default_factory=dict)


@contextmanager
def serving() -> Iterator[Site]:
    """Serve a site at shop.example.com."""
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            found = site.pages.get(self.path.partition("?")[0])
            content_type, text = found or ("text/plain", "")
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", f"{content_type}; charset=utf-8")
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None:
            """Write nothing to standard error."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        site.url = f"http://shop.example.com:{server.server_port}"
        try:
            yield site
        finally:
            server.shutdown()
            thread.join()
