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
"""Events in one request, far fewer than collectors take."""

LINE_BYTES = 1024 * 1024
"""Longest line that is read; collectors take events of far less."""

HEAD_BYTES = 4096
"""The beginning of a file by which it is known again."""

_DIVISIBLE = (400, 413)
"""Statuses of a batch that may be due to a single event of it."""


class RefusedLine(NamedTuple):
    """A line whose event was refused, with a code and a reason."""

    line: int
    code: str
    message: str


class EventLine(NamedTuple):
    """A line: its number, where the next one begins (bytes, unpacked), and its event's JSON, or why it has none."""

    number: int
    end: int
    event: bytes | RefusedLine


@dataclass
class FilePosition:
    """How far a file has been sent to a collector: lines, and bytes of it unpacked; `head` is a hash of its beginning.

    `sent` and `refused` count the events up to there.
    """

    url: str
    head: str = ""
    line: int = 0
    offset: int = 0
    sent: int = 0
    refused: int = 0


class Bookmark:
    """Keeps the place in a file that is being sent in another beside it, until all is sent."""

    def __init__(self, path: Path, url: str) -> None:
        self._path, self._url = path, url

    def find(self, file: BinaryIO) -> FilePosition:
        """The place to go on from, to which the file is moved; raises Failed where it is one of something else."""
        head = file.read(HEAD_BYTES)
        try:
            place = FilePosition(**orjson.loads(self._path.read_bytes()))
        except FileNotFoundError:
            place = FilePosition(self._url)
        except (ValueError, TypeError) as error:
            raise Failed(f"cannot read {self._path}: take it away, or use --restart") from error
        if place.url != self._url or place.head not in ("", _hash(head, place.offset)):
            raise Failed(f"{self._path} is of another file or collector: take it away, or use --restart")
        file.seek(place.offset)
        self._head = head
        return place

    def save(self, place: FilePosition) -> None:
        """Keep the place; raises Failed where that cannot be written."""
        place.head = _hash(self._head, place.offset)
        written = self._path.with_name(self._path.name + ".new")
        try:
            written.write_bytes(orjson.dumps(asdict(place)))
            written.replace(self._path)
        except OSError as error:
            raise Failed(f"cannot write {self._path}: {error.strerror} (or send it by `turnout send -`)") from error

    def remove(self) -> None:
        """Forget the place: all is sent, or shall be sent again."""
        self._path.unlink(missing_ok=True)


def _hash(head: bytes, offset: int) -> str:
    return sha256(head[:offset]).hexdigest()


@dataclass
class FileUpload:
    """Send lines in order, one request at a time.

    What fails in passing is sent again for `retry_for` seconds, as Retry-After says or with exponential back-off. A
    batch that is refused as a whole is halved until the line stands alone for which it is.
    """

    connection: CollectorConnection
    place: FilePosition
    refuse: Callable[[RefusedLine], None]
    retry_for: float

    def send(self, file: BinaryIO, confirmed: Callable[[FilePosition], None]) -> None:
        """Send the rest of a file; `confirmed` is called with the place after each batch. Raises Failed."""
        batch: list[EventLine] = []
        size = 0
        for line in read_lines(file, self.place.line, self.place.offset):
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
            self.place.refused += 1
            self.place.sent -= 1
        self.place.sent += len(batch)
        self.place.line, self.place.offset = batch[-1].number, batch[-1].end
        confirmed(self.place)

    def _send_events(self, numbered: Sequence[tuple[int, bytes]]) -> list[RefusedLine]:
        """Those of the events that were refused, each with its line."""
        if not numbered:
            return []
        reply = self._ask([event for _, event in numbered])
        if reply.status in _DIVISIBLE and len(numbered) > 1:
            middle = len(numbered) // 2
            return self._send_events(numbered[:middle]) + self._send_events(numbered[middle:])
        if reply.status in _DIVISIBLE:
            return [RefusedLine(numbered[0][0], *reply.error)]
        if not 200 <= reply.status < 300:
            raise Failed(f"the collector answered {reply.status}: {': '.join(reply.error)}")
        return [RefusedLine(numbered[it["index"]][0], it["code"], it["message"]) for it in reply.refused]

    def _ask(self, batch: Sequence[bytes]) -> Reply:
        give_up = time.monotonic() + self.retry_for
        for attempt in count():
            reply, reason = None, ""
            try:
                reply = self.connection.post(batch)
            except (OSError, HTTPException) as error:
                reason = str(error) or type(error).__name__
            if reply is not None and not reply.is_temporary:
                return reply
            wait = retry_delay(attempt, reply.retry_after if reply else None)
            if time.monotonic() + wait > give_up:
                reason = reason or f"it answers {reply.status if reply else ''}"
                raise Failed(f"gave up after {self.retry_for:g} s: {reason}; run it again to go on")
            time.sleep(wait)
        raise AssertionError  # the loop has no end


def read_lines(file: BinaryIO, number: int = 0, offset: int = 0) -> Iterator[EventLine]:
    """The lines from where the file stands, after line `number` at `offset`; blank ones are passed over."""
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
                number, offset, RefusedLine(number, "too_large", f"a line of more than {LINE_BYTES:,} bytes")
            )
        elif raw.strip():
            text = lenient_json.without_mark(raw) if number == 1 else raw
            yield EventLine(number, offset, _read_event(text.strip(), number))


def _read_event(raw: bytes, number: int) -> bytes | RefusedLine:
    """The event's JSON. One without a messageId gets one of its content and line, the same whenever it is sent."""
    try:
        event = events.loads(raw)
        events.check_depth(event, events.MAX_DEPTH, events.count_brackets(raw))
    except events.EventError as error:
        return RefusedLine(number, error.code, str(error).replace("at line 1, column", "at column"))
    if not isinstance(event, dict):
        return RefusedLine(number, "not_an_object", "an event is a JSON object")
    if not events.is_absent_id(event.get("messageId")):
        return raw
    return orjson.dumps({**event, "messageId": f"turnout-{sha256(b'%d ' % number + raw).hexdigest()[:32]}"})


@contextmanager
def open_file(path: Path) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """A file (`-`: standard input), unpacked where it is gzipped, and as it is, whose position tells of progress."""
    with sys.stdin.buffer if path == Path("-") else path.open("rb") as raw:
        packed = cast("BufferedReader", raw).peek(2)[:2] == b"\x1f\x8b"
        yield cast("BinaryIO", gzip.GzipFile(fileobj=raw)) if packed else raw, raw
