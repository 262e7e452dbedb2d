"""Record who did what in the console, without readable IDs of persons."""

import hashlib
import hmac
import secrets
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any

import orjson
import structlog

from deploy.console.access.sessions import Session

log = structlog.get_logger()

DIGEST_CHARACTERS = 16
MAX_RECENT = 200
"""Actions that pages can show; the log and the file have all."""


class AuditLog:
    """Records actions in the log, in memory, and in a file if there is one.

    Args:
        file: The file to which lines of JSON are appended.
        key: The key of the digests of IDs. With the ledger's key, the digests of two runs can be compared.

    """

    def __init__(self, file: Path | None = None, key: bytes | None = None) -> None:
        self._file, self._key = file, key or secrets.token_bytes(32)
        self._lock = Lock()
        self.recent: deque[Mapping[str, Any]] = deque(maxlen=MAX_RECENT)

    def digest(self, identifier: str) -> str:
        """Return a keyed digest of an ID of a person or an event."""
        return hmac.new(self._key, identifier.encode(), hashlib.sha256).hexdigest()[:DIGEST_CHARACTERS]

    def record(self, session: Session, action: str, **facts: Any) -> None:
        """Record an action. Pass IDs of persons and events through `digest`."""
        entry = {"at": _now(), "user": session.user, "role": str(session.role), "action": action, **facts}
        with self._lock:
            self.recent.appendleft(entry)
            if self._file is not None:
                with self._file.open("ab") as file:
                    file.write(orjson.dumps(entry) + b"\n")
        log.info("action in the console", details=entry)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
