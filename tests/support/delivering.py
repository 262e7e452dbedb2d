"""Shared helpers for delivery tests: a vendor, and one integration's delivery on the real Kafka."""

import asyncio
from collections.abc import Sequence
from contextlib import asynccontextmanager
from typing import Any, Self

from pydantic import Field, SecretStr, model_validator

from forwarders.api.contract import (
    Category,
    Contract,
    Delivered,
    Delivery,
    Forwarder,
    HttpForwarder,
    Limits,
    Payload,
    PermanentFailure,
    Request,
    Response,
    Result,
    Settings,
    result_for_status,
)
from streams.delivery.flow.settings import DeliverySettings
from streams.delivery.sinks.factory import make_delivery
from streams.kafka.acks import PendingAcks
from streams.kafka.producer import Producer
from streams.kafka.settings import Broker
from streams.records.dead_letter import DeadLetter
from streams.records.delivery import DeliveryRecord
from streams.records.event import Origin
from streams.records.format import Headers
from streams.records.outcomes import Outcomes
from streams.topics import Topics
from tests.support.reading import read
from tests.support.receiver import Got


class VendorSettings(Settings):
    url: str
    token: SecretStr = SecretStr("s3cret")


class VendorPayload(Payload):
    n: int
    user: str = "u"
    note: str | None = None
    colour: str | None = Field(None, max_length=10)

    @model_validator(mode="after")
    def _check_note(self) -> Self:
        if self.note is not None and len(self.note) > 10:
            raise ValueError("the note is longer than 10 characters")
        return self


class Vendor(HttpForwarder[VendorSettings]):
    """A vendor that accepts lists, and may respond per item."""

    contract = Contract(
        "vendor", "Vendor", "https://example.com", Category.ANALYTICS, VendorSettings, VendorPayload, Limits(items=10)
    )

    def group_key(self, payload):
        return payload.get("user")

    def build_request(self, items: Sequence[Delivery]) -> Request:
        body = [dict(item.payload) for item in items]
        url = f"{self.settings.url}?token={self.settings.token.get_secret_value()}"
        return Request("POST", url, {"Authorization": "Bearer x"}, body)

    def parse_response(self, answer: Response, items: Sequence[Delivery]) -> Sequence[Result]:
        if answer.status == 207:
            return [
                PermanentFailure("listed") if b"%d" % item.payload["n"] in answer.body.split(b",") else Delivered()
                for item in items
            ]
        return [result_for_status(answer)] * len(items)


class Bench:
    """One integration's delivery on the real Kafka."""

    def __init__(self, broker: Broker, topics: Topics) -> None:
        self.broker, self.topics = broker, topics
        self.failed: list[str] = []
        self.group = f"{topics.prefix}.forwarder.one"

    async def forward(
        self, *payloads: dict[str, Any], partition: int = 0, time: str = "t", retried: Headers | None = None
    ) -> None:
        """Write these payloads to the forward topic, or with these headers to the retry topic."""
        topic = self.topics.forward("one") if retried is None else self.topics.retry("one")
        producer = Producer(self.broker, client_id="send")
        await producer.start()
        acks = PendingAcks()
        for number, payload in enumerate(payloads):
            n = payload.get("n", number)
            delivery = DeliveryRecord(
                f"m{n}", "r", "v1", "track", "E", time, "t", "web",
                Origin(self.topics.events, partition, n), payload,
            )  # fmt: skip
            key = str(payload.get("user", "u")).encode()
            producer.append(topic, partition, acks, key=key, value=delivery.encode(), headers=retried or [])
        await acks.confirmed(120)
        await producer.stop()

    @asynccontextmanager
    async def running(self, forwarder: Forwarder[Any], *, grace: float = 8, shadow: bool = False, **settings: Any):
        """Run the delivery in this process, with short back-offs; fails the test if it fails."""
        settings = {"backoff_min": 0.01, "backoff_max": 0.05, "linger": 0.02, "retry_delay": 1.0, **settings}
        producer = Producer(
            self.broker, client_id="forwarder", on_failure=lambda error: self.failed.append(repr(error))
        )
        await producer.start()
        pipeline = make_delivery(
            "one", forwarder, DeliverySettings(**settings), self.topics, self.broker, producer,
            fail=self.failed.append, grace=grace, shadow=shadow,
        )  # fmt: skip
        await pipeline.start()
        try:
            yield pipeline
        finally:
            await pipeline.app.stop()
            await pipeline.stop_processor()
            await producer.stop()
        assert not self.failed

    async def outcomes(self) -> dict[int, str]:
        """Return the outcome of each offset; fails the test if an offset has two."""
        found: dict[int, str] = {}
        for record in await read(self.broker, self.topics.outcomes):
            for span in Outcomes.decode(record.value).spans:
                for offset in range(span.first, span.last + 1):
                    assert found.setdefault(offset, span.outcome) == span.outcome
        return found

    async def settled(self, count: int) -> dict[int, str]:
        """Wait for a number of outcomes, and return them."""
        async with asyncio.timeout(120):
            while len(found := await self.outcomes()) < count:
                await asyncio.sleep(0.05)
        return found

    async def dead(self) -> list[DeadLetter]:
        """Return the dead letters."""
        return [DeadLetter.decode(record.value) for record in await read(self.broker, self.topics.dead)]


def numbers(got: Sequence[Got]) -> list[list[int]]:
    """Return the payloads' numbers by request."""
    return [[payload["n"] for payload in one.body] for one in got]
