"""One request, independent of the framework that serves it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, MutableMapping
from typing import Any, NamedTuple
from urllib.parse import quote

from turnout_tracking.identity import Cookies, read_cookies
from turnout_tracking.proxies import Resolve

# Characters that browsers do not percent-encode in the path of a URL.
_PATH_SAFE = "/:@!$&'()*+,;=~"


class ClientOrigin(NamedTuple):
    """The visitor's address, and the scheme and host of the site as the visitor's browser shows them.

    `ip` is None if it is unknown; `host` includes the port unless it is the scheme's default.
    """

    ip: str | None
    scheme: str
    host: str


class PageRequest(ABC):
    """A request, as it is passed to the callables in the settings.

    `raw` is the ASGI scope or the WSGI environ, with everything that frameworks and middleware put there. `request` is
    the framework's own request object if that is known (Django), else None.
    """

    __slots__ = ("_cookies", "_headers", "_origin", "_resolve", "raw", "request")

    def __init__(self, raw: MutableMapping[str, Any], resolve: Resolve) -> None:
        self.raw = raw
        self.request: Any = None
        self._resolve = resolve
        self._headers: Mapping[str, str] | None = None
        self._origin: ClientOrigin | None = None
        self._cookies: Cookies | None = None

    @property
    @abstractmethod
    def method(self) -> str:
        """The method, in capitals."""

    @property
    @abstractmethod
    def path(self) -> str:
        """The percent-encoded path, as a browser shows it."""

    @property
    @abstractmethod
    def query(self) -> str:
        """The query string without its question mark."""

    @abstractmethod
    def _read_headers(self) -> Mapping[str, str]: ...

    @abstractmethod
    def _peer(self) -> str:
        """Return the address of the peer; empty for a Unix socket."""

    @abstractmethod
    def _scheme(self) -> str: ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers by lower-case name; repeated headers are joined by commas, cookies by semicolons."""
        if self._headers is None:
            self._headers = self._read_headers()
        return self._headers

    def header(self, name: str) -> str:
        """Return a header by its lower-case name; empty if it is missing."""
        return self.headers.get(name, "")

    @property
    def cookies(self) -> Cookies:
        """The IDs in the cookies."""
        if self._cookies is None:
            self._cookies = read_cookies(self.header("cookie"))
        return self._cookies

    def cookie(self, name: str) -> str | None:
        """Return the raw value of the first cookie with this name."""
        for part in self.header("cookie").split(";"):
            found, separator, value = part.strip().partition("=")
            if separator and found == name:
                return value
        return None

    @property
    def origin(self) -> ClientOrigin:
        """The visitor's address, scheme and host: from the connection, or from trusted proxies' headers."""
        if self._origin is None:
            self._origin = self._find_origin()
        return self._origin

    @property
    def ip(self) -> str | None:
        """The visitor's address."""
        return self.origin.ip

    def _find_origin(self) -> ClientOrigin:
        headers = self.headers
        scheme, host = self._scheme(), headers.get("host", "")
        ip, trusted = self._resolve(self._peer(), headers.get("x-forwarded-for"), headers.get("forwarded"))
        if trusted:
            forwarded = headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
            if forwarded in ("http", "https"):
                scheme = forwarded
            host = headers.get("x-forwarded-host", "").partition(",")[0].strip() or host
        return ClientOrigin(ip, scheme, host.removesuffix(":443" if scheme == "https" else ":80"))


class AsgiRequest(PageRequest):
    """A request, read from its ASGI scope."""

    __slots__ = ()

    @property
    def method(self) -> str:
        """The method, in capitals."""
        method: str = self.raw["method"]
        return method

    @property
    def path(self) -> str:
        """The percent-encoded path, as a browser shows it."""
        raw: bytes | None = self.raw.get("raw_path")
        if raw:
            return raw.partition(b"?")[0].decode("latin-1")
        return quote(self.raw["path"], _PATH_SAFE)

    @property
    def query(self) -> str:
        """The query string without its question mark."""
        query: bytes = self.raw["query_string"]
        return query.decode("latin-1")

    def _read_headers(self) -> Mapping[str, str]:
        raw: list[tuple[bytes, bytes]] = list(self.raw["headers"])
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in raw}
        if len(headers) < len(raw):
            # HTTP/2 splits the cookies over several headers.
            for name in headers:
                joint = b"; " if name == "cookie" else b", "
                values = [value for found, value in raw if found == name.encode("latin-1")]
                headers[name] = joint.join(values).decode("latin-1")
        return headers

    def _peer(self) -> str:
        client: tuple[str, int] | None = self.raw.get("client")
        return client[0] if client else ""

    def _scheme(self) -> str:
        scheme: str = self.raw.get("scheme", "http")
        return scheme


class WsgiRequest(PageRequest):
    """A request, read from its WSGI environ."""

    __slots__ = ()

    @property
    def method(self) -> str:
        """The method, in capitals."""
        method: str = self.raw["REQUEST_METHOD"]
        return method

    @property
    def path(self) -> str:
        """The percent-encoded path, as a browser shows it."""
        path = self.raw.get("SCRIPT_NAME", "") + self.raw.get("PATH_INFO", "")
        return quote(path.encode("latin-1"), _PATH_SAFE)

    @property
    def query(self) -> str:
        """The query string without its question mark."""
        query: str = self.raw.get("QUERY_STRING", "")
        return query

    def _read_headers(self) -> Mapping[str, str]:
        headers = {key[5:].lower().replace("_", "-"): value for key, value in self.raw.items() if key[:5] == "HTTP_"}
        headers.setdefault("host", self.raw.get("SERVER_NAME", ""))
        return headers

    def _peer(self) -> str:
        peer: str = self.raw.get("REMOTE_ADDR", "")
        return peer

    def _scheme(self) -> str:
        scheme: str = self.raw.get("wsgi.url_scheme", "http")
        return scheme
