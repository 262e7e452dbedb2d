"""Declare every topic: its name, partitions and retention."""

from collections.abc import Iterable
from dataclasses import dataclass

from streams.records.format import MAX_RECORD_BYTES
from turnout_tracking import records

SUPPRESSED_END = b"end"
"""The key of the last record of each change of the list of suppressed users.

Compaction may take a record that lifts a suppression, and a reader would wait for it at the end of the topic forever.
"""

DAY = 24 * 3600

STATUS_SECONDS = 600
"""How long a process's last report counts, in seconds."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as declared: `name` with the prefix, retention in seconds; None: the last record of each key is kept.

    One that is another's, which a source reads, must be there with any number of partitions: None. With `compacted`,
    older records of a key are removed within the retention. Workers start without an `optional` topic.
    """

    name: str
    partitions: int | None
    retention: int | None
    compacted: bool = False
    optional: bool = False

    @property
    def config(self) -> dict[str, str]:
        """What the topic is created with."""
        if self.retention is None:
            return {"cleanup.policy": "compact", "max.message.bytes": str(MAX_RECORD_BYTES)}
        if self.compacted:
            # Kafka cleans only segments that are closed.
            return {
                "cleanup.policy": "compact,delete",
                "max.message.bytes": str(MAX_RECORD_BYTES),
                "retention.ms": str(self.retention * 1000),
                "segment.ms": str(self.retention * 1000),
            }
        return {
            "cleanup.policy": "delete",
            "max.message.bytes": str(MAX_RECORD_BYTES),
            "retention.ms": str(self.retention * 1000),
        }


@dataclass(frozen=True, slots=True)
class Topics:
    """All topics of one environment; the prefix keeps environments that share a Kafka apart."""

    prefix: str = "turnout"
    partitions: int = 12
    retention_days: int = 7

    @property
    def events(self) -> str:
        """Accepted events in normal form, one per record."""
        return records.events_topic(self.prefix)

    @property
    def rejected(self) -> str:
        """What was accepted and is no valid event, or is quarantined; the headers say why and where it came from."""
        return f"{self.prefix}.rejected"

    @property
    def outcomes(self) -> str:
        """What became of each event for each integration."""
        return f"{self.prefix}.outcomes"

    @property
    def dead(self) -> str:
        """Deliveries that will never be taken, with all that is needed to send them again."""
        return f"{self.prefix}.dead"

    @property
    def suppressed(self) -> str:
        """Users that nothing is forwarded for: a record a user, whose key is a digest; without a value it is lifted.

        It has one partition, which each router reads whole. The key SUPPRESSED_END is no user's.
        """
        return f"{self.prefix}.suppressed"

    @property
    def status(self) -> str:
        """The last report of each process. It has one partition."""
        return f"{self.prefix}.status"

    @property
    def control(self) -> str:
        """The last command for each integration: pause, resume, probe. It has one partition."""
        return f"{self.prefix}.control"

    def forward(self, integration: str) -> str:
        """What one integration is to deliver."""
        return f"{self.prefix}.forward.{integration}"

    def retry(self, integration: str) -> str:
        """What one integration is to deliver later, each after the same delay; the headers say since when and why."""
        return f"{self.forward(integration)}.retry"

    def declared(self, integrations: Iterable[str], read: Iterable[str] = ()) -> list[Topic]:
        """Every topic that this environment needs; dead letters and rejected events are kept four times as long.

        `read` are topics of others that sources read.
        """
        kept, long = self.retention_days * DAY, 4 * self.retention_days * DAY
        return [
            Topic(self.events, self.partitions, kept),
            Topic(self.rejected, self.partitions, long),
            Topic(self.outcomes, self.partitions, kept),
            Topic(self.dead, self.partitions, long),
            Topic(self.suppressed, 1, None),
            Topic(self.status, 1, STATUS_SECONDS, compacted=True, optional=True),
            Topic(self.control, 1, None, optional=True),
            *self.of_integrations(integrations),
            *(Topic(topic, None, kept) for topic in read),
        ]

    def of_integrations(self, names: Iterable[str]) -> list[Topic]:
        """The topics that are these integrations' own."""
        return [
            Topic(topic, self.partitions, self.retention_days * DAY)
            for name in names
            for topic in (self.forward(name), self.retry(name))
        ]
