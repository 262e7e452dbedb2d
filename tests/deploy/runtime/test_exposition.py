import asyncio
import json
import threading
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.error import HTTPError

import pytest

from deploy.config.settings import TurnoutSettings
from deploy.runtime import exposition
from deploy.runtime.exposition import PROCESSES, Readiness, port_of, serve_metrics
from deploy.terminal.failures import Failed, listen
from streams.observability.metrics import CONFIGURATION_BROKEN

pytestmark = pytest.mark.anyio


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


@asynccontextmanager
async def served(readiness: Readiness) -> AsyncIterator[int]:
    """A router's metrics on a free port."""
    with serve_metrics("router", TurnoutSettings(metrics_port=0), readiness) as facts:
        yield facts["metrics"]


def test_metrics_are_served_while_a_process_runs():
    """A scrape gets the declared metrics and the process's own; without a port there is nothing to log or to get."""
    CONFIGURATION_BROKEN.set(0)
    with serve_metrics("router", TurnoutSettings(metrics_port=0, metrics_host="127.0.0.1")) as facts:
        url = f"http://127.0.0.1:{facts['metrics']}/metrics"
        with urllib.request.urlopen(url, timeout=60) as answer:
            text = answer.read().decode()
    assert "\nturnout_configuration_broken 0.0\n" in text
    assert '\nturnout_build_info{process="router",release="' in text
    assert "_created" not in text
    assert "\nprocess_resident_memory_bytes " in text
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(url, timeout=120)
    with serve_metrics("router", TurnoutSettings(metrics_port=None)) as facts:
        assert facts == {}


def test_metrics_are_served_by_default_on_loopback():
    """If the default port is in use, as by a second process of the kind, a free one is taken."""
    with serve_metrics("router", TurnoutSettings()) as facts, serve_metrics("router", TurnoutSettings()) as others:
        assert facts["metrics"] != others["metrics"]
        for each in (facts, others):
            assert get(each["metrics"], "/health") == (200, '{"status": "up"}')
    assert TurnoutSettings().metrics_host == "127.0.0.1"


def test_processes_of_different_kinds_have_different_ports():
    """One of each can run on a machine; a port that is busy ends the process with what to do about it."""
    settings = TurnoutSettings(metrics_port=9464, metrics_host="127.0.0.1")
    assert [port_of(process, settings) for process in PROCESSES] == [9464, 9465, 9466, 9467]
    with listen("127.0.0.1", 0) as busy:
        settings = TurnoutSettings(metrics_port=busy.getsockname()[1], metrics_host="127.0.0.1")
        with pytest.raises(Failed, match="TURNOUT_METRICS_PORT"), serve_metrics("collector", settings):
            pass


async def test_health_and_readiness():
    """A process is healthy from its start, and ready without obstacles, which the response names."""
    readiness = Readiness()
    obstacles: list[str] = []
    async with served(readiness) as port:
        assert await asyncio.to_thread(get, port, "/health") == (200, '{"status": "up"}')
        status, text = await asyncio.to_thread(get, port, "/ready")
        assert (status, json.loads(text)) == (503, {"code": "not_ready", "message": "it is starting"})
        readiness.started(lambda: next(iter(obstacles), None))
        assert await asyncio.to_thread(get, port, "/ready") == (200, '{"status": "ready"}')
        obstacles.append("Kafka is away")
        status, text = await asyncio.to_thread(get, port, "/ready")
        assert (status, json.loads(text)["message"]) == (503, "Kafka is away")
        assert (await asyncio.to_thread(get, port, "/health"))[0] == 200
        assert (await asyncio.to_thread(get, port, "/other"))[0] == 404


async def test_a_blocked_event_loop_is_not_healthy(monkeypatch: pytest.MonkeyPatch):
    """The question is answered by a thread, in time."""
    monkeypatch.setattr(exposition, "LOOP_SECONDS", 0.2)
    readiness = Readiness()
    readiness.started()
    answers: list[tuple[int, str]] = []
    async with served(readiness) as port:
        asking = threading.Thread(target=lambda: answers.append(get(port, "/health")))
        asking.start()
        deadline = time.monotonic() + 60
        while not answers and time.monotonic() < deadline:
            time.sleep(0.01)  # noqa: ASYNC251  # it blocks the event loop
        asking.join()
        assert answers[0][0] == 503
        assert "has not reacted" in answers[0][1]
        assert (await asyncio.to_thread(get, port, "/health"))[0] == 200
