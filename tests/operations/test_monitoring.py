"""Prometheus scrapes `turnout up` on a real Kafka: dashboards and alerts show what happens."""

import json
import os
import re
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from uuid import uuid4

import pytest
import requests
import yaml
from click.testing import CliRunner

from deploy.cli.main import main
from deploy.monitoring.alerts import ALERTS, rules
from deploy.monitoring.generate import FILES
from deploy.runtime.exposition import PROCESSES
from tests.support import prometheus, real_kafka
from tests.support.prometheus import Prometheus
from tests.support.running_up import Up

pytestmark = pytest.mark.operations

SCRAPED_SECONDS = 60
"""Seconds for which Prometheus scrapes before the expressions must have data."""

FAULTS = [
    {"path": "/mp", "status": 503, "times": None},
    {"path": "/hooks", "status": 400, "times": None},
]
"""GA4 fails, which pauses it, and the webhook rejects deliveries, which makes dead letters."""

WITH_SUNSET = """
integration: klaviyo
forwarder: klaviyo
preset: klaviyo
sources: [server]
settings: {api_key: '${WEBHOOK_TOKEN}', endpoint: 'http://127.0.0.1:8099'}
"""
"""An integration whose vendor has said when its API version ends; it gets no events here."""

FIRING = {"TurnoutPaused", "TurnoutDeadLetters", "TurnoutConfigurationInvalid"}
"""The alerts whose faults are switched on."""


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory, kafka: real_kafka.Kafka) -> Iterator[Up]:
    """A running example; the embedded broker would not tell how long it keeps records."""
    files = {"integrations/klaviyo.yaml": WITH_SUNSET, ".env": Path("deploy/example/demo.env").read_text()}
    variables = {
        "TURNOUT_EMBEDDED": "false",
        "TURNOUT_BROKER__BOOTSTRAP": kafka.bootstrap,
        "TURNOUT_PREFIX": f"p{uuid4().hex[:8]}",
    }
    running = Up(tmp_path_factory.mktemp("up") / "example", files, variables)
    created = CliRunner(env=variables).invoke(main, ["topics", "--create", "--config", str(running.folder)])
    assert created.exit_code == 0, created.output
    try:
        yield running.begun()
    finally:
        running.close()


@pytest.fixture(scope="module")
def scraping(up: Up, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Prometheus with the alerts, which here fire at once."""
    reason = prometheus.why_not()
    if reason and not os.environ.get(prometheus.REQUIRED):
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("prometheus")
    data = rules()
    for rule in data["groups"][0]["rules"]:
        rule["for"] = "0m"
    (folder / "alerts.yaml").write_text(yaml.safe_dump(data))
    targets = [f"127.0.0.1:{up.metrics_port + number}" for number, _ in enumerate(PROCESSES)]
    configuration = {
        "global": {"scrape_interval": "2s", "evaluation_interval": "2s"},
        "rule_files": ["alerts.yaml"],
        "scrape_configs": [{"job_name": "turnout", "static_configs": [{"targets": targets}]}],
    }
    with prometheus.running(folder, yaml.safe_dump(configuration)) as running:
        yield running


def panel_expressions() -> list[str]:
    """Every expression of the dashboards, with Grafana's variables replaced."""
    return [
        target["expr"].replace("$__rate_interval", "30s").replace("$integration", ".*")
        for board in sorted((FILES / "dashboards").glob("*.json"))
        for panel in json.loads(board.read_text())["panels"]
        for target in panel.get("targets", ())
    ]


def send(up: Up, number: int) -> None:
    """Send an order to the collector."""
    properties = {
        "order_id": f"A-{number}",
        "total": 5,
        "currency": "EUR",
        "products": [{"product_id": "p", "price": 5}],
    }
    event = {"userId": f"u-{number}", "event": "Order Completed", "properties": properties}
    url = f"http://127.0.0.1:{up.ports['8080']}/v1/track"
    assert requests.post(url, json=event, auth=("demo-web", ""), timeout=60).ok


def test_every_expression_has_data(up: Up, scraping: Prometheus):
    """After a minute with events each expression of panels and alerts is valid and has data, and no alert fires."""
    began = time.monotonic()
    numbers = count()
    missing = [*panel_expressions(), *(alert.value for alert in ALERTS)]

    def is_complete() -> bool:
        send(up, next(numbers))
        missing[:] = [expression for expression in missing if not scraping.query(expression)]
        return not missing and time.monotonic() - began > SCRAPED_SECONDS

    try:
        up.until(is_complete, 300)
    except AssertionError:
        assert missing == []
        raise
    assert {target["health"] for target in scraping.get("targets")["activeTargets"]} == {"up"}
    assert [it["labels"] for it in scraping.get("alerts")["alerts"]] == []
    assert sum(float(it["value"][1]) for it in scraping.query("turnout_collector_accepted_events_total")) > 0


def test_alerts_fire(up: Up, scraping: Prometheus):
    """With a failing vendor, a rejecting one and an invalid folder, exactly their alerts fire."""
    requests.post(f"http://127.0.0.1:{up.ports['8099']}/_script", json=FAULTS, timeout=60).raise_for_status()
    file = Path(up.folder / "sources" / "web.yaml")
    file.write_text(re.sub("^plan: shop", "plan: shpo", file.read_text(), flags=re.MULTILINE))
    numbers = count(1000)

    def firing() -> set[str]:
        send(up, next(numbers))
        return {it["labels"]["alertname"] for it in scraping.get("alerts")["alerts"] if it["state"] == "firing"}

    up.until(lambda: firing() >= FIRING, 300)
    assert firing() == FIRING
    for alert in ALERTS:
        assert bool(scraping.query(alert.expression)) == (alert.name in FIRING)
