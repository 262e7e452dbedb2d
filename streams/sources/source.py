"""Define sources: where events come from, and which write keys their senders use."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

from streams.consent.policy import Assumption
from streams.sources.limits import SourceLimits
from streams.sources.webhooks import WebhookEndpoint
from streams.steps.kinds import Kinds
from streams.steps.step import Step


def digest(write_key: str) -> bytes:
    """The SHA-256 of a write key: what is kept and looked up, so that no comparison takes time that tells of a key."""
    return hashlib.sha256(write_key.encode(errors="surrogatepass")).digest()


ANY_ORIGIN = ("*",)
NO_LIMITS = SourceLimits()


@dataclass(frozen=True, slots=True)
class Source:
    """An app or site that sends events; `write_keys` are digests, never the keys. Its events take `steps`.

    With `disabled_keys` nothing can be sent, and with no key where the source is `disabled`. `origins` are those whose
    pages may send: `https://shop.example.com`, `https://*.example.com`, or `*` for any. `assume` is what an event
    without consent information means; None leaves that to the integration. Where it has a `webhook`, others post to it.
    All that lies in its `topics` is its own.
    """

    name: str
    write_keys: frozenset[bytes]
    steps: tuple[Step, ...] = ()
    origins: tuple[str, ...] = ANY_ORIGIN
    disabled_keys: frozenset[bytes] = frozenset()
    disabled: bool = False
    kinds: Kinds | None = None
    limits: SourceLimits = NO_LIMITS
    assume: Assumption | None = None
    webhook: WebhookEndpoint | None = None
    topics: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        name: str,
        write_keys: Iterable[str],
        steps: Iterable[Step] = (),
        origins: Iterable[str] = ANY_ORIGIN,
        *,
        disabled_keys: Iterable[str] = (),
        **options: Any,
    ) -> Self:
        """A source from its plain write keys; `options` are the other fields."""
        return cls(
            name,
            frozenset(map(digest, write_keys)),
            tuple(steps),
            tuple(origins),
            frozenset(map(digest, disabled_keys)),
            **options,
        )

    def allows(self, origin: str) -> bool:
        """Whether a page of this origin may send with the source's write keys."""
        return self.origins == ANY_ORIGIN or _matches(self.origins, origin)


@lru_cache(4096)
def _matches(origins: tuple[str, ...], origin: str) -> bool:
    return any(re.fullmatch(re.escape(one).replace(r"\*", r"[^/:@]+"), origin) or one == "*" for one in origins)


class Sources:
    """The sources in force. `default` names the source of Kafka records that name none; None rejects those."""

    def __init__(self, sources: Iterable[Source] = (), default: str | None = None) -> None:
        """Raises ValueError where two sources share a name, a write key, a path or a topic.

        And where the default is none of them.
        """
        self._by_name: dict[str, Source] = {}
        self._by_key: dict[bytes, Source] = {}
        self._by_disabled_key: dict[bytes, Source] = {}
        self._by_path: dict[str, Source] = {}
        self._by_topic: dict[str, Source] = {}
        for source in sources:
            if source.name in self._by_name:
                raise ValueError(f"two sources are named {source.name}")
            self._by_name[source.name] = source
            for key in (*source.write_keys, *source.disabled_keys):
                holder = self._by_key.get(key) or self._by_disabled_key.get(key)
                if holder is source:
                    raise ValueError(f"a write key of the source {source.name} is disabled, too")
                if holder is not None:
                    raise ValueError(f"sources {holder.name} and {source.name} share a write key")
                (self._by_key if key in source.write_keys else self._by_disabled_key)[key] = source
            if source.webhook is not None:
                holder = self._by_path.setdefault(source.webhook.path, source)
                if holder is not source:
                    raise ValueError(f"the webhooks of {holder.name} and {source.name} share a path")
            for topic in source.topics:
                holder = self._by_topic.setdefault(topic, source)
                if holder is not source:
                    raise ValueError(f"sources {holder.name} and {source.name} share the topic {topic}")
        if default is not None and default not in self._by_name:
            raise ValueError(f"the default source {default} is not declared")
        self.default = default

    def find(self, write_key: str) -> Source | None:
        """The source that a write key belongs to."""
        return self._by_key.get(digest(write_key))

    def find_disabled(self, write_key: str) -> Source | None:
        """The source that has disabled a write key."""
        return self._by_disabled_key.get(digest(write_key))

    def by_topic(self, topic: str) -> Source | None:
        """The source whose own a topic is, whatever its records say."""
        return self._by_topic.get(topic)

    @property
    def topics(self) -> Sequence[str]:
        """The topics of others that sources read, in a constant order."""
        return sorted(self._by_topic)

    def by_path(self, path: str) -> Source | None:
        """The source whose webhook is at this path."""
        return self._by_path.get(path)

    def allows(self, origin: str) -> bool:
        """Whether pages of this origin may send as any of the sources: all that a preflight, without a key, can ask."""
        return any(source.allows(origin) for source in self._by_name.values())

    def by_name(self, name: str) -> Source | None:
        """The source of that name."""
        return self._by_name.get(name)
