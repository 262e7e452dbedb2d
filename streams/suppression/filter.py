"""Block the events of suppressed users, listed in a file and in the topic `suppressed`.

Kafka has only digests of their IDs, since a list of people who want to be forgotten is personal data itself.
"""

import hmac
from collections.abc import Collection
from hashlib import sha256
from pathlib import Path

from pydantic import SecretStr

from streams.digest_table import DIGEST_BYTES, DigestTable
from streams.events import Event, Note
from streams.parsing.texts import comparable
from streams.records.outcomes import Outcome
from streams.settings import StrictModel
from streams.steps.step import Blocked

SETTLE_SECONDS = 0.5
"""Maximum seconds by which a router lags behind Kafka's list. Commands that change the list wait this long."""

EXPECTED_USERS = 1_000_000
"""Suppressed users up to which looking one up takes the same time."""

KEY_DIGITS = 64
"""Length of a record's key."""

IDS = ("userId", "anonymousId", "previousId")
"""The fields of an event that may hold a suppressed user's ID."""

_BLOCKED = Blocked(Outcome.SUPPRESSED)


class SuppressionSettings(StrictModel):
    """The key `suppression` of turnout.yaml."""

    file: Path | None = None
    """A file with one ID of a suppressed user per line, relative to the configuration folder; it is reloaded when
    replaced.
    """
    secret: SecretStr | None = None
    """Secret key for the digests of suppressed users in Kafka, so that nobody can find users by trying IDs. If it
    changes, users that were suppressed before are forwarded again.
    """


class SuppressedUsers:
    """Digests of the IDs that have been read from Kafka's list."""

    def __init__(self, secret: SecretStr | None = None) -> None:
        self._secret = secret.get_secret_value().encode() if secret else None
        self._digests = DigestTable(EXPECTED_USERS)
        self.is_read = False
        """Whether Kafka's list has been read."""

    def digests(self, user: str) -> set[bytes]:
        """Return the keys of a user's records: the digests of the normalized ID and of the ID as given.

        Older records are keyed by IDs that were not normalized.
        """
        return {self.digest(comparable(user)), self.digest(user)}

    def digest(self, user: str) -> bytes:
        """Return the key of an ID's record: SHA-256 in hexadecimal digits, or an HMAC if there is a secret."""
        encoded = user.encode(errors="surrogatepass")
        digest = hmac.digest(self._secret, encoded, "sha256") if self._secret else sha256(encoded).digest()
        return digest.hex().encode()

    def mark_read(self) -> None:
        """Record that the topic was read to its end."""
        self.is_read = True

    def take(self, key: bytes, value: bytes | None) -> None:
        """Apply a record of the topic."""
        digest = _shortened(key)
        if digest is None:
            return
        if value is None:
            self._digests.discard(digest)
        elif digest not in self._digests:
            self._digests.add(digest)

    def __len__(self) -> int:
        return len(self._digests)

    def __contains__(self, user: str) -> bool:
        same = comparable(user)
        return self._has(same) or (same != user and self._has(user))

    def _has(self, user: str) -> bool:
        digest = _shortened(self.digest(user))
        return digest is not None and digest in self._digests


def _shortened(key: bytes) -> bytes | None:
    """Return the first 96 bits of a digest in hexadecimal digits, or None for another key."""
    try:
        return bytes.fromhex(key[: 2 * DIGEST_BYTES].decode("ascii")) if len(key) == KEY_DIGITS else None
    except ValueError:
        return None


class Suppression:
    """The step of a source that blocks the events of suppressed users, by any of their IDs."""

    def __init__(self, users: SuppressedUsers, ids: Collection[str] = frozenset()) -> None:
        self.users, self._ids = users, frozenset(map(comparable, ids))

    @property
    def name(self) -> str:
        """The name in `turnout explain`."""
        return "suppression" if self.users.is_read else "suppression from the file"

    def __call__(self, event: Event, _: Note, /) -> Event | Blocked:
        """Implement Step."""
        if not self.users and not self._ids:
            return event
        for name in IDS:
            user = event.get(name)
            if user is not None and self.includes(str(user)):
                return _BLOCKED
        return event

    def keep_users_of(self, earlier: "Suppression") -> None:
        """Use the users that an earlier configuration's step has read from the topic."""
        self.users = earlier.users

    def is_in_file(self, user: str) -> bool:
        """Return whether the file lists the ID, once normalized."""
        return comparable(user) in self._ids

    def includes(self, user: str) -> bool:
        """Return whether the ID, once normalized, is a suppressed user's."""
        return self.is_in_file(user) or user in self.users


def read_ids(path: Path) -> frozenset[str]:
    """Return the normalized IDs in a file with one per line.

    Raises OSError, and ValueError if the file is not UTF-8.
    """
    return frozenset(filter(None, map(comparable, path.read_text(encoding="utf-8").splitlines())))
