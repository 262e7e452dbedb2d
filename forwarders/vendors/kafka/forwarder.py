"""A Kafka topic, in this or another cluster."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import orjson
from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    AuthenticationFailedError,
    IllegalStateError,
    InvalidTopicError,
    KafkaError,
    MessageSizeTooLargeError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
)
from aiokafka.helpers import create_ssl_context
from pydantic import Field
from typing_extensions import override

from forwarders.api.auth import Secret
from forwarders.api.contract import (
    AuthFailed,
    BatchFailure,
    Category,
    Contract,
    Delivered,
    Delivery,
    Limits,
    OffsetRange,
    PermanentFailure,
    Request,
    Result,
    Retry,
    Settings,
    Split,
    WriterForwarder,
)

REFUSED = (AuthenticationFailedError, SaslAuthenticationFailed, TopicAuthorizationFailedError, InvalidTopicError)


class Sasl(Settings):
    """SASL credentials."""

    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    """The SASL mechanism."""
    username: str
    """The user."""
    password: Secret
    """The password."""


class KafkaSettings(Settings):
    """Settings of a topic."""

    bootstrap: Annotated[str, Field(pattern=r"^[^,\s]+:[0-9]+(,[^,\s]+:[0-9]+)*$")]
    """Bootstrap servers, as `host:port,host:port`."""
    topic: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,249}$")]
    """The topic. It must exist."""
    key: tuple[str, ...] = ("userId", "anonymousId")
    """Payload fields for the record's key. The first one that is present is used."""
    tls: bool = False
    """Use TLS."""
    tls_ca: str | None = None
    """A file with the CA certificate of the brokers; by default the system's CA certificates."""
    sasl: Sasl | None = None
    """SASL credentials, if the brokers require them."""


class Kafka(WriterForwarder[KafkaSettings]):
    """Each payload is a record in JSON, confirmed by all in-sync replicas.

    The header `turnout-id` has the delivery's ID. Records that were not confirmed before a crash are written again:
    consumers can detect duplicates by the header.
    """

    contract = Contract(
        name="kafka",
        title="Kafka",
        aliases=("Apache Kafka",),
        documentation="https://kafka.apache.org/documentation/",
        category=Category.STORAGE,
        settings=KafkaSettings,
        limits=Limits(items=10_000, bytes=16_000_000, item_bytes=1_000_000),
        batch_failure=BatchFailure.LISTED,
    )

    def __init__(self, settings: KafkaSettings) -> None:
        super().__init__(settings)
        self._producer: AIOKafkaProducer | None = None

    @override
    async def write(self, items: Sequence[Delivery], offsets: OffsetRange) -> Sequence[Result]:
        try:
            producer = await self._connected()
            sent = [await self._send(producer, item) for item in items]
            await producer.flush()
        except REFUSED:
            await self._drop()
            return [AuthFailed()] * len(items)
        except (KafkaError, IllegalStateError):
            await self._drop()
            return [Retry()] * len(items)
        results = [
            future if isinstance(future, PermanentFailure) else _result(future.exception(), len(items) == 1)
            for future in sent
        ]
        if any(isinstance(result, Retry | AuthFailed) for result in results):
            await self._drop()
        return results

    async def _send(self, producer: AIOKafkaProducer, item: Delivery) -> Any:
        """Send a record. Return a future of its confirmation, or a permanent failure."""
        try:
            return await producer.send(
                self.settings.topic,
                orjson.dumps(item.payload),
                key=self._key(item),
                headers=[("turnout-id", item.id.encode())],
            )
        except MessageSizeTooLargeError:
            return PermanentFailure("too_large")

    @override
    async def close(self) -> None:
        await self._drop()

    @override
    def preview(self, items: Sequence[Delivery]) -> Request:
        records = [
            {"key": key and key.decode(), "headers": {"turnout-id": item.id}, "value": item.payload}
            for item in items
            for key in [self._key(item)]
        ]
        return Request("WRITE", f"kafka:{self.settings.bootstrap}/{self.settings.topic}", body=records)

    def _key(self, item: Delivery) -> bytes | None:
        found = (item.payload.get(name) for name in self.settings.key)
        return next((str(value).encode() for value in found if isinstance(value, str | int) and value != ""), None)

    async def _connected(self) -> AIOKafkaProducer:
        if self._producer is None:
            settings, sasl = self.settings, self.settings.sasl
            producer = AIOKafkaProducer(
                bootstrap_servers=settings.bootstrap,
                client_id="turnout",
                acks="all",
                enable_idempotence=True,
                linger_ms=5,
                max_batch_size=256_000,
                max_request_size=1_048_576,
                request_timeout_ms=30_000,
                security_protocol=f"{'SASL_' if sasl else ''}{'SSL' if settings.tls else 'PLAINTEXT'}",
                ssl_context=create_ssl_context(cafile=settings.tls_ca) if settings.tls else None,
                sasl_mechanism=sasl.mechanism if sasl else "PLAIN",
                sasl_plain_username=sasl.username if sasl else None,
                sasl_plain_password=sasl.password.get_secret_value() if sasl else None,
            )
            await producer.start()
            self._producer = producer
        return self._producer

    async def _drop(self) -> None:
        """Discard the producer after a failure, since its sequence numbers may be lost."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()


def _result(error: BaseException | None, alone: bool) -> Result:
    """Wait for a record's result. If a record is too large, Kafka rejects the whole batch that contains it."""
    if error is None:
        return Delivered()
    if isinstance(error, MessageSizeTooLargeError):
        return PermanentFailure("too_large") if alone else Split()
    return AuthFailed() if isinstance(error, REFUSED) else Retry()
