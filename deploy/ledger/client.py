"""Query the ledger's API."""

import json
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from deploy.terminal.failures import Failed
from streams.ledger.settings import LOOPBACK, LedgerSettings

TIMEOUT_SECONDS = 300.0
"""Seconds that an answer may take: an audit of a day reads much."""

MAX_BYTES = 64 * 1024 * 1024


class LedgerAwayError(Failed):
    """The ledger cannot be reached."""


class LedgerRefusedError(Failed):
    """The ledger responds with an error; `code` is its short code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class LedgerClient:
    """Queries the ledger of a configuration.

    Args:
        settings: The key `ledger` of turnout.yaml.
        folder: The configuration folder, for messages.

    """

    def __init__(self, settings: LedgerSettings, folder: Path) -> None:
        self._url, self._folder = settings.address, folder
        self._token = settings.token.get_secret_value() if settings.token else None
        # The environment's proxy does not reach this machine, and the token must not follow a redirect.
        proxies = [ProxyHandler({})] if urlsplit(self._url).hostname in LOOPBACK else []
        self._opener = build_opener(_NoRedirects, *proxies)

    def ask(self, path: str, parameters: Mapping[str, object]) -> Any:
        """Return the response's data; raises LedgerAwayError or LedgerRefusedError."""
        query = urlencode({name: str(value) for name, value in parameters.items() if value is not None})
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        request = Request(f"{self._url}{path}?{query}", headers=headers)  # noqa: S310  # the setting allows http and https only
        try:
            with self._opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
                data = json.loads(answer.read(MAX_BYTES))
        except HTTPError as error:
            raise self._refused(error) from error
        except (OSError, HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise LedgerAwayError(
                f"no ledger answers at {self._url}: {reason} (start one with: turnout ledger --config {self._folder})"
            ) from error
        return _with_lost(data) if path in ("/audit", "/counts") else data

    def _refused(self, error: HTTPError) -> LedgerRefusedError:
        try:
            data = json.loads(error.read(MAX_BYTES))
            return LedgerRefusedError(str(data["code"]), f"the ledger at {self._url}: {data['message']}")
        except (OSError, HTTPException, ValueError, KeyError, TypeError):
            return LedgerRefusedError("http", f"{self._url} answers with status {error.code}; is it a ledger?")


def _with_lost(data: dict[str, Any]) -> dict[str, Any]:
    """Return an audit or counts with `lost`, which a ledger before 0.2.0 does not report."""
    for part in (data, *data.get("lines", ())):
        part.setdefault("lost", 0)
    return data


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        """Refuse to follow a redirect."""
