"""Send a file of events to a collector in batches, resuming where an earlier run stopped."""

import gzip
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from http.client import HTTPException
from io import BufferedReader
from itertools import count
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import orjson

from deploy.terminal.failures import Failed
from streams import events
from streams.parsing import lenient_json
from turnout_tracking.destinations import CollectorConnection, Reply
from turnout_tracking.sender import BATCH_BYTES, retry_delay

BATCH_EVENTS = 500
"""Events per request, far below the collector's limit."""

LINE_BYTES = 1024 * 1024
"""Longest line that is read, far above the size of event that a collector accepts."""

HEAD_BYTES = 4096
"""Bytes at the beginning of a file that identify it when a run resumes."""

_DIVISIBLE = (400, 413)
"""Statuses that a single event of a batch may have caused, so that the batch is split."""


class RefusedLine(NamedTuple):
    """A line whose event was refused, with a code and a reason."""

    line: int
    code: str
    message: str


class EventLine(NamedTuple):
    """A line: its number, the offset of the next line in the unpacked file, and its event's JSON or the refusal."""

    number: int
    end: int
    event: bytes | RefusedLine


@dataclass
class FilePosition:
    """How far a file has been sent to a collector: the last line, and its end in bytes of the unpacked file.

    `head` is a hash of the file's beginning; `sent` and `refused` count the events up to this line.
    """

    url: str
    head: str = ""
    line: int = 0
    offset: int = 0
    sent: int = 0
    refused: int = 0


class PositionFile:
    """Stores the position in a file that is being sent, in a second file beside it that is removed at the end."""

    def __init__(self, path: Path, url: str) -> None:
        self._path, self._url = path, url

    def find(self, file: BinaryIO) -> FilePosition:
        """Return the stored position and seek to it; raises Failed if it belongs to another file or collector."""
        head = file.read(HEAD_BYTES)
        try:
            position = FilePosition(**orjson.loads(self._path.read_bytes()))
        except FileNotFoundError:
            position = FilePosition(self._url)
        except (ValueError, TypeError) as error:
            raise Failed(f"cannot read {self._path}: remove it, or use --restart") from error
        if position.url != self._url or position.head not in ("", _hash(head, position.offset)):
            raise Failed(f"{self._path} belongs to another file or collector: remove it, or use --restart")
        file.seek(position.offset)
        self._head = head
        return position

    def save(self, position: FilePosition) -> None:
        """Store the position; raises Failed if it cannot be written."""
        position.head = _hash(self._head, position.offset)
        written = self._path.with_name(self._path.name + ".new")
        try:
            written.write_bytes(orjson.dumps(asdict(position)))
            written.replace(self._path)
        except OSError as error:
            raise Failed(
                f"cannot write {self._path}: {error.strerror} (`turnout send -` needs no such file)"
            ) from error

    def remove(self) -> None:
        """Remove the stored position, because the whole file is sent, or is to be sent from the beginning."""
        self._path.unlink(missing_ok=True)


def _hash(head: bytes, offset: int) -> str:
    return sha256(head[:offset]).hexdigest()


