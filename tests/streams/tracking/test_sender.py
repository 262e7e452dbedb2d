"""What the queue and its thread do, against a collector over a socket."""

import logging
import socket
import subprocess
import sys
import time
from typing import Any

import pytest

from tests.streams.tracking.helpers import FakeCollector, collecting, until
from tests.support.ports import free_port
from turnout_tracking import Tracker

KEY = "web-key"


def tracker(to: str, **settings: Any) -> Tracker:
    """A tracker that waits for no further events."""
    return Tracker(to, KEY, **{"interval": 0.0, "flush_timeout": 0.1, **settings})


def event(number: int = 0, **more: Any) -> dict[str, Any]:
    """An event by its number."""
    return {"type": "track", "event": "E", "messageId": f"m-{number}", "anonymousId": "a", **more}


def ids(events: list[dict[str, Any]]) -> list[str]:
    """The messageIds."""
    return [event["messageId"] for event in events]


def test_events_go_in_batches_with_the_write_key(collector: FakeCollector):
    """What comes while the thread waits goes in one request to /v1/batch, in order, with the time that it was sent."""
    sending = tracker(collector.url + "/prefix/", interval=5.0, batch_events=3)
    for number in range(7):
        assert sending.send(event(number))
    assert sending.flush(60)
    assert [len(batch.body["batch"]) for batch in collector.batches] == [3, 3, 1]
    assert ids(collector.events) == [f"m-{number}" for number in range(7)]
    assert {(batch.path, batch.key) for batch in collector.batches} == {("/prefix/v1/batch", KEY)}
    assert all(batch.body["sentAt"].endswith("+00:00") for batch in collector.batches)
    assert sending.counts == {"sent": 7}


def test_a_batch_stays_under_what_a_request_may_have(collector: FakeCollector):
    """Large events go in several requests, each under 500 KB."""
    sending = tracker(collector.url, interval=5.0)
    for number in range(20):
        sending.send(event(number, properties={"text": "x" * 30_000}))
    assert sending.flush(60)
    assert [len(batch.body["batch"]) for batch in collector.batches] == [13, 7]


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_what_may_be_taken_later_is_sent_again(status: int, collector: FakeCollector):
    """After a response that requests it, the same events are sent again, before later ones."""
    collector.answers = [(status, {"Retry-After": "0"}, "")]
    sending = tracker(collector.url)
    sending.send(event(1))
    collector.wait(1)
    sending.send(event(2))
    assert ids(collector.wait(3)) == ["m-1", "m-1", "m-2"]
    assert sending.flush(60)
    assert sending.counts == {"sent": 2, "retries": 1}


def test_retry_after_is_waited_for(collector: FakeCollector):
    """Nothing is sent before the time that the collector asked for is over."""
    collector.answers = [(429, {"Retry-After": "1"}, "")]
    sending = tracker(collector.url)
    began = time.monotonic()
    sending.send(event())
    collector.wait(2)
    assert time.monotonic() - began >= 1


@pytest.mark.parametrize("status", [301, 400, 401, 404, 413])
def test_what_is_refused_is_dropped_and_counted(status: int, collector: FakeCollector):
    """An answer that will not change drops the batch; the next one goes."""
    collector.answers = [(status, {"Location": collector.url}, "{}")]
    sending = tracker(collector.url)
    sending.send(event(1))
    collector.wait(1)
    sending.send(event(2))
    collector.wait(2)
    assert sending.flush(60)
    assert sending.counts == {"sent": 1, "refused": 1}


def test_single_events_that_are_refused_are_counted(collector: FakeCollector, caplog: pytest.LogCaptureFixture):
    """What the collector names as rejected in its 200 counts as refused, and the log quotes nothing of it."""
    collector.answers = [(200, {}, '{"success":true,"rejected":[{"index":0,"code":"too_large"}]}')]
    sending = tracker(collector.url, interval=5.0)
    sending.send(event(1, properties={"email": "ann@example.com"}))
    sending.send(event(2))
    assert sending.flush(60)
    assert sending.counts == {"sent": 1, "refused": 1}
    assert [record.name for record in caplog.records] == ["turnout.tracking"]
    assert "ann" not in caplog.text


def test_a_full_queue_drops_and_counts(collector: FakeCollector, caplog: pytest.LogCaptureFixture):
    """While the collector hangs, events queue up to the limit; further ones are dropped, counted, and logged once."""
    caplog.set_level(logging.WARNING)
    heard: list[tuple[str, int]] = []
    collector.held.clear()
    sending = tracker(collector.url, queue_events=5, batch_events=2, on_drop=lambda *drop: heard.append(drop))
    sending.send(event(0))
    collector.wait(1)
    assert [sending.send(event(number)) for number in range(1, 9)] == [True] * 5 + [False] * 3
    assert sending.counts == {"full": 3}
    assert heard == [("full", 1)] * 3
    assert len(caplog.records) == 1
    collector.held.set()
    assert ids(collector.wait(6)) == [f"m-{number}" for number in range(6)]


def test_the_queue_is_bounded_by_bytes(collector: FakeCollector):
    """Few large events fill it as many small ones do."""
    collector.held.clear()
    sending = tracker(collector.url, queue_bytes=50_000)
    sending.send(event(0))
    collector.wait(1)
    assert [sending.send(event(number, text="x" * 20_000)) for number in range(3)] == [True, True, False]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [({"text": "x" * 33_000}, "too_large"), ({"it": object()}, "not_json"), ({"it": "\ud800"}, "not_json")],
)
def test_what_no_collector_takes_is_dropped_at_once(wrong: dict[str, Any], reason: str, collector: FakeCollector):
    """An event over 32 KB or that is not JSON is counted, and does not delay others."""
    sending = tracker(collector.url)
    assert not sending.send(event(1, properties=wrong))
    assert sending.send(event(2))
    assert ids(collector.wait(1)) == ["m-2"]
    assert sending.flush(60)
    assert sending.counts == {reason: 1, "sent": 1}


