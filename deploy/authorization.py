"""Gets a refresh token: somebody lets the app in on the vendor's page, which sends the browser here with a code."""

import asyncio
import secrets
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from typing_extensions import override

from forwarders.contract import Forwarder, HttpForwarder, Request
from forwarders.oauth import authorization_url, build_code_request
from streams.delivery.client import Client, UnreachableError, UnsendableError

SECONDS = 30.0


class NotAuthorizedError(Exception):
    """There is no refresh token: the vendor or whoever sits before its page said no, or there is nothing to get."""


class _Landing(BaseHTTPRequestHandler):
    """The page that the vendor sends the browser back to."""

    server: "_Landings"

    def do_GET(self) -> None:
        """Take the code, and say that it was taken."""
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        # Without the state that only our page has, anybody could have us take a code of theirs.
        ours = url.path == "/" and secrets.compare_digest(query.get("state", "").encode(), self.server.state.encode())
        if ours:
            self.server.query = query
        body = b"Turnout has the answer: go back to the terminal." if ours else b"This is not the page you look for."
        self.send_response(200 if ours else 404)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    @override
    def log_message(self, *_: Any) -> None:
        """Say nothing: the path has the code in it."""


class _Landings(HTTPServer):
    def __init__(self, port: int, state: str) -> None:
        super().__init__(("127.0.0.1", port), _Landing)
        self.timeout = 1.0
        self.state = state
        self.query: dict[str, str] = {}


def authorize(forwarder: Forwarder[Any], port: int, show: Callable[[str], None]) -> str:
    """A refresh token for the forwarder's app; `show` gets the address of the vendor's page.

    Waits for as long as somebody takes there. Raises NotAuthorizedError, and OSError where the port is busy.
    """
    authorization = forwarder.contract.authorization
    grant = forwarder.build_token_request(time.time()) if isinstance(forwarder, HttpForwarder) else None
    if authorization is None or grant is None:
        raise NotAuthorizedError(f"{forwarder.contract.title} has no page that gives one")
    state = secrets.token_urlsafe(32)
    with _Landings(port, state) as server:
        redirect = f"http://localhost:{server.server_port}/"
        show(authorization_url(authorization, grant, redirect, state))
        while not server.query:
            server.handle_request()
    if "code" not in server.query:
        raise NotAuthorizedError(f"the vendor's page says {server.query.get('error', 'nothing')[:64]!r}")
    return asyncio.run(_exchange(build_code_request(grant, server.query["code"], redirect)))


async def _exchange(request: Request) -> str:
    client = Client(1, SECONDS)
    await client.open()
    try:
        answer = await client.send(request)
    except (UnreachableError, UnsendableError) as error:
        raise NotAuthorizedError(f"no answer of the token endpoint: {error}") from error
    finally:
        await client.close()
    body = answer.json if isinstance(answer.json, dict) else {}
    token = body.get("refresh_token")
    if answer.status == 200 and isinstance(token, str) and token:
        return token
    said = str(body.get("error", body.get("status", "no refresh token")))[:64]
    raise NotAuthorizedError(f"the token endpoint answers {answer.status}: {said!r}")
