"""Serve ClickHouse's HTTP interface over chdb, an embedded ClickHouse: `python clickhouse_front.py FOLDER`.

It needs a Python with chdb-core, prints its port, and ends with its standard input. `X-ClickHouse-Key` must be
the password in the environment variable PASSWORD.
"""

import os
import sys
import threading
from base64 import b64decode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from chdb import session  # type: ignore[import-not-found]  # in an environment of its own

LOCK = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    database: session.Session

    def do_POST(self) -> None:
        given = parse_qs(urlsplit(self.path).query)
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        statement = "\n".join([*given.get("query", []), *([body] if body else [])])
        self._answer(statement, given.get("database", ["default"])[0])

    def do_GET(self) -> None:
        self._answer(parse_qs(urlsplit(self.path).query).get("query", ["SELECT 1"])[0], "default")

    def _answer(self, statement: str, database: str) -> None:
        status, data = 200, b""
        if self._password() != os.environ.get("PASSWORD", ""):
            status, data = 403, b"Code: 516. DB::Exception: Authentication failed"
        else:
            try:
                with LOCK:
                    self.database.query(f"USE {database}")
                    data = self.database.query(statement, "TabSeparated").bytes()
            except Exception as error:  # noqa: BLE001  # the client gets it
                status, data = 500, str(error).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        self.wfile.write(data)

    def _password(self) -> str:
        basic = self.headers.get("authorization", "").removeprefix("Basic ")
        return b64decode(basic).decode().partition(":")[2] if basic else self.headers.get("x-clickhouse-key", "")

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    Handler.database = session.Session(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()