def test_a_batch_is_not_sent_for_ever(collector: FakeCollector):
    """After `retry_for` seconds unaccepted events are dropped and counted."""
    collector.answers = [(500, {}, "")]
    sending = tracker(collector.url, retry_for=0.0)
    sending.send(event(1))
    until(lambda: sending.counts.get("expired") == 1)
    sending.send(event(2))
    assert ids(collector.wait(2)) == ["m-1", "m-2"]


def test_a_collector_that_is_away_gets_all_when_it_is_back():
    """While nobody listens, flush says so in its time; then the events arrive."""
    port = free_port()
    sending = tracker(f"http://127.0.0.1:{port}")
    sending.send(event(1))
    began = time.monotonic()
    assert not sending.flush(0.3)
    assert time.monotonic() - began < 30
    with socket.create_server(("127.0.0.1", port)) as listener:
        listener.settimeout(120)
        connection, _ = listener.accept()
        assert connection.recv(65536).startswith(b"POST /v1/batch")
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        assert sending.flush(60)
        connection.close()


def test_a_connection_that_was_closed_while_idle_costs_no_retry():
    """After the collector closes an idle connection, the next batch uses a new one at once."""
    with collecting(idle=0.05) as collector:
        sending = tracker(collector.url)
        sending.send(event(1))
        assert sending.flush(60)
        until(lambda: collector.closed == 1)
        sending.send(event(2))
        assert sending.flush(60)
        assert sending.counts == {"sent": 2}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"to": "events.example.com", "write_key": "k"}, "must be a URL"),
        ({"to": "https://user@events.example.com", "write_key": "k"}, "must be a URL"),
        ({"to": "https://events.example.com"}, "write_key is required"),
        ({"to": None, "cookie_domain": "example.com; Secure"}, "cookie_domain must be a domain"),
        ({"to": None, "trusted_proxies": ["10.0.0.300"]}, "10.0.0.300"),
    ],
)
def test_wrong_settings_are_refused_at_once(arguments: dict[str, Any], message: str):
    """A mistake shows when the app starts, and says what would be right."""
    with pytest.raises(ValueError, match=message):
        Tracker(**arguments)


PROGRAM = """
import os, sys
from turnout_tracking import Tracker
tracker = Tracker(sys.argv[1], "web-key", interval=60.0)
def send(name, count):
    for number in range(count):
        tracker.send({"type": "track", "event": name, "anonymousId": "a", "messageId": f"{name}-{number}"})
"""


def run(collector: FakeCollector, program: str) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-c", PROGRAM + program, collector.url]
    return subprocess.run(arguments, check=True, timeout=30, capture_output=True, text=True)


def test_the_end_of_the_process_sends_what_waits(collector: FakeCollector):
    """A program that ends has sent every event, though none was due yet."""
    run(collector, "send('end', 250)")
    assert ids(collector.events) == [f"end-{number}" for number in range(250)]


def test_the_end_of_the_process_waits_only_so_long(collector: FakeCollector):
    """If the collector hangs, the process still ends after flush_timeout, and logs the lost events."""
    collector.held.clear()
    ended = run(collector, "tracker = Tracker(sys.argv[1], 'web-key', flush_timeout=0.2); send('end', 150)")
    assert "150 events were dropped so far: exit" in ended.stderr


def test_forked_children_send_their_own_events_once(collector: FakeCollector):
    """Children forked from a process with a running thread and waiting events send their own, and only those."""
    run(
        collector,
        """
send("parent", 5)
children = []
for child in range(3):
    pid = os.fork()
    if not pid:
        send(f"child{child}", 4)
        sys.exit()
    children.append(pid)
for pid in children:
    assert os.waitpid(pid, 0)[1] == 0
""",
    )
    wanted = [f"parent-{number}" for number in range(5)]
    wanted += [f"child{child}-{number}" for child in range(3) for number in range(4)]
    assert sorted(ids(collector.events)) == sorted(wanted)


def test_forked_children_have_message_ids_of_their_own():
    """No two processes make the same messageId, and none makes one twice."""
    program = r"""
import os
from turnout_tracking.analytics import _message_ids
_message_ids.make()
for _ in range(3):
    os.fork()
os.write(1, f"{_message_ids.make()} {_message_ids.make()}\n".encode())
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert len(set(ended.stdout.split())) == 16


def test_settings_by_position_are_refused():
    """Only the destination and the write key may be positional, on every Python version."""
    with pytest.raises(TypeError, match="pass every other setting by name"):
        Tracker(None, "", "example.com")


def test_nothing_of_the_workers_is_imported():
    """A web app that imports the middleware and makes a tracker loads no Faust, Kafka, aiohttp, nor a web framework."""
    program = """
import sys
from turnout_tracking import AsgiTracking, Kafka, Tracker, WsgiTracking
AsgiTracking(None, Tracker("http://127.0.0.1:9", "k"))
WsgiTracking(None, Tracker(Kafka("127.0.0.1:9", source="web")))
roots = {name.partition(".")[0] for name in sys.modules}
print(*sorted(roots & {"faust", "mode", "aiokafka", "kafka", "aiohttp", "pydantic", "uvloop", "starlette", "django",
                       "flask", "structlog", "asyncio", "transforms", "forwarders", "deploy"}))
print(*sorted(name for name in sys.modules if name.startswith("streams.") and "tracking" not in name))
"""
    output = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert output.split() == []
