"""Detect that a topic was deleted, recreated, or given more partitions while the process runs."""

import asyncio
from collections.abc import Callable, Iterable, Mapping

from streams.kafka.admin import TopicIdentity, find_identities
from streams.kafka.settings import Broker, BrokerError

WATCH_SECONDS = 10.0
"""Seconds between two looks."""

CONFIRM_SECONDS = 2.0
"""Seconds until a second look confirms that a topic is missing; a node that has just started may not list it yet."""


class TopicWatch:
    """Watches topics for changes since its first check.

    Args:
        broker: How to connect to Kafka.
        topics: Returns the names of the topics that the process uses; those that do not exist yet are ignored.
        fail: Called with a line that names the topic and the change.
        find: Returns the topics that exist; raises BrokerError if Kafka does not respond.

    """

    def __init__(
        self,
        broker: Broker,
        topics: Callable[[], Iterable[str]],
        fail: Callable[[str], None],
        find: Callable[[Broker, Iterable[str]], Mapping[str, TopicIdentity]] = find_identities,
    ) -> None:
        self._broker, self._topics, self._fail, self._find = broker, topics, fail, find
        self._known: dict[str, TopicIdentity] = {}

    async def run(self) -> None:
        """Check until a topic has changed; outages of Kafka are not changes."""
        while not (changed := await self.look()):
            await asyncio.sleep(WATCH_SECONDS)
        self._fail(changed)

    async def look(self) -> str:
        """Return the change since the first check in one line, or an empty string."""
        problem = await self._compare()
        if problem:
            await asyncio.sleep(CONFIRM_SECONDS)
            problem = await self._compare()
        return problem

    async def _compare(self) -> str:
        names = set(self._topics())
        try:
            found = await asyncio.to_thread(self._find, self._broker, names)
        except BrokerError:
            return ""
        self._known = {name: known for name, known in self._known.items() if name in names}
        for name, known in self._known.items():
            if problem := _difference(name, known, found.get(name)):
                return problem
        self._known.update(found)
        return ""


def _difference(name: str, known: TopicIdentity, found: TopicIdentity | None) -> str:
    if found is None:
        return f"topic {name} was deleted; create it with: turnout topics --create"
    if found.id != known.id:
        return (
            f"topic {name} was deleted and created again; reset the offsets of the groups that read it, and start again"
        )
    if found.partitions != known.partitions:
        return (
            f"topic {name} now has {found.partitions} partitions instead of {known.partitions};"
            " see: turnout topics, then start again"
        )
    return ""
