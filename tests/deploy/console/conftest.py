"""Fixtures of the console's tests."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser as Chromium

from deploy.config.configuration import Configuration, read_configuration
from streams.ledger.settings import LedgerSettings
from tests.deploy.console.browsing import browser
from tests.deploy.console.serving import ServedConsole, example, serving_console
from tests.deploy.console.shop import Shop


@pytest.fixture(scope="session")
def audit_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the audit log's file of the console below."""
    return tmp_path_factory.mktemp("console") / "audit.jsonl"


@pytest.fixture(scope="session")
def console(audit_file: Path) -> Iterator[ServedConsole]:
    """Run a console without Kafka and without a ledger."""
    with serving_console(example(), audit_file) as served:
        yield served


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    """Run a real browser."""
    if not shutil.which("chromium"):
        pytest.skip("Chromium is missing")
    with browser() as running:
        yield running


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Run `turnout up` with events of every outcome."""
    running = Shop(tmp_path_factory.mktemp("shop") / "config")
    try:
        running.send_all_kinds()
        running.until_settled()
        yield running
    finally:
        running.close()


@pytest.fixture(scope="session")
def configuration(shop: Shop) -> Configuration:
    """Return the shop's configuration, as a process of `turnout up` reads it."""
    return shop_configuration(shop, int(shop.ledger_port))


@pytest.fixture(scope="session")
def shop_console(configuration: Configuration) -> Iterator[ServedConsole]:
    """Run a console for the shop's Kafka and ledger, with logins as any role."""
    with serving_console(configuration) as served:
        yield served


def shop_configuration(shop: Shop, ledger_port: int) -> Configuration:
    """Return the shop's configuration with its ledger at a port."""
    read = read_configuration(shop.folder)
    return replace(read, settings=read.settings.model_copy(update={"ledger": LedgerSettings(port=ledger_port)}))
