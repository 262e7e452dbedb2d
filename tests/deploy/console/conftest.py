"""Fixtures of the console's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.console.serving import ServedConsole, example, serving_console


@pytest.fixture(scope="session")
def audit_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of the audit log of the console below."""
    return tmp_path_factory.mktemp("console") / "audit.jsonl"


@pytest.fixture(scope="session")
def console(audit_file: Path) -> Iterator[ServedConsole]:
    """A console without Kafka and without a ledger."""
    with serving_console(example(), audit_file) as served:
        yield served
