"""Check the ledger after a fault: its audit balances, and its counts equal the oracle's."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from deploy.config.configuration import read_configuration
from deploy.console.access.roles import Role
from streams.kafka.settings import Broker
from streams.ledger.audit import AuditReport
from streams.ledger.ingester import Ingester
from streams.ledger.kafka_audit import KafkaAuditor, RecordedIntegrations, audit_with_kafka
from streams.ledger.settings import LedgerSettings
from streams.ledger.sqlite_store import SqliteReader, SqliteStore
from streams.topics import Topics
from tests.deploy.console.flow_numbers import check_flow, counts
from tests.deploy.console.serving import serving_console, serving_ledger
from tests.faults.oracle import Findings


def compare_flow(folder: Path) -> None:
    """Fail unless the console's Flow shows what `turnout counts` prints of a stage's ledger."""
    with serving_ledger(folder / "ledger") as port:
        read = read_configuration(folder)
        settings = read.settings.model_copy(update={"ledger": LedgerSettings(port=port)})
        with serving_console(replace(read, settings=settings)) as console:
            check_flow(console.get("/flow.json", role=Role.VIEWER).json(), counts(folder, port))


async def audit(reader: SqliteReader, kafka: KafkaAuditor, recorded: RecordedIntegrations) -> AuditReport:
    return await audit_with_kafka(reader, kafka, 0, recorded=recorded, patience=120)


async def check(broker: Broker, topics: Topics, integrations: Sequence[str], folder: Path, findings: Findings) -> None:
    """Bring the ledger in a folder up to date and audit it; fails the test with all differences."""
    store = SqliteStore(folder, b"key", 7)
    ingester = Ingester(broker, topics, store)
    running = asyncio.create_task(ingester.run())
    reader = SqliteReader(folder, b"key")
    recorded = RecordedIntegrations(broker, topics.rulesets)
    try:
        async with KafkaAuditor(broker, topics, integrations) as kafka:
            async with asyncio.timeout(180):
                # The router's commit follows within a second.
                while (report := await audit(reader, kafka, recorded)).events < len(findings.messages):
                    await asyncio.sleep(0.2)
        assert report.balanced, report.findings[:20]
        assert not report.unknown
        assert report.in_flight == 0
        assert report.rejected == len(findings.rejected)
        counted: Counter[tuple[str, str, str]] = Counter()
        for count in reader.counts(0, 2**40):
            if count.key.integration:
                counted[count.key.integration, count.key.rule, count.key.outcome] += count.number
        expected = Counter(
            (integration, rule, str(outcome))
            for by_integration in findings.outcomes.values()
            for integration, by_rule in by_integration.items()
            for rule, outcome in by_rule.items()
        )
        assert counted == expected
        print(f"the ledger balances: {report.events} events, {report.rejected} rejected, {expected.total()} outcomes")
    finally:
        reader.close()
        ingester.stop()
        await running
        store.close()