@dataclass
class FileUpload:
    """Send lines in order, one request at a time.

    Temporary failures are retried for `retry_for` seconds, after Retry-After or with exponential backoff. A batch that
    is refused as a whole is halved until the refused line is alone.
    """

    connection: CollectorConnection
    position: FilePosition
    refuse: Callable[[RefusedLine], None]
    retry_for: float

    def send(self, file: BinaryIO, confirmed: Callable[[FilePosition], None]) -> None:
        """Send the rest of a file and call `confirmed` with the position after each batch; raises Failed."""
        batch: list[EventLine] = []
        size = 0
        for line in read_lines(file, self.position.line, self.position.offset):
            length = len(line.event) if isinstance(line.event, bytes) else 0
            if batch and (len(batch) == BATCH_EVENTS or size + length > BATCH_BYTES):
                self._send_batch(batch, confirmed)
                batch, size = [], 0
            batch.append(line)
            size += length
        if batch:
            self._send_batch(batch, confirmed)

    def _send_batch(self, batch: Sequence[EventLine], confirmed: Callable[[FilePosition], None]) -> None:
        refused = [line.event for line in batch if isinstance(line.event, RefusedLine)]
        sent = [(line.number, line.event) for line in batch if isinstance(line.event, bytes)]
        for one in sorted([*refused, *self._send_events(sent)]):
            self.refuse(one)
            self.position.refused += 1
            self.position.sent -= 1
        self.position.sent += len(batch)
        self.position.line, self.position.offset = batch[-1].number, batch[-1].end
        confirmed(self.position)

    def _send_events(self, numbered: Sequence[tuple[int, bytes]]) -> list[RefusedLine]:
        """Send numbered events and return the refused ones, each with its line."""
        if not numbered:
            return []
        reply = self._post([event for _, event in numbered])
        if reply.status in _DIVISIBLE and len(numbered) > 1:
            middle = len(numbered) // 2
            return self._send_events(numbered[:middle]) + self._send_events(numbered[middle:])
        if reply.status in _DIVISIBLE:
            return [RefusedLine(numbered[0][0], *reply.error)]
        if not 200 <= reply.status < 300:
            raise Failed(f"the collector responded {reply.status}: {': '.join(reply.error)}")
        return [RefusedLine(numbered[it["index"]][0], it["code"], it["message"]) for it in reply.refused]

    def _post(self, batch: Sequence[bytes]) -> Reply:
        deadline = time.monotonic() + self.retry_for
        for attempt in count():
            reply, reason = None, ""
            try:
                reply = self.connection.post(batch)
            except (OSError, HTTPException) as error:
                reason = str(error) or type(error).__name__
            if reply is not None and not reply.is_temporary:
                return reply
            wait = retry_delay(attempt, reply.retry_after if reply else None)
            if time.monotonic() + wait > deadline:
                reason = reason or f"it responds {reply.status if reply else ''}"
                raise Failed(f"gave up after {self.retry_for:g} s: {reason}; run the command again to resume")
            time.sleep(wait)
        raise AssertionError  # the loop never ends by itself


def read_lines(file: BinaryIO, number: int = 0, offset: int = 0) -> Iterator[EventLine]:
    """Yield the lines after line `number`, which ends at `offset`; blank lines are skipped."""
    while raw := file.readline(LINE_BYTES):
        number += 1
        offset += len(raw)
        whole = len(raw) < LINE_BYTES or raw.endswith(b"\n")
        while not whole:
            more = file.readline(LINE_BYTES)
            offset += len(more)
            whole = len(more) < LINE_BYTES or more.endswith(b"\n")
            raw = b""
        if not raw:
            yield EventLine(
                number, offset, RefusedLine(number, "too_large", f"the line is longer than {LINE_BYTES:,} bytes")
            )
        elif raw.strip():
            text = lenient_json.without_mark(raw) if number == 1 else raw
            yield EventLine(number, offset, _read_event(text.strip(), number))


def _read_event(raw: bytes, number: int) -> bytes | RefusedLine:
    """Return the event's JSON; an event without a messageId gets one derived from its content and line number."""
    try:
        event = events.loads(raw)
        events.check_depth(event, events.MAX_DEPTH, events.count_brackets(raw))
    except events.EventError as error:
        return RefusedLine(number, error.code, str(error).replace("at line 1, column", "at column"))
    if not isinstance(event, dict):
        return RefusedLine(number, "not_an_object", "an event must be a JSON object")
    if not events.is_absent_id(event.get("messageId")):
        return raw
    return orjson.dumps({**event, "messageId": f"turnout-{sha256(b'%d ' % number + raw).hexdigest()[:32]}"})


@contextmanager
def open_file(path: Path) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """Open a file (`-` is standard input); yields it unpacked if it is gzipped, and raw, for the progress."""
    with sys.stdin.buffer if path == Path("-") else path.open("rb") as raw:
        is_gzip = cast("BufferedReader", raw).peek(2)[:2] == b"\x1f\x8b"
        yield cast("BinaryIO", gzip.GzipFile(fileobj=raw)) if is_gzip else raw, raw
