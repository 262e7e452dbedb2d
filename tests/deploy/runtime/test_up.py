"""`turnout up`, whole: the example's processes over the embedded broker."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import requests

from tests.support.running_up import Up


@pytest.fixture
def up(tmp_path) -> Iterator[Up]:
    if sys.platform != "linux":
        pytest.skip("looks for processes in /proc")
    running = Up(tmp_path / "example")
    try:
        yield running.begun()
    finally:
        running.close()


def test_the_way_of_an_event(up):
    """The line to copy works, the terminal shows what each integration got or why not, and Ctrl-C leaves nothing."""
    (curl,) = re.findall("^curl .*$", up.output, re.MULTILINE)
    sent = subprocess.run(f"{curl} -s", shell=True, capture_output=True, text=True, check=True)  # noqa: S602
    assert sent.stdout == '{"success":true}'
    event = "track Order Completed  user u-1  from web"
    up.until(lambda: event in up.output)
    for line in (
        r"^  file +delivered +everything +\{.*\"Order Completed\"",
        r"^  ga4 +delivered +\S.* \{\"client_id\"",
        r"^  webhook +delivered +purchase +\{\"kind\":\"purchase\"",
    ):
        up.until(lambda line=line: re.search(line, up.output.partition(event)[2], re.MULTILINE))
    assert {it["path"] for it in up.at_vendors()} == {"/mp/collect", "/hooks/sales"}
    up.until(lambda: '\nturnout_collector_accepted_events_total{source="web"} 1.0\n' in up.metrics(0))
    up.until(lambda: '\nturnout_router_outcomes_total{integration="ga4",outcome="forwarded"} 1.0\n' in up.metrics(1))
    up.until(lambda: '\nturnout_delivery_outcomes_total{integration="ga4",outcome="delivered"} 1.0\n' in up.metrics(2))
    up.until(lambda: '\nturnout_lag_records{topic="turnout.forward.ga4"} 0.0\n' in up.metrics(2))
    up.until(lambda: up.counts() == [{"outcome": "delivered", "count": 3}])

    batch = [{"type": "page", "name": "Home", "userId": "u-2"}, {"type": "track", "userId": "u-2"}]
    url = f"http://127.0.0.1:{up.ports['8080']}/v1/batch"
    answer = requests.post(url, json={"batch": batch}, auth=("demo-server", ""), timeout=120)
    assert [it["index"] for it in answer.json()["rejected"]] == [1]
    up.until(lambda: "page Home  user u-2  from server" in up.output and "rejected  " in up.output)
    for line in (
        r"^  ga4 +filtered +not from one of its sources",
        r"^  webhook +filtered +no rule matches",
    ):
        up.until(lambda line=line: re.search(line, up.output.partition("page Home  user u-2")[2], re.MULTILINE))

    assert len(up.children()) == 7
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(120) == 0
    assert not up.children()
    lines = [line for file in (up.folder / "out").iterdir() for line in file.read_text().splitlines()]
    assert len(lines) == 2
    assert "  noted  " not in up.output


def test_a_changed_folder(up):
    """Each change is reported once: the errors with a caret, or the files; a new integration gets its topics."""
    webhook = up.folder / "integrations" / "webhook.yaml"
    text = webhook.read_text()
    webhook.write_text(text.replace("kind: purchase", "kindd: purchase\n      kind: {'@numbr': 1}"))
    up.until(lambda: "the previous configuration is still in use" in up.output)
    (before, caret) = re.findall(r"^  \| .*$", up.output, re.MULTILINE)
    assert before[caret.index("^") :].startswith("'@numbr'")
    assert len(re.findall("webhook.yaml:.*@numbr", up.output)) == 1

    webhook.write_text(text.replace("kind: purchase", "kind: order"))
    up.until(lambda: "\nreloaded integrations/webhook.yaml\n" in up.output)
    new = "integration: copy\nforwarder: webhook\nsettings: {url: '${WEBHOOK_URL}'}\nrules: [{map: {the: copy}}]\n"
    (up.folder / "integrations" / "copy.yaml").write_text(new)
    up.until(lambda: "\nreloaded integrations/copy.yaml\n" in up.output)
    (curl,) = re.findall("^curl .*$", up.output, re.MULTILINE)
    subprocess.run(f"{curl} -sf", shell=True, capture_output=True, check=True)  # noqa: S602
    for line in (
        r"^  copy +delivered .*\{\"the\":\"copy\"\}",
        r"^  webhook +delivered +purchase +\{\"kind\":\"order\"",
    ):
        up.until(lambda line=line: re.search(line, up.output, re.MULTILINE))
    assert not [line for line in up.output.splitlines() if re.match("(collector|router|forwarder|ledger): ", line)]


@pytest.mark.operations
def test_the_ledger_may_die(up):
    """When the ledger dies that is reported, and events still reach the vendors."""
    os.kill(up.pid_of("main ledger"), signal.SIGKILL)
    up.until(lambda: "ledger: ledger was killed by SIGKILL" in up.output)
    event = {"userId": "u-1", "event": "Order Completed", "properties": {"order_id": "A-1", "total": 1}}
    url = f"http://127.0.0.1:{up.ports['8080']}/v1/track"
    assert requests.post(url, json=event, auth=("demo-web", ""), timeout=120).status_code == 200
    up.until(lambda: "/mp/collect" in {it["path"] for it in up.at_vendors()})


@pytest.mark.operations
def test_a_process_that_dies(up):
    """When a child dies all others are stopped, even one that hangs, and the exit code is 1."""
    os.kill(up.pid_of("forwarder"), signal.SIGSTOP)
    os.kill(up.pid_of("router"), signal.SIGKILL)
    assert up.process.wait(120) == 1
    assert not up.children()
    assert "turnout: router was killed by SIGKILL" in up.output
    assert "forwarder: did not stop" in up.output


def test_kill_9(up):
    """A kill -9 of `up` itself leaves no process behind."""
    assert len(up.children()) == 7
    up.process.kill()
    up.process.wait()
    deadline = time.monotonic() + 120
    while up.children():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_busy_ports(tmp_path):
    """Ports that are in use are replaced by free ones, and the integrations reach the simulator at its new port."""
    with ExitStack() as sockets:
        running = Up(tmp_path / "example")
        busy = [running.ports[name] for name in ("8080", "8099", "9092")]
        for port in busy:
            sockets.enter_context(socket.create_server(("127.0.0.1", int(port))))
        try:
            running.begun()
            for port in busy:
                assert re.search(f"^port {port} is in use; using [0-9]+ for the .*$", running.output, re.MULTILINE)
            (curl,) = re.findall("^curl .*$", running.output, re.MULTILINE)
            subprocess.run(f"{curl} -sf", shell=True, capture_output=True, check=True)  # noqa: S602
            running.until(lambda: re.search("^  webhook +delivered", running.output, re.MULTILINE))
        finally:
            running.close()
