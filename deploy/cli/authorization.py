"""Obtain a refresh token: the user grants access on the vendor's page, which redirects here with a code."""

import asyncio
import secrets
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from typing_extensions import override

from forwarders.api.contract import Forwarder, HttpForwarder, Request
from forwarders.api.oauth import authorization_url, build_code_request
from streams.delivery.http.client import Client, UnreachableError, UnsendableError

TIMEOUT_SECONDS = 30.0


class NotAuthorizedError(Exception):
    """No refresh token was issued: the user or the vendor denied it, or the forwarder uses none."""


class _RedirectHandler(BaseHTTPRequestHandler):
    """The page that the vendor redirects the browser to."""

    server: "_RedirectServer"

    def do_GET(self) -> None:
        """Receive the code, and confirm it to the user."""
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        # The state proves that the code belongs to this request (RFC 6749, section 10.12).
        is_ours = url.path == "/" and secrets.compare_digest(
            query.get("state", "").encode(), self.server.state.encode()
        )
        if is_ours:
            self.server.query = query
        body = b"Turnout has received the response: return to the terminal." if is_ours else b"Page not found."
        self.send_response(200 if is_ours else 404)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    @override
    def log_message(self, *_: Any) -> None:
        """Log nothing, since the path contains the code."""


class _RedirectServer(HTTPServer):
    def __init__(self, port: int, state: str) -> None:
        super().__init__(("127.0.0.1", port), _RedirectHandler)
        self.timeout = 1.0
        self.state = state
        self.query: dict[str, str] = {}


def authorize(forwarder: Forwarder[Any], port: int, show: Callable[[str], None]) -> str:
    """Return a refresh token for the forwarder's app; `show` is called with the URL of the vendor's page.

    Waits until the user has finished there. Raises NotAuthorizedError, and OSError if the port is in use.
    """
    authorization = forwarder.contract.authorization
    grant = forwarder.build_token_request(time.time()) if isinstance(forwarder, HttpForwarder) else None
    if authorization is None or grant is None:
        raise NotAuthorizedError(f"{forwarder.contract.title} has no authorization page")
    state = secrets.token_urlsafe(32)
    with _RedirectServer(port, state) as server:
        redirect = f"http://localhost:{server.server_port}/"
        show(authorization_url(authorization, grant, redirect, state))
        while not server.query:
            server.handle_request()
    if "code" not in server.query:
        raise NotAuthorizedError(f"the vendor's page responded {server.query.get('error', 'nothing')[:64]!r}")
    return asyncio.run(_exchange(build_code_request(grant, server.query["code"], redirect)))


async def _exchange(request: Request) -> str:
    client = Client(1, TIMEOUT_SECONDS)
    await client.open()
    try:
        response = await client.send(request)
    except (UnreachableError, UnsendableError) as error:
        raise NotAuthorizedError(f"no response from the token endpoint: {error}") from error
    finally:
        await client.close()
    body = response.json if isinstance(response.json, dict) else {}
    token = body.get("refresh_token")
    if response.status == 200 and isinstance(token, str) and token:
        return token
    reason = str(body.get("error", body.get("status", "no refresh token")))[:64]
    raise NotAuthorizedError(f"the token endpoint responded {response.status}: {reason!r}")
