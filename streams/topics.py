"""Declare every topic: its name, partitions and retention."""

from collections.abc import Iterable
from dataclasses import dataclass

from streams.records.format import MAX_RECORD_BYTES
from turnout_tracking import records

SUPPRESSED_END = b"end"
"""The key of the last record of each change to the list of suppressed users.

Compaction may remove a record that lifts a suppression. Readers that waited for it at the end of the topic would never
finish.
"""

DAY = 24 * 3600

PARKED_RETENTIONS = 4
"""How many times longer than events dead letters and rejected events are kept."""

STATUS_SECONDS = 600
"""How long a process's last report counts, in seconds."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A declared topic: `name` with the prefix, retention in seconds. Retention None compacts the topic.

    `partitions` is None for an external topic that a source reads; it must exist, with any number of partitions. If
    `compacted`, older records of a key are also removed within the retention. Workers start without an `optional`
    topic.
    """

    name: str
    partitions: int | None
    retention: int | None
    compacted: bool = False
    optional: bool = False

    @property
    def config(self) -> dict[str, str]:
        """The configuration with which the topic is created."""
        if self.retention is None:
            return {"cleanup.policy": "compact", "max.message.bytes": str(MAX_RECORD_BYTES)}
        if self.compacted:
            # Kafka cleans only segments that are closed.
            return {
                "cleanup.policy": "compact,delete",
                "max.message.bytes": str(MAX_RECORD_BYTES),
                "retention.ms": str(self.retention * 1000),
                "segment.ms": str(min(self.retention, DAY) * 1000),
            }
        return {
            "cleanup.policy": "delete",
            "max.message.bytes": str(MAX_RECORD_BYTES),
            "retention.ms": str(self.retention * 1000),
        }


@dataclass(frozen=True, slots=True)
class Topics:
    """All topics of one environment. The prefix separates environments that share a Kafka cluster."""

    prefix: str = "turnout"
    partitions: int = 12
    retention_days: int = 7

    @property
    def events(self) -> str:
        """Accepted events in normal form, one per record."""
        return records.events_topic(self.prefix)

    @property
    def rejected(self) -> str:
        """Invalid and quarantined events; the headers have the reason and the event's coordinates."""
        return f"{self.prefix}.rejected"

    @property
    def outcomes(self) -> str:
        """The outcome of each event for each integration."""
        return f"{self.prefix}.outcomes"

    @property
    def dead(self) -> str:
        """Deliveries that failed permanently, with all that is needed to replay them."""
        return f"{self.prefix}.dead"

    @property
    def suppressed(self) -> str:
        """Suppressed users: one record per user, keyed by digest; a record without a value lifts the suppression.

        It has one partition, which each router reads from the beginning. The key SUPPRESSED_END marks the end of a
        change.
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

    @property
    def rulesets(self) -> str:
        """The rules of each version that a router has used. It has one partition."""
        return f"{self.prefix}.rulesets"

    @property
    def router_group(self) -> str:
        """The consumer group of the routers."""
        return f"{self.prefix}.router"

    def forwarder_group(self, integration: str) -> str:
        """The consumer group of one integration's forwarders."""
        return f"{self.prefix}.forwarder.{integration}"

    def readers(self, integrations: Iterable[str]) -> dict[str, list[str]]:
        """Return the topics in which each consumer group keeps the order of a user's events."""
        forwarders = {self.forwarder_group(name): [self.forward(name), self.retry(name)] for name in integrations}
        return {self.router_group: [self.events], **forwarders}

    @property
    def memory(self) -> str:
        """Encrypted values from the events of users and visitors, for sources with the enrichment `memory`.

        Partitions are those of the events topic, so that a router has the entries of the users whose events it gets.
        """
        return f"{self.prefix}.memory"

    def forward(self, integration: str) -> str:
        """The deliveries of one integration."""
        return f"{self.prefix}.forward.{integration}"

    def retry(self, integration: str) -> str:
        """The retries of one integration, all after the same delay. Headers have the time of the first failure, and the
        reason.
        """
        return f"{self.forward(integration)}.retry"

    def declared(
        self, integrations: Iterable[str], read: Iterable[str] = (), memory_days: int | None = None
    ) -> list[Topic]:
        """Return every topic that this environment needs. Dead letters and rejected events are kept four times as long.

        `read` are external topics that sources read. `memory_days` is None unless a source has the enrichment `memory`.
        """
        kept, long = self.retention_days * DAY, PARKED_RETENTIONS * self.retention_days * DAY
        return [
            Topic(self.events, self.partitions, kept),
            Topic(self.rejected, self.partitions, long),
            Topic(self.outcomes, self.partitions, kept),
            Topic(self.dead, self.partitions, long),
            Topic(self.suppressed, 1, None),
            Topic(self.status, 1, STATUS_SECONDS, compacted=True, optional=True),
            Topic(self.control, 1, None, optional=True),
            Topic(self.rulesets, 1, None, optional=True),
            *([] if memory_days is None else [self.of_memory(memory_days)]),
            *self.of_integrations(integrations),
            *(Topic(topic, None, kept) for topic in read),
        ]

    def of_memory(self, days: int) -> Topic:
        """Return the topic of the memory, which keeps values for `days`."""
        return Topic(self.memory, self.partitions, days * DAY, compacted=True)

    def of_integrations(self, names: Iterable[str]) -> list[Topic]:
        """Return the topics of these integrations."""
        return [
            Topic(topic, self.partitions, self.retention_days * DAY)
            for name in names
            for topic in (self.forward(name), self.retry(name))
        ]
