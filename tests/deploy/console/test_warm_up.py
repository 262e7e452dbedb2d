"""Before the first request, the console has done what that would wait for."""

import os
import signal
from threading import Timer

import pytest

from deploy.console import backend as backend_module
from deploy.console.access.roles import Role
from deploy.console.app import ConsoleApp
from deploy.runtime import console as process
from deploy.terminal.failures import listen
from tests.deploy.console.serving import ServedConsole, example, serving_console


def test_process_warms_up_at_its_start(monkeypatch):
    """`turnout console` warms up without a request."""
    warmed: list[ConsoleApp] = []

    def warm_up(app: ConsoleApp) -> None:
        warmed.append(app)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(ConsoleApp, "warm_up", warm_up)
    monkeypatch.setattr(process, "log_ready", lambda *_, **__: None)
    give_up = Timer(60, os.kill, (os.getpid(), signal.SIGTERM))
    give_up.start()
    try:
        with listen("127.0.0.1", 0) as listener:
            assert process.run(example(), listener, example) == 0
    finally:
        give_up.cancel()
    assert len(warmed) == 1


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
