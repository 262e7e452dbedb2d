"""Follow the commands for integrations in the topic `control`."""

import asyncio
from contextlib import suppress
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError

from streams.kafka.reading import read_to_end
from streams.kafka.settings import Broker
from streams.observability.internal_error import to_exception
from streams.observability.logging import error_fields
from streams.operations.waiting import wait_for_topic
from streams.records.control import Control, ControlAction
from streams.records.format import RecordError
from streams.worker.pipeline import VendorSwitch

log = structlog.get_logger()

RETRY_SECONDS = 1.0
"""Seconds until Kafka is asked again when it did not answer."""

PATIENCE_SECONDS = 60.0
"""Seconds that a pipeline waits for the commands at its start."""


class ControlFollower:
    """Applies commands to a forwarder's pipelines: earlier ones at its start, and new ones as they arrive."""

    def __init__(self, broker: Broker, topic: str, client_id: str) -> None:
        self._broker, self._part, self._client_id = broker, TopicPartition(topic, 0), client_id
        self._paused: dict[str, Control] = {}
        self._vendors: dict[str, VendorSwitch] = {}
        self._is_read = asyncio.Event()

    async def prepare(self, integration: str, vendor: VendorSwitch) -> None:
        """Wait until the commands are read, and apply them to an integration that is about to start."""
        try:
            await asyncio.wait_for(self._is_read.wait(), PATIENCE_SECONDS)
        except TimeoutError:
            raise TimeoutError(f"cannot read {self._part.topic}, which says if the integration is paused") from None
        self._vendors[integration] = vendor
        if order := self._paused.get(integration):
            vendor.hold(order)

    async def run(self) -> None:
        """Follow until cancelled; while Kafka does not respond, the last commands stay in force."""
        without = "integrations cannot be paused by hand"
        await wait_for_topic(self._broker, self._part.topic, without, self._is_read.set)
        while True:
            consumer = AIOKafkaConsumer(
                **self._broker.consumer(), client_id=self._client_id, group_id=None, enable_auto_commit=False
            )
            try:
                await consumer.start()
                await self._follow(consumer)
            except TopicAuthorizationFailedError:
                log.error("no permission to read a topic", topic=self._part.topic, without=without)  # noqa: TRY400
                self._is_read.set()
            except BaseException as error:  # noqa: BLE001  # nothing else would show that commands are ignored
                log.warning("cannot read commands for integrations; trying again", **error_fields(to_exception(error)))
            finally:
                with suppress(KafkaError):
                    await consumer.stop()
            await asyncio.sleep(RETRY_SECONDS)

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        consumer.assign([self._part])
        await consumer.seek_to_beginning(self._part)
        before: dict[str, Control] = {}
        async for records in read_to_end(consumer, self._part):
            for record in records:
                # A probe of before the start is over, and changes no pause.
                if (read := _read(record)) and read[1].action is not ControlAction.PROBE:
                    before[read[0]] = read[1]
        for name in self._paused.keys() | before.keys():
            self._obey(name, before.get(name))
        self._is_read.set()
        while True:
            for record in (await consumer.getmany(self._part, timeout_ms=1000)).get(self._part, ()):
                if read := _read(record):
                    obey = self._probe if read[1].action is ControlAction.PROBE else self._obey
                    obey(*read)

    def _obey(self, name: str, order: Control | None) -> None:
        """Pause, or resume if `order` says so or is None."""
        paused = order if order is not None and order.action is ControlAction.PAUSED else None
        if paused == self._paused.get(name):
            return
        self._paused.pop(name, None)
        if paused is not None:
            self._paused[name] = paused
        if vendor := self._vendors.get(name):
            vendor.hold(paused)

    def _probe(self, name: str, order: Control) -> None:
        if vendor := self._vendors.get(name):
            log.info("probe requested", integration=name, who=order.who)
            vendor.probe()


def _read(record: Any) -> tuple[str, Control] | None:
    """Return the integration and the command in a record; None if it cannot be read."""
    try:
        return record.key.decode(), Control.decode(record.value)
    except (RecordError, AttributeError, UnicodeDecodeError) as error:
        log.error("cannot read a command for an integration", offset=record.offset, error=str(error))  # noqa: TRY400
        return None
