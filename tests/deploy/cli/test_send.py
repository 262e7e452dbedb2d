"""`turnout send`, against a running collector."""

import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from click.testing import CliRunner

from deploy.cli.file_upload import BATCH_EVENTS, LINE_BYTES, EventLine, RefusedLine, read_lines
from deploy.cli.main import main
from tests.clients.collecting import EVENT_BYTES, KEY, Collector, collecting
from tests.clients.proxy import Proxy, proxying
from tests.streams.tracking.helpers import until
from tests.support.ports import free_port


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """A collector whose bounds are low."""
    with collecting(tmp_path_factory.mktemp("collector")) as running:
        yield running


@pytest.fixture
def proxy(collector: Collector) -> Iterator[Proxy]:
    with proxying(collector.port) as running:
        yield running


@pytest.fixture
def user() -> str:
    return f"user-{uuid4()}"


def track(user: str, number: int, **fields: Any) -> dict[str, Any]:
    return {"type": "track", "event": "Sent", "userId": user, "properties": {"n": number}, **fields}


def write(path: Path, lines: Sequence[Any]) -> Path:
    text = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def run(proxy: Proxy, *arguments: Any, key: str = KEY) -> tuple[int, str]:
    result = CliRunner().invoke(
        main,
        ["send", "--url", f"http://127.0.0.1:{proxy.port}", *map(str, arguments)],
        env={"TURNOUT_WRITE_KEY": key, "COLUMNS": "200"},
    )
    return result.exit_code, result.output


def numbers(collector: Collector, user: str) -> list[int]:
    return [event["properties"]["n"] for event in collector.events(user)]


@pytest.mark.parametrize("name", ["events.ndjson", "events.ndjson.gz"])
def test_a_file_arrives_whole_and_in_order(proxy: Proxy, collector: Collector, tmp_path: Path, user: str, name: str):
    """Packed or not, blank lines apart; batches that are too large for the collector are halved; no place is left."""
    file = write(tmp_path / name, ["", *(track(user, number, text="x" * 200) for number in range(1200)), ""])
    assert run(proxy, file) == (0, "1,200 sent, 0 refused\n")
    assert numbers(collector, user) == list(range(1200))
    assert {passed.status for passed in proxy.events} == {200, 413}
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_is_refused_is_listed_by_line(proxy: Proxy, collector: Collector, tmp_path: Path, user: str):
    """Lines without an event and events that the collector refuses, in their order; the others go; exit code 1."""
    large = track(user, 4, text="x" * EVENT_BYTES)
    huge = track(user, 6, text="x" * 20_000)
    nameless = {"type": "track", "userId": user}
    lines = [track(user, 0), "{", nameless, "[1]", large, huge, track(user, 5)]
    file = write(tmp_path / "events", lines)
    code, output = run(proxy, file)
    assert code == 1
    assert [line.split(": ")[0].removeprefix(f"{tmp_path}/") for line in output.splitlines()[:-1]] == [
        "events:2", "events:3", "events:4", "events:5", "events:6",
    ]  # fmt: skip
    assert "events:2: not JSON: unexpected end of data at column 2 (json)" in output
    assert "(too_large)" in output.splitlines()[-2]
    assert output.splitlines()[-1] == "2 sent, 5 refused"
    assert numbers(collector, user) == [0, 5]
    data = json.loads(run(proxy, file, "--json")[1])
    assert (data["sent"], data["refused"]) == (2, 5)
    assert [(line["line"], line["code"]) for line in data["lines"]][:2] == [(2, "json"), (3, "missing")]


def test_ids_are_the_same_whenever_an_event_is_sent(proxy: Proxy, collector: Collector, tmp_path: Path, user: str):
    """An event's own messageId is kept; others get one by content and line, so that equal lines are two events."""
    file = write(tmp_path / "events", [track(user, 0, messageId="own"), track(user, 1), track(user, 1)])
    assert run(proxy, file)[0] == run(proxy, file)[0] == 0
    ids = [event["messageId"] for event in collector.events(user)]
    assert ids[:3] == ids[3:]
    assert ids[0] == "own"
    assert len(set(ids)) == 3


def test_it_waits_as_it_is_told(proxy: Proxy, collector: Collector, tmp_path: Path, user: str):
    """A 429 is kept to by Retry-After, a 503 is tried again; nothing is lost or sent twice."""
    proxy.faults = [(429, {"Retry-After": "1"}), (503, {})]
    assert run(proxy, write(tmp_path / "events", [track(user, 0)]))[0] == 0
    first, second, _ = proxy.events
    assert second.at - first.at >= 1
    assert numbers(collector, user) == [0]


