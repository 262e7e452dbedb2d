"""Wait for a topic that an older installation does not have."""

import asyncio
from collections.abc import Callable

import structlog

from streams.kafka.admin import find_partitions
from streams.kafka.settings import Broker, BrokerError
from streams.topics import Topic

log = structlog.get_logger()

LOOK_AGAIN_SECONDS = 60.0
"""Seconds until a missing topic is looked for again."""


async def wait_for_topic(
    broker: Broker, topic: str, without: str, on_missing: Callable[[], None] | None = None
) -> None:
    """Wait until the topic exists. If it is missing, log once what the process does `without` it."""
    said = False
    while True:
        try:
            if await asyncio.to_thread(find_partitions, broker, [Topic(topic, 1, None)]):
                return
        except BrokerError as error:
            log.warning("cannot check if a topic exists; trying again", topic=topic, error=str(error))
            await asyncio.sleep(1.0)
            continue
        if not said:
            log.warning("a topic is missing", topic=topic, without=without, remedy="turnout topics --create")
            said = True
            if on_missing:
                on_missing()
        await asyncio.sleep(LOOK_AGAIN_SECONDS)
