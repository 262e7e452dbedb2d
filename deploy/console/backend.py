"""Give screens the configuration, the ledger and Kafka."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from queue import Empty, Full, LifoQueue
from threading import Lock
from typing import Any, TypeVar

from deploy.config.configuration import Configuration
from deploy.console.access.audit_log import AuditLog
from deploy.ledger.client import LedgerClient
from deploy.ledger.kafka_facts import KafkaFacts, open_kafka
from deploy.ledger.past_rules import PastRules
from streams.kafka.admin import check_reachable
from streams.operations.overview import Overview
from streams.operations.reading import OperationsReader

T = TypeVar("T")

MAX_IDLE_READERS = 2
"""Connections to Kafka that wait for the next request; to open one takes longer than to use it."""


class Backend:
    """Reads the data that screens show.

    Args:
        current: Returns the current configuration.
        audit_log: Records users' actions.

    """

    def __init__(self, current: Callable[[], Configuration], audit_log: AuditLog) -> None:
        self._current = current
        self.audit_log = audit_log
        self._idle: LifoQueue[tuple[KafkaFacts, ExitStack]] = LifoQueue(MAX_IDLE_READERS)
        self._operations: OperationsReader | None = None
        self._operating = Lock()
        self._past = PastRules(current())

    @property
    def configuration(self) -> Configuration:
        """The current configuration."""
        return self._current()

    @property
    def past_rules(self) -> PastRules:
        """Compiled rules of the past, kept until the configuration changes."""
        configuration = self.configuration
        if self._past.today is not configuration:
            self._past = PastRules(configuration)
        return self._past

    @property
    def ledger(self) -> LedgerClient:
        """A client of the ledger's API."""
        configuration = self.configuration
        return LedgerClient(configuration.settings.ledger, configuration.folder)

    async def ask(self, path: str, **parameters: object) -> Any:
        """Return a response of the ledger's API; raises LedgerAwayError or LedgerRefusedError."""
        return await asyncio.to_thread(self.ledger.ask, path, parameters)

    @contextmanager
    def kafka(self) -> Iterator[KafkaFacts]:
        """Lend a reader of Kafka, in a thread; raises BrokerError."""
        try:
            facts, opened = self._idle.get_nowait()
        except Empty:
            facts, opened = self._open()
        with opened:
            yield facts
            kept = opened.pop_all()
            try:
                self._idle.put_nowait((facts, kept))
            except Full:
                kept.close()

    def look(self, integrations: Sequence[str]) -> tuple[Overview, int | None]:
        """Return the reports of processes, and the number of dead letters in the last hour; blocking.

        Raises BrokerError.
        """
        configuration = self.configuration
        with self._operating:
            reader, self._operations = self._operations, None
            if reader is None:
                check_reachable(configuration.settings.broker)
                reader = OperationsReader(configuration.settings.broker, configuration.topics).__enter__()
            try:
                seen = reader.look(integrations), reader.count_dead()
            except BaseException:
                reader.__exit__()
                raise
            self._operations = reader
        return seen

    def close(self) -> None:
        """Close the connections to Kafka that are not in use."""
        with self._operating:
            if self._operations is not None:
                self._operations.__exit__()
                self._operations = None
        while not self._idle.empty():
            self._idle.get_nowait()[1].close()

    def _open(self) -> tuple[KafkaFacts, ExitStack]:
        configuration = self.configuration
        check_reachable(configuration.settings.broker)
        with ExitStack() as opened:
            facts = opened.enter_context(open_kafka(configuration.settings.broker, configuration.topics))
            return facts, opened.pop_all()
