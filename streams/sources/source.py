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
from streams.steps.enrichment.memory import VisitorMemory, memory_of
from streams.steps.kinds import Kinds
from streams.steps.step import Step


def digest(write_key: str) -> bytes:
    """Return the SHA-256 of a write key. Keys are stored and looked up by digest, which prevents timing attacks."""
    return hashlib.sha256(write_key.encode(errors="surrogatepass")).digest()


ANY_ORIGIN = ("*",)
NO_LIMITS = SourceLimits()


@dataclass(frozen=True, slots=True)
class Source:
    """An app or site that sends events; `write_keys` are digests. Its events pass through `steps`.

    `disabled_keys` are rejected; if the source is `disabled`, all keys are. `origins` are the allowed origins of pages:
    `https://shop.example.com`, `https://*.example.com`, or `*` for any. `assume` is the default consent of events
    without consent information; None leaves it to the integration. A `webhook` receives deliveries from other systems.
    All events in `topics` belong to this source.
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
        """Make a source from plain write keys; `options` are the other fields."""
        return cls(
            name,
            frozenset(map(digest, write_keys)),
            tuple(steps),
            tuple(origins),
            frozenset(map(digest, disabled_keys)),
            **options,
        )

    def allows(self, origin: str) -> bool:
        """Return whether pages of this origin may send with the source's write keys."""
        return self.origins == ANY_ORIGIN or _matches(self.origins, origin)


@lru_cache(4096)
def _matches(origins: tuple[str, ...], origin: str) -> bool:
    return any(re.fullmatch(re.escape(one).replace(r"\*", r"[^/:@]+"), origin) or one == "*" for one in origins)


class Sources:
    """The current sources. `default` is the source of Kafka records that name none; without it, they are rejected."""

    def __init__(self, sources: Iterable[Source] = (), default: str | None = None) -> None:
        """Index the sources.

        Raises ValueError if two sources share a name, a write key, a path or a topic, or if the default source is not
        declared.
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
                    raise ValueError(f"a write key of source {source.name} is active and disabled")
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
        """Return the source that has this write key."""
        return self._by_key.get(digest(write_key))

    def find_disabled(self, write_key: str) -> Source | None:
        """Return the source that has disabled this write key."""
        return self._by_disabled_key.get(digest(write_key))

    def by_topic(self, topic: str) -> Source | None:
        """Return the source that owns a topic, regardless of its records' headers."""
        return self._by_topic.get(topic)

    @property
    def memory(self) -> VisitorMemory | None:
        """The memory that steps of the sources use; None if no source has the enrichment `memory`."""
        return next(filter(None, (memory_of(source.steps) for source in self._by_name.values())), None)

    @property
    def topics(self) -> Sequence[str]:
        """The external topics that sources read, sorted."""
        return sorted(self._by_topic)

    def by_path(self, path: str) -> Source | None:
        """Return the source whose webhook has this path."""
        return self._by_path.get(path)

    def allows(self, origin: str) -> bool:
        """Return whether any source allows this origin. A preflight request has no key, so it checks only this."""
        return any(source.allows(origin) for source in self._by_name.values())

    def by_name(self, name: str) -> Source | None:
        """Return the source with this name."""
        return self._by_name.get(name)
