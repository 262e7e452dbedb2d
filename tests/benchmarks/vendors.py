"""Run the vendors of benchmarks: one that responds at once, a slow one, one that hangs, each by its path."""

import asyncio
import time
from typing import ClassVar

import orjson
import requests

ANSWER_SECONDS = 2.0


class Vendor(asyncio.Protocol):
    """`/slow` takes 2 seconds, `/hung` never responds, other paths respond at once.

    For each delivery to `/fast` with a `sent` time it records the seconds since; `/took` returns and clears them.
    """

    took: ClassVar[list[float]] = []
    waiting = most_waiting = 0

    def connection_made(self, transport):
        self.transport, self.data = transport, b""

    def data_received(self, data):
        self.data += data
        while (end := self.data.find(b"\r\n\r\n")) >= 0:
            head = self.data[:end]
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
            body = self.data[end + 4 : end + 4 + length]
            if len(body) < length:
                return
            self.data = self.data[end + 4 + length :]
            self.take(head.split(b" ", 2)[1], body)

    def take(self, path, body):
        if path in (b"/slow", b"/hung"):
            Vendor.waiting += 1
            Vendor.most_waiting = max(Vendor.most_waiting, Vendor.waiting)
            if path == b"/slow":
                asyncio.get_running_loop().call_later(ANSWER_SECONDS, self.end_slowly)
        elif path == b"/took":
            took = {"took": self.took, "waiting": Vendor.waiting, "most_waiting": Vendor.most_waiting}
            self.answer(orjson.dumps(took))
            self.took.clear()
        else:
            if path == b"/fast":
                now = time.monotonic()
                self.took.extend(now - item["sent"] for item in orjson.loads(body))
            self.answer(b"{}")

    def end_slowly(self):
        Vendor.waiting -= 1
        self.answer(b"{}")

    def answer(self, body):
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


async def sell() -> None:
    """Run the vendors until the process is killed; prints the port."""
    server = await asyncio.get_running_loop().create_server(Vendor, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


class Took:
    """The times that the vendor at a port has recorded."""

    def __init__(self, port: str) -> None:
        self._url = f"http://127.0.0.1:{port}/took"
        self.seconds: list[float] = []
        self.waiting = self.most_waiting = 0

    def look(self) -> None:
        """Fetch the times recorded since the last call."""
        data = requests.get(self._url, timeout=5).json()
        self.seconds += data["took"]
        self.waiting, self.most_waiting = data["waiting"], data["most_waiting"]
