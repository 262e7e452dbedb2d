import subprocess
import sys
from typing import Any

import orjson
import pytest


def lines_of(code: str) -> list[dict[str, Any]]:
    """What a process of its own logs, since logs are set up once for a whole process."""
    begin = "import logging\nfrom deploy.runtime.logs import log_ready, set_up\nset_up()\n"
    done = subprocess.run([sys.executable, "-c", begin + code], capture_output=True, check=True)
    assert not done.stdout
    return [orjson.loads(line) for line in done.stderr.splitlines()]


def test_ready():
    """A process says that it works in one JSON line on stderr."""
    (line,) = lines_of("log_ready('router', version='v1')")
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "ready", "level": "info", "process": "router", "version": "v1"}


def test_libraries_quote_no_event():
    """Faust's words come without their arguments and an exception's without its text: both may hold a record."""
    code = """
try:
    {}["ann@example.com"]
except KeyError:
    logging.getLogger("faust.streams").exception("could not handle %r", "ann@example.com")
"""
    (line,) = lines_of(code)
    assert (line["event"], line["error"], line["logger"]) == ("could not handle …", "KeyError", "faust.streams")
    assert line["at"].startswith("<string>:")
    assert "ann@example.com" not in str(line)


def test_clients_name_the_broker():
    """What a Kafka client says is whole: it names hosts and topics."""
    (line,) = lines_of("logging.getLogger('aiokafka.client').error('Unable to connect to %s', 'kafka-1:9092')")
    assert (line["event"], line["level"]) == ("Unable to connect to kafka-1:9092", "error")


def test_chatter_is_left_out():
    """Libraries' log lines are written from level warning up."""
    assert lines_of("logging.getLogger('aiokafka').info('joined')") == []


@pytest.mark.parametrize(
    ("call", "event"),
    [
        ("warning('%s: %r and %(x)s', 'a', 'b')", "…: … and …"),
        ("warning('%s of %d in %.1f s', 'a', 3, 1.25)", "… of 3 in 1.2 s"),
        ("warning('%d%% of %s', 'a')", "…% of …"),
        ("warning('%(name)s at %(n)05d', {'name': 'a', 'n': 7})", "… at 00007"),
        ("warning('100% sure')", "100% sure"),
        ("warning('%s')", "%s"),
    ],
)
@pytest.mark.parametrize("logger", ["faust.app", "mode.services"])
def test_no_placeholder_is_left(call: str, event: str, logger: str):
    """Arguments other than numbers are replaced by `…`, also if they do not fit the message."""
    (line,) = lines_of(f"logging.getLogger('{logger}').{call}")
    assert line["event"] == event


def test_a_cause_has_one_line_per_half_minute():
    """A library's repeated message is left out and counted, whatever its arguments; another message is written."""
    lines = lines_of("""
for n in range(1000):
    logging.getLogger("aiokafka.client").error("Unable to connect to %s", n)
logging.getLogger("aiokafka.client").error("another")
logging.getLogger("asyncio").error("Unable to connect to %s", 1)
import deploy.runtime.logs as logs
logs.REPEAT_SECONDS = 0
logging.getLogger("aiokafka.client").error("Unable to connect to %s", "x")
""")
    assert [(line["event"], line.get("left_out")) for line in lines] == [
        ("Unable to connect to 0", None),
        ("another", None),
        ("Unable to connect to 1", None),
        ("Unable to connect to x", 999),
    ]


def test_a_thing_that_is_tried_again_has_one_line_per_half_minute():
    """Our own repeated lines are also limited; other lines are never left out."""
    lines = lines_of("""
import structlog
log = structlog.get_logger()
for n in range(100):
    log.warning("cannot check if a topic exists; trying again", topic="a", error=str(n))
    log.warning("delivery is paused", integration="one")
log.warning("cannot check if a topic exists; trying again", topic="b")
""")
    assert len(lines) == 102
    assert [line["topic"] for line in lines if "topic" in line] == ["a", "b"]


def test_a_failed_thread_has_one_line():
    """Its error is named without its text, which may hold a record."""
    (line,) = lines_of("""
import threading
def fail():
    raise ValueError("ann@example.com")
thread = threading.Thread(target=fail)
thread.start()
thread.join()
""")
    assert (line["event"], line["error"]) == ("a thread failed", "ValueError")
    assert "ann@example.com" not in str(line)
