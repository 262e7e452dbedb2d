"""Before the first request, the console has done what that would wait for."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploy.console import backend as backend_module
from deploy.console.access.roles import Role
from tests.deploy.console.serving import EXAMPLE, NOWHERE, ServedConsole, example, serving_console

VARIABLES = {
    "TURNOUT_CONSOLE__PORT": "0",
    "TURNOUT_BROKER__BOOTSTRAP": NOWHERE,
    "WEB_WRITE_KEY": "web",
    "SERVER_WRITE_KEY": "server",
    "WEBHOOK_TOKEN": "token",
    "GA4_API_SECRET": "secret",
    "WEBHOOK_URL": "http://127.0.0.1:1",
    "GA4_ENDPOINT": "http://127.0.0.1:1",
}


def test_process_warms_up_at_its_start(tmp_path):
    """`turnout console` connects to Kafka before the first request, and keeps running if Kafka is unreachable."""
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [Path(sys.executable).with_name("turnout"), "console", "--config", EXAMPLE],
            stdout=output,
            stderr=output,
            env={**os.environ, **VARIABLES},
        )
    try:
        deadline = time.monotonic() + 120
        while not all(text in log.read_text() for text in ("the first request will take longer", '"ready"')):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
    finally:
        process.terminate()
        process.wait(60)


def test_console_without_kafka_starts(console: ServedConsole):
    """If Kafka does not answer, the warm-up ends quietly, and pages say so."""
    console.app.warm_up()
    assert console.get("/find.json?q=turnout.events:0:1", role=Role.VIEWER).status_code == 503


@pytest.mark.browser
def test_first_search_opens_no_connection(shop, configuration, monkeypatch):
    """After the warm-up the first search uses the connection to Kafka that is open, and compiles nothing."""
    opened = []
    open_kafka = backend_module.open_kafka
    monkeypatch.setattr(backend_module, "open_kafka", lambda *given: opened.append(given) or open_kafka(*given))
    with serving_console(configuration) as served:
        served.app.warm_up()
        assert len(opened) == 1
        compiled = set(served.app._renderer._jinja.cache.keys())
        assert served.get("/?q=m-0002", role=Role.EDITOR).status_code == 200
        assert len(opened) == 1
        assert set(served.app._renderer._jinja.cache.keys()) == compiled


def test_past_rules_are_kept_between_requests():
    """Compiled rules of the past are shared by requests, until the configuration changes."""
    configuration = example()
    with serving_console(configuration) as served:
        first = served.backend.past_rules
        assert served.backend.past_rules is first
        served.backend._current = example
        assert served.backend.past_rules is not first
