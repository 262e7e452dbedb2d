"""Write the terminal captures of the README: python -m tests.deploy.terminal.captures.

The output is real: `turnout up` with the example on its usual ports, and `turnout why`. Only lines about waiting
are cut.
"""

import json
import os
import pty
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.text import Text

DOCS = Path("deploy/docs/terminal")
COLUMNS = 96
EXAMPLE = "deploy/example"
TURNOUT = str(Path(sys.executable).parent / "turnout")
VIEWED = {"messageId": "m-2", "userId": "u-1", "event": "Product Viewed", "properties": {"product_id": "B-7"}}


class Terminal:
    """A program in a terminal of `COLUMNS`, with its output in a file."""

    def __init__(self, *command: str, log: Path) -> None:
        self._log = log
        master, slave = pty.openpty()
        environment = os.environ | {"COLUMNS": str(COLUMNS), "TERM": "xterm-256color"}
        self.process = subprocess.Popen(command, stdout=slave, stderr=slave, stdin=slave, env=environment)
        os.close(slave)
        with log.open("wb") as file:
            self._copying = subprocess.Popen(["cat"], stdin=master, stdout=file, stderr=subprocess.DEVNULL)
        os.close(master)

    @property
    def output(self) -> str:
        """Return its output so far."""
        return self._log.read_text().replace("\r\n", "\n")

    def until(self, condition: Callable[[str], object]) -> None:
        """Wait until its output meets a condition."""
        deadline = time.monotonic() + 300
        while not condition(self.output):
            assert time.monotonic() < deadline, self.output
            time.sleep(0.1)

    def end(self) -> str:
        """Wait for its end, and return its output."""
        self.process.wait(60)
        self._copying.wait(60)
        return self.output


def main() -> None:
    """Run the commands and write each one's picture."""
    with tempfile.TemporaryDirectory() as work:
        up = Terminal(TURNOUT, "up", "--config", EXAMPLE, log=Path(work) / "up")
        try:
            up.until(lambda output: "Press Ctrl-C" in output)
            curl = re.search(r"curl -u .*?}'", plain(up.output).replace("\n", ""))
            assert curl, up.output
            subprocess.run(shlex.split(curl[0]), check=True, stdout=subprocess.DEVNULL)
            up.until(lambda output: output.count("delivered") == 3)
            write("up", "make up", re.sub(r"(waiting for .*\n)+", "…\n", up.output))

            url = shlex.split(curl[0])[3]
            subprocess.run([*("curl", "-s", "-u", "demo-web:", url, "-d"), json.dumps(VIEWED)], check=True)
            up.until(lambda output: "Product Viewed" in output)
            command = ("why", "m-2", "--config", EXAMPLE)
            why = Terminal(TURNOUT, *command, log=Path(work) / "why")
            write("why", "turnout why m-2", why.end())
        finally:
            up.process.terminate()
            up.end()


def plain(output: str) -> str:
    """Return output without colours."""
    return Text.from_ansi(output).plain


def write(name: str, title: str, output: str) -> None:
    """Write output as a picture of a terminal."""
    DOCS.mkdir(exist_ok=True)
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True)
        console.print(Text.from_ansi(output.strip("\n")))
        (DOCS / f"{name}.svg").write_text(console.export_svg(title=title, unique_id=name))


if __name__ == "__main__":
    main()
