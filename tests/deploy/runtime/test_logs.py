import subprocess
import sys
from typing import Any

import orjson


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
    assert (line["event"], line["error"], line["logger"]) == ("could not handle %r", "KeyError", "faust.streams")
    assert line["at"].startswith("<string>:")
    assert "ann@example.com" not in str(line)


def test_clients_name_the_broker():
    """What a Kafka client says is whole: it names hosts and topics."""
    (line,) = lines_of("logging.getLogger('aiokafka.client').error('Unable to connect to %s', 'kafka-1:9092')")
    assert (line["event"], line["level"]) == ("Unable to connect to kafka-1:9092", "error")


def test_chatter_is_left_out():
    """Libraries are heard from warnings up."""
    assert lines_of("logging.getLogger('aiokafka').info('joined')") == []
