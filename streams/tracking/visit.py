"""What a request says, whichever framework serves it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, MutableMapping
from typing import Any
from urllib.parse import quote

from streams.tracking.proxies import Resolve

# What a browser leaves as it is in the path of a URL.
_PATH_SAFE = "/:@!$&'()*+,;=~"


class Visit(ABC):
    """A request: what the callables among the settings are given.

    `raw` is the ASGI scope or the WSGI environ, with all that frameworks and middleware left in it. `request` is the
    framework's own request where that is known (Django), else None.
    """

    __slots__ = ("_cookies", "_resolve", "_resolved", "raw", "request")

    def __init__(self, raw: MutableMapping[str, Any], resolve: Resolve) -> None:
        self.raw = raw
        self.request: Any = None
        self._resolve = resolve
        self._resolved: tuple[str | None, bool] | None = None
        self._cookies: list[tuple[str, str]] | None = None

    @abstractmethod
    def header(self, name: str) -> str:
        """A header by its name in lower case: empty where it is missing, joined where it stands repeatedly."""

    @property
    @abstractmethod
    def method(self) -> str:
        """The method, in capitals."""

    @property
    @abstractmethod
    def path(self) -> str:
        """The path as a browser shows it: percent-encoded."""

    @property
    @abstractmethod
    def query(self) -> str:
        """The query string without its question mark."""

    @property
    @abstractmethod
    def peer(self) -> str:
        """The address that the connection comes from; empty for a Unix socket."""

    @property
    @abstractmethod
    def _scheme(self) -> str: ...

    @property
    def ip(self) -> str | None:
        """The visitor's address: the peer's, or what trusted proxies forwarded."""
        return self._address()[0]

    @property
    def scheme(self) -> str:
        """`http` or `https`, as the visitor's browser has it."""
        forwarded = self._forwarded("x-forwarded-proto").lower()
        return forwarded if forwarded in ("http", "https") else self._scheme

    @property
    def host(self) -> str:
        """The host, with the port where it is not the scheme's own."""
        return self._forwarded("x-forwarded-host") or self.header("host")

    @property
    def cookies(self) -> list[tuple[str, str]]:
        """Every cookie's name and value as they came, repeated names included."""
        if self._cookies is None:
            parts = (part.partition("=") for part in self.header("cookie").split(";"))
            self._cookies = [(name.strip(), value.strip()) for name, there, value in parts if there]
        return self._cookies

    def cookie(self, name: str) -> str | None:
        """The first cookie of that name, as it came."""
        return next((value for found, value in self.cookies if found == name), None)

    def _forwarded(self, header: str) -> str:
        return self.header(header).partition(",")[0].strip() if self._address()[1] else ""

    def _address(self) -> tuple[str | None, bool]:
        if self._resolved is None:
            self._resolved = self._resolve(self.peer, self.header("x-forwarded-for"))
        return self._resolved


class AsgiVisit(Visit):
    """A request by its ASGI scope."""

    __slots__ = ("_headers",)

    def __init__(self, raw: MutableMapping[str, Any], resolve: Resolve) -> None:
        super().__init__(raw, resolve)
        self._headers: Mapping[str, str] | None = None

    def header(self, name: str) -> str:
        """A header by its name in lower case."""
        if self._headers is None:
            self._headers = _join(self.raw["headers"])
        return self._headers.get(name, "")

    @property
    def method(self) -> str:
        """The method, in capitals."""
        method: str = self.raw["method"]
        return method

    @property
    def path(self) -> str:
        """The path as a browser shows it."""
        raw: bytes | None = self.raw.get("raw_path")
        if raw:
            return raw.partition(b"?")[0].decode("latin-1")
        return quote(self.raw["path"], _PATH_SAFE)

    @property
    def query(self) -> str:
        """The query string without its question mark."""
        query: bytes = self.raw["query_string"]
        return query.decode("latin-1")

    @property
    def peer(self) -> str:
        """The address that the connection comes from."""
        client: tuple[str, int] | None = self.raw.get("client")
        return client[0] if client else ""

    @property
    def _scheme(self) -> str:
        scheme: str = self.raw.get("scheme", "http")
        return scheme


class WsgiVisit(Visit):
    """A request by its WSGI environ."""

    __slots__ = ()

    def header(self, name: str) -> str:
        """A header by its name in lower case."""
        value: str = self.raw.get("HTTP_" + name.upper().replace("-", "_"), "")
        return value

    @property
    def method(self) -> str:
        """The method, in capitals."""
        method: str = self.raw["REQUEST_METHOD"]
        return method

    @property
    def path(self) -> str:
        """The path as a browser shows it."""
        path = self.raw.get("SCRIPT_NAME", "") + self.raw.get("PATH_INFO", "")
        return quote(path.encode("latin-1"), _PATH_SAFE)

    @property
    def query(self) -> str:
        """The query string without its question mark."""
        query: str = self.raw.get("QUERY_STRING", "")
        return query

    @property
    def peer(self) -> str:
        """The address that the connection comes from."""
        peer: str = self.raw.get("REMOTE_ADDR", "")
        return peer

    @property
    def host(self) -> str:
        """The host, with the port where it is not the scheme's own."""
        return super().host or self.raw.get("SERVER_NAME", "")

    @property
    def _scheme(self) -> str:
        scheme: str = self.raw.get("wsgi.url_scheme", "http")
        return scheme


def _join(headers: list[tuple[bytes, bytes]]) -> Mapping[str, str]:
    joined: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        if name in joined:
            # HTTP/2 splits the cookies over several headers.
            value = joined[name] + ("; " if name == "cookie" else ", ") + value
        joined[name] = value
    return joined