def test_a_run_that_was_killed_goes_on(proxy: Proxy, collector: Collector, tmp_path: Path, user: str):
    """After a kill -9 the next run sends the rest; at most one batch is there twice, with the same ids."""
    count = 6 * BATCH_EVENTS
    file = write(tmp_path / "events.ndjson", [track(user, number) for number in range(count)])
    bookmark = tmp_path / "events.ndjson.sending"
    process = subprocess.Popen(
        [Path(sys.executable).parent / "turnout", "send", file, "--url", f"http://127.0.0.1:{proxy.port}"],
        env={**os.environ, "TURNOUT_WRITE_KEY": KEY},
    )
    until(bookmark.exists, 120)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    code, output = run(proxy, file)
    # The proxy, too, writes to standard error: of the connection that broke.
    assert code == 0
    assert f"{count:,} sent, 0 refused" in output.splitlines()
    assert "resuming after line" in output
    events = collector.events(user)
    assert {event["properties"]["n"] for event in events} == set(range(count))
    assert len({event["messageId"] for event in events}) == count
    assert len(events) - count <= BATCH_EVENTS
    assert not bookmark.exists()


def test_a_bookmark_of_another_file_or_collector_is_not_taken(proxy: Proxy, tmp_path: Path, user: str):
    """The run fails and says so; with --restart it begins at the first line."""
    proxy.faults = [(503, {})]
    file = write(tmp_path / "events", [track(user, number) for number in range(BATCH_EVENTS + 1)])
    place = {"url": f"http://127.0.0.1:{proxy.port}", "head": "0" * 64, "line": 7, "offset": 700}
    for wrong in (place, {**place, "url": "http://127.0.0.1:1"}, {"line": 7}):
        (tmp_path / "events.sending").write_text(json.dumps(wrong))
        code, output = run(proxy, file)
        assert code == 1
        assert "--restart" in output
    assert run(proxy, file, "--restart") == (0, f"{BATCH_EVENTS + 1} sent, 0 refused\n")


def test_what_cannot_be_sent_ends_the_run(proxy: Proxy, tmp_path: Path, user: str):
    """A wrong key or no collector gives a one-line reason, a missing key a usage error; the next run resumes."""
    file = write(tmp_path / "events", [track(user, 0)])
    code, output = run(proxy, file, key="wrong")
    assert code == 1
    assert output.startswith("turnout: the collector responded 401: ")
    code, output = run(proxy, file, key="")
    assert code == 2
    assert "set TURNOUT_WRITE_KEY in the environment" in output
    nobody = Proxy(port=free_port())
    code, output = run(nobody, file, "--retry-for", "0")
    assert code == 1
    assert "Connection refused" in output


def test_standard_input(proxy: Proxy, collector: Collector, tmp_path: Path, user: str):
    """`-` reads it, gzipped or not, and leaves no file."""
    content = write(tmp_path / "events.gz", [track(user, number) for number in range(3)]).read_bytes()
    done = subprocess.run(
        [Path(sys.executable).parent / "turnout", "send", "-", "--url", f"http://127.0.0.1:{proxy.port}"],
        input=content, capture_output=True, check=True, cwd=tmp_path, env={**os.environ, "TURNOUT_WRITE_KEY": KEY},
    )  # fmt: skip
    assert done.stdout == b"3 sent, 0 refused\n"
    assert numbers(collector, user) == [0, 1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["events.gz"]


def test_a_broken_archive_is_one_line(proxy: Proxy, tmp_path: Path, user: str):
    """What of it can be read may have been sent; the command fails, and the bookmark stays."""
    file = write(tmp_path / "events.gz", [track(user, number) for number in range(3000)])
    file.write_bytes(file.read_bytes()[:-200])
    code, output = run(proxy, file)
    assert code == 1
    assert output.startswith(f"turnout: cannot read {file}: ")


def test_long_lines_are_refused_without_being_held(tmp_path: Path):
    """At most a line's maximum is read at once, and later lines have correct numbers and offsets."""
    path = tmp_path / "events"
    path.write_bytes(b"x" * (3 * LINE_BYTES + 5) + b"\n" + b'{"messageId":"m"}\n' + b"y" * LINE_BYTES)
    with path.open("rb") as file:
        long, event, last = read_lines(file)
    assert long == EventLine(
        1, 3 * LINE_BYTES + 6, RefusedLine(1, "too_large", "the line is longer than 1,048,576 bytes")
    )
    assert event == EventLine(2, 3 * LINE_BYTES + 24, b'{"messageId":"m"}')
    assert isinstance(last.event, RefusedLine)
    assert last.end == path.stat().st_size


def test_a_byte_order_mark_and_lone_surrogates_cost_no_line(tmp_path: Path):
    """As the collector takes them, a file may begin with the mark, and text may be cut within a character."""
    path = tmp_path / "events.ndjson"
    path.write_bytes(
        b'\xef\xbb\xbf{"messageId":"1"}\n' + rb'{"messageId":"2","event":"\ud83d"}' + b"\n\xef\xbb\xbf{}\n"
    )
    with path.open("rb") as file:
        first, second, third = (line.event for line in read_lines(file))
    assert (first, second) == (b'{"messageId":"1"}', rb'{"messageId":"2","event":"\ud83d"}')
    assert isinstance(third, RefusedLine)
