"""The apps of deploy/docs/page-calls.md send the same page calls for the same requests in each language."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.clients.collecting import KEY, Collector
from tests.clients.sdk import SDKS, missing
from tests.streams.tracking.helpers import BROWSER, Answer, request, until
from tests.support import maven, npm
from tests.support.ports import free_port

pytestmark = pytest.mark.clients

DOCUMENT = (Path(__file__).parents[2] / "deploy" / "docs" / "page-calls.md").read_text()
EXAMPLES = {
    name: text
    for text, name in re.findall(
        r"```\w+\n((?:<\?php\n)?(?:#|//) (page.?calls\.\w+)\n.*?)```", DOCUMENT, re.DOTALL | re.IGNORECASE
    )
}
"""The apps of the page, by the file name in their first line."""

REQUESTS: dict[str, dict[str, str | None]] = {
    "known visitor": {
        "Host": "shop.example.com",
        "Referer": "https://search.example/",
        "Accept-Language": "en-GB, de;q=0.5",
        "Cookie": "ajs_anonymous_id=%22a-1%22; ajs_user_id=u-1",
    },
    "first visit": {"Host": "shop.example.com"},
    "privacy": {"Sec-GPC": "1"},
    "image": {"Sec-Fetch-Dest": "image"},
    "prefetch": {"Sec-Purpose": "prefetch"},
    "script": {"Sec-Fetch-Dest": None, "Accept": "*/*"},
    "missing page": {},
    "any bytes": {"User-Agent": f"{BROWSER} Caf\xe9", "Referer": "https://search.example/\xff"},
}
"""The headers of each request."""


@dataclass
class Visit:
    """A request's response, and the page calls that it caused."""

    answer: Answer
    pages: list[dict[str, Any]]


def _prepare_python(name: str, folder: Path, port: int) -> tuple[list[str], Mapping[str, str]]:
    command = [sys.executable, "-m", "uvicorn", "--log-level", "warning", "--port", str(port), Path(name).stem + ":app"]
    return command, os.environ


def _prepare_node(name: str, folder: Path, port: int) -> tuple[list[str], Mapping[str, str]]:
    return npm.command(folder / name, SDKS) or missing("npm")


def _prepare_ruby(name: str, folder: Path, port: int) -> tuple[list[str], Mapping[str, str]]:
    puma = shutil.which("puma") or missing("puma")
    return [puma, "--quiet", "--bind", f"tcp://127.0.0.1:{port}", name], os.environ


def _prepare_php(name: str, folder: Path, port: int) -> tuple[list[str], Mapping[str, str]]:
    return [shutil.which("php") or missing("php"), "-q", "-S", f"127.0.0.1:{port}", name], os.environ


def _prepare_go(name: str, folder: Path, port: int) -> tuple[list[str], Mapping[str, str]]:
    go = shutil.which("go") or missing("go")
    for file in ("go.mod", "go.sum"):
        shutil.copy(SDKS / "segment-go" / file, folder)
    # Without C and optimizations a first build takes a fraction of the time.
    build = [go, "build", "-gcflags=all=-N -l", "-ldflags=-s -w", "-o", "app", name]
    subprocess.run(build, cwd=folder, check=True, env=os.environ | {"CGO_ENABLED": "0"})
    return ["./app"], os.environ


def _prepare_java(name: str, folder: Path, port: int) -> tuple[list[str], Mapping[str, str]]:
    jars = maven.jars(SDKS / "spring" / "pom.xml") or missing("Java or Maven")
    quick = "TieredStopAtLevel=1"
    subprocess.run(
        ["javac", f"-J-XX:{quick}", "-parameters", "-cp", f"{jars}/*", "-d", ".", name], cwd=folder, check=True
    )
    return [
        *("java", f"-XX:{quick}", "-XX:+UseSerialGC", "-Dspring.main.banner-mode=off", f"-Dserver.port={port}"),
        *("-cp", f"{jars}/*:.", "shop.PageCalls"),
    ], os.environ


PREPARE: dict[str, Callable[[str, Path, int], tuple[list[str], Mapping[str, str]]]] = {
    "page_calls.py": _prepare_python,
    "page-calls.js": _prepare_node,
    "page_calls.ru": _prepare_ruby,
    "page_calls.php": _prepare_php,
    "page_calls.go": _prepare_go,
    "PageCalls.java": _prepare_java,
}
"""The command and environment that serve each app on a port."""


