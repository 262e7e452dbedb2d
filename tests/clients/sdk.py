"""Run the SDKs of the documentation's examples, configured as shown with the collector's address and a write key."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.support import maven, npm

SDKS = Path(__file__).parent / "sdks"
DOCUMENT = (Path(__file__).parents[2] / "deploy" / "docs" / "sources.md").read_text()
EXAMPLES = {
    name: (language, text)
    for language, text, name in re.findall(r"```(\w+)\n((?:#|//|<!--) ([a-z-]+)(?: -->)?\n.*?)```", DOCUMENT, re.DOTALL)
}
"""The page's examples by the name in their first line: language and text."""

NEEDED = "TURNOUT_TESTS_NEED_SDKS"
"""The variable that has these tests fail, and not be skipped, where a language is missing."""


@dataclass(frozen=True)
class Sdk:
    """A server SDK: its folder in sdks/, which is also its example's name, and its reaction to responses.

    `waits`: whether it obeys Retry-After. `gives_up`: whether it drops refused events at once. `patient`: whether it
    waits 15 seconds or more before a retry.
    """

    name: str
    waits: bool = True
    gives_up: bool = True
    patient: bool = False


def example(name: str, address: str) -> str:
    """Return an example of the page, for a collector at this address."""
    return EXAMPLES[name][1].replace("https://events.example.com", address)


def missing(what: str) -> NoReturn:
    """Skip a test because a language or browser is missing, or fail it if it must run."""
    if os.environ.get(NEEDED):
        pytest.fail(f"{what} is missing")
    pytest.skip(f"{what} is missing")


_BUILT: dict[str, Path] = {}
"""The folders of programs that were built in this test run, by their example with its address."""


class Run:
    """A running program that makes calls through an SDK."""

    def __init__(self, name: str, address: str, key: str, calls: Sequence[Mapping[str, Any]], folder: Path) -> None:
        language, _ = EXAMPLES[name]
        command, environment = _PREPARE[language](name, example(name, address), folder)
        (folder / "calls.json").write_text(json.dumps(calls))
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment | {"TURNOUT_WRITE_KEY": key},
            stdin=subprocess.PIPE,
        )

    def end(self) -> None:
        """Wait for its end; Go's client must be closed explicitly."""
        self._process.communicate(timeout=120)

    def kill(self) -> None:
        """End it if it still runs."""
        self._process.kill()
        self._process.communicate()


def _prepare_python(name: str, example: str, folder: Path) -> tuple[list[str], Mapping[str, str]]:
    (folder / "send.py").write_text(example + (SDKS / name / "send.py").read_text())
    return [sys.executable, "send.py"], os.environ


def _prepare_node(name: str, example: str, folder: Path) -> tuple[list[str], Mapping[str, str]]:
    script = folder / "send.js"
    script.write_text(example + (SDKS / name / "send.js").read_text())
    found = npm.command(script, SDKS)
    return found or missing("npm")


def _prepare_go(name: str, example: str, folder: Path) -> tuple[list[str], Mapping[str, str]]:
    go = shutil.which("go")
    if go is None:
        missing("go")
    if example not in _BUILT:
        shutil.copytree(SDKS / name, folder, dirs_exist_ok=True)
        (folder / "client.go").write_text(example)
        # Without C and optimizations a first build takes a fraction of the time.
        build = [go, "build", "-gcflags=all=-N -l", "-ldflags=-s -w", "-o", "send", "."]
        subprocess.run(build, cwd=folder, check=True, capture_output=True, env=os.environ | {"CGO_ENABLED": "0"})
        _BUILT[example] = folder
    return [str(_BUILT[example] / "send")], os.environ


def _prepare_java(name: str, example: str, folder: Path) -> tuple[list[str], Mapping[str, str]]:
    jars = maven.jars(SDKS / name / "pom.xml") or missing("Java or Maven")
    # A short program is not worth an optimizing compiler.
    quick = "TieredStopAtLevel=1"
    if example not in _BUILT:
        (folder / "Client.java").write_text(example)
        shutil.copy(SDKS / name / "Send.java", folder)
        compiler = ["javac", f"-J-XX:{quick}", "-cp", f"{jars}/*", "Client.java", "Send.java"]
        subprocess.run(compiler, cwd=folder, check=True, capture_output=True)
        _BUILT[example] = folder
    return ["java", f"-XX:{quick}", "-XX:+UseSerialGC", "-cp", f"{jars}/*:{_BUILT[example]}", "Send"], os.environ


_PREPARE = {"python": _prepare_python, "js": _prepare_node, "go": _prepare_go, "java": _prepare_java}
