"""Refuse requests for other hosts or from other sites, and add security headers to every response."""

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streams.ledger.settings import LOOPBACK

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}

MAX_QUERY_BYTES = 8 * 1024
"""Longer addresses are refused before they reach a screen, the ledger or Kafka."""

DEFAULT_PORTS = {"http": 80, "https": 443}

TLS_ONLY = {"strict-transport-security": "max-age=31536000"}


class RequestGuard:
    """The outermost ASGI middleware: checks hosts and origins, and adds headers.

    A page of another site that resolves its own name to this machine (DNS rebinding) sends a foreign `Host`; one that
    sends a form sends a foreign `Origin`. Both are refused with 403.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        self._app = app
        self._origins = frozenset(origins)
        parts = [urlsplit(origin) for origin in self._origins]
        self._hosts = frozenset(it.netloc for it in parts) | {
            f"{it.netloc}:{DEFAULT_PORTS[it.scheme]}" for it in parts if it.port is None
        }
        self._headers = HEADERS | (TLS_ONLY if all(it.startswith("https:") for it in origins) else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            return

        async def send_protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        await (self._refusal(scope) or self._app)(scope, receive, send_protected)

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        headers = Headers(scope=scope)
        if len(scope["query_string"]) + len(scope["path"]) > MAX_QUERY_BYTES:
            return PlainTextResponse(f"an address may have up to {MAX_QUERY_BYTES // 1024} KB\n", 414)
        if len(headers.getlist("host")) != 1 or headers["host"].lower() not in self._hosts:
            return PlainTextResponse("this host is not the console's; its address is the setting console.url\n", 403)
        origin = headers.get("origin")
        if origin is not None and origin.lower() not in self._origins:
            return PlainTextResponse("requests of other sites are refused\n", 403)
        return None


def own_origins(address: str, port: int) -> tuple[str, ...]:
    """Return the origins of the console: its address, and this machine's names if the address is local."""
    address = _as_browsers_send(address)
    if urlsplit(address).hostname not in LOOPBACK:
        return (address,)
    hosts = (f"[{host}]" if ":" in host else host for host in LOOPBACK)
    return (address, *(_as_browsers_send(f"http://{host}:{port}") for host in hosts))


def _as_browsers_send(address: str) -> str:
    """Return an origin in lower case and without the default port."""
    parts = urlsplit(address.lower())
    if parts.port == DEFAULT_PORTS[parts.scheme]:
        parts = parts._replace(netloc=parts.netloc.rpartition(":")[0])
    return f"{parts.scheme}://{parts.netloc}"