@contextmanager
def serving(name: str, folder: Path, collector: Collector) -> Iterator[int]:
    """Serve an app of the page inside a `with` block; yields its port."""
    text = EXAMPLES[name].replace("https://events.example.com", f"http://127.0.0.1:{collector.port}")
    (folder / name).write_text(text)
    port = free_port()
    command, environment = PREPARE[name](name, folder, port)
    app = subprocess.Popen(command, cwd=folder, env={**environment, "TURNOUT_WRITE_KEY": KEY, "PORT": str(port)})

    def answers() -> bool:
        assert app.poll() is None
        try:
            return request(port, "/none").status == 404
        except OSError:
            return False

    try:
        until(answers, 120)
        yield port
    finally:
        app.terminate()
        assert app.wait(120) in (0, -15, 143)


@pytest.fixture(scope="module", params=PREPARE)
def visits(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, collector: Collector
) -> dict[str, Visit]:
    """Send each request to each app of the page; return the page calls that arrived until the app ended."""
    marks = {name: uuid4().hex for name in REQUESTS}
    with serving(request.param, tmp_path_factory.mktemp("app"), collector) as port:
        answers = {name: _visit(port, name, marks[name]) for name in REQUESTS}
    return {
        name: Visit(answer, [_without(marks[name], event) for event in collector.events(marks[name])])
        for name, answer in answers.items()
    }


def _visit(port: int, name: str, mark: str) -> Answer:
    folder = "none" if name == "missing page" else "products"
    path = f"/{folder}/{mark}?utm_source=mail&utm_campaign=tea&utm_term=caf%C3%A9&q=1"
    return request(port, path, REQUESTS[name])


def _without(mark: str, event: dict[str, Any]) -> dict[str, Any]:
    return {**event, "properties": {key: str(value).replace(mark, "ID") for key, value in event["properties"].items()}}


def test_every_app_of_the_page_is_run():
    """Each app of the page is started by these tests, and vice versa."""
    assert EXAMPLES.keys() == PREPARE.keys()


def test_a_known_visitor(visits: dict[str, Visit]):
    """The page call has page, campaign and browser, and the IDs of the cookies; no cookie is set."""
    visit = visits["known visitor"]
    (page,) = visit.pages
    assert (page["type"], page["anonymousId"], page["userId"]) == ("page", "a-1", "u-1")
    query = "utm_source=mail&utm_campaign=tea&utm_term=caf%C3%A9&q=1"
    assert page["properties"] == {
        "url": f"http://shop.example.com/products/ID?{query}",
        "path": "/products/ID",
        "host": "shop.example.com",
        "title": "Coffee",
        "search": f"?{query}",
        "query": query,
        "referrer": "https://search.example/",
    }
    context = page["context"]
    assert context["campaign"] == {"source": "mail", "name": "tea", "term": "café", "keyword": "café"}
    assert (context["userAgent"], context["locale"]) == (BROWSER, "en-GB")
    assert context["ip"].removeprefix("::ffff:") == "127.0.0.1"
    assert visit.answer.cookie is None


def test_a_first_visit(visits: dict[str, Visit]):
    """An ID is created and set as a cookie of the domain, and no shared cache may keep the response."""
    answer, (page,) = visits["first visit"].answer, visits["first visit"].pages
    fields = [part.strip().partition("=") for part in answer.cookie.split(";")]
    attributes = {name.lower(): value for name, _, value in fields}
    attributes.pop("expires", None)
    assert attributes == {
        "ajs_anonymous_id": page["anonymousId"],
        "max-age": "31536000",
        "domain": "example.com",
        "path": "/",
        "samesite": "Lax",
    }
    assert answer.headers["Cache-Control"] == "private"
    assert "userId" not in page


def test_global_privacy_control(visits: dict[str, Visit]):
    """A browser that sends Sec-GPC gets no cookie."""
    assert visits["privacy"].answer.status == 200
    assert visits["privacy"].answer.cookie is None
    assert len(visits["privacy"].pages) == 1


@pytest.mark.parametrize(
    ("name", "status"), [("image", 200), ("prefetch", 200), ("script", 200), ("missing page", 404)]
)
def test_requests_that_are_not_page_views(name: str, status: int, visits: dict[str, Visit]):
    """Images, prefetches, requests of scripts and errors send no page call."""
    assert visits[name].answer.status == status
    assert visits[name].pages == []


def test_headers_of_any_bytes(visits: dict[str, Visit]):
    """Headers that are not UTF-8 do not lose the page call."""
    assert visits["any bytes"].answer.status == 200
    (page,) = visits["any bytes"].pages
    assert page["context"]["userAgent"].startswith(f"{BROWSER} Caf")
