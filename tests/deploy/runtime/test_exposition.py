import urllib.request

import pytest

from deploy.config.settings import TurnoutSettings
from deploy.runtime.exposition import PROCESSES, port_of, serve_metrics
from deploy.terminal.failures import Failed, listen
from streams.observability.metrics import CONFIGURATION_BROKEN


def test_metrics_are_served_while_a_process_runs():
    """A scrape gets the declared metrics and the process's own; without a port there is nothing to log or to get."""
    CONFIGURATION_BROKEN.set(0)
    with serve_metrics("router", TurnoutSettings(metrics_port=0, metrics_host="127.0.0.1")) as facts:
        url = f"http://127.0.0.1:{facts['metrics']}/metrics"
        with urllib.request.urlopen(url, timeout=60) as answer:
            text = answer.read().decode()
    assert "\nturnout_configuration_broken 0.0\n" in text
    assert "_created" not in text
    assert "\nprocess_resident_memory_bytes " in text
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(url, timeout=120)
    with serve_metrics("router", TurnoutSettings()) as facts:
        assert facts == {}


def test_processes_of_different_kinds_have_different_ports():
    """One of each can run on a machine; a port that is busy ends the process with what to do about it."""
    settings = TurnoutSettings(metrics_port=9464, metrics_host="127.0.0.1")
    assert [port_of(process, settings) for process in PROCESSES] == [9464, 9465, 9466, 9467]
    with listen("127.0.0.1", 0) as busy:
        settings = TurnoutSettings(metrics_port=busy.getsockname()[1], metrics_host="127.0.0.1")
        with pytest.raises(Failed, match="TURNOUT_METRICS_PORT"), serve_metrics("collector", settings):
            pass
