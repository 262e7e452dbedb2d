"""Block the events of suppressed users, listed in a file and in the topic `suppressed`.

Kafka knows them by digests of their ids, since a list of those who want to be forgotten is personal data itself.
"""

import hmac
from collections.abc import Collection
from hashlib import sha256
from pathlib import Path

from pydantic import SecretStr

from streams.events import Event, Note
from streams.parsing.texts import comparable
from streams.records.outcomes import Outcome
from streams.settings import StrictModel
from streams.steps.step import Blocked
from streams.topics import SUPPRESSED_END

SETTLE_SECONDS = 0.5
"""Seconds by which a router may be behind Kafka's list. Whoever changes the list waits for so long before saying so."""

IDS = ("userId", "anonymousId", "previousId")
"""What of an event may name a suppressed user."""

_HELD = Blocked(Outcome.SUPPRESSED)


class SuppressionSettings(StrictModel):
    """The key `suppression` of turnout.yaml."""

    file: Path | None = None
    """A file with the id of a suppressed user a line, relative to the configuration folder; read again when it is
    replaced.
    """
    secret: SecretStr | None = None
    """Keys the digests by which Kafka knows suppressed users, so that nobody finds them by trying ids. Under another
    secret, those listed before are not known any more.
    """


class SuppressedUsers:
    """Kafka's list as far as it has been read: digests of ids."""

    def __init__(self, secret: SecretStr | None = None) -> None:
        self._secret = secret.get_secret_value().encode() if secret else None
        self._digests: set[bytes] = set()
        self.is_read = False
        """Whether the topic was read."""

    def digests(self, user: str) -> set[bytes]:
        """Return the keys of a user's records: of the id in the form in which ids are compared, and as it is.

        Older records are keyed by ids as they were written.
        """
        return {self.digest(comparable(user)), self.digest(user)}

    def digest(self, user: str) -> bytes:
        """Return the key of an id's record: SHA-256 in hexadecimal digits, an HMAC if there is a secret."""
        encoded = user.encode(errors="surrogatepass")
        digest = hmac.digest(self._secret, encoded, "sha256") if self._secret else sha256(encoded).digest()
        return digest.hex().encode()

    def mark_read(self) -> None:
        """Note that the topic was read to its end."""
        self.is_read = True

    def take(self, key: bytes, value: bytes | None) -> None:
        """Take in a record of the topic."""
        if key == SUPPRESSED_END:
            return
        if value is None:
            self._digests.discard(key)
        else:
            self._digests.add(key)

    def __len__(self) -> int:
        return len(self._digests)

    def __contains__(self, user: str) -> bool:
        same = comparable(user)
        return self.digest(same) in self._digests or (same != user and self.digest(user) in self._digests)


class Suppression:
    """The step of a source that holds the events of suppressed users, by any of their ids."""

    def __init__(self, users: SuppressedUsers, ids: Collection[str] = frozenset()) -> None:
        self.users, self._ids = users, frozenset(map(comparable, ids))

    @property
    def name(self) -> str:
        """What `turnout explain` calls it."""
        return "suppression" if self.users.is_read else "suppression by the file"

    def __call__(self, event: Event, _: Note, /) -> Event | Blocked:
        """As Step."""
        if not self.users and not self._ids:
            return event
        for name in IDS:
            user = event.get(name)
            if user is not None and self.holds(str(user)):
                return _HELD
        return event

    def keep_users_of(self, earlier: "Suppression") -> None:
        """Use the users that an earlier configuration's step has read from the topic."""
        self.users = earlier.users

    def holds(self, user: str) -> bool:
        """Tell whether this is a suppressed user's id, however it is written."""
        return comparable(user) in self._ids or user in self.users


def read_ids(path: Path) -> frozenset[str]:
    """Return the ids in a file with one per line, in the form in which ids are compared.

    Raises OSError, and ValueError if the file is not UTF-8.
    """
    return frozenset(filter(None, map(comparable, path.read_text(encoding="utf-8").splitlines())))
