"""Run the example apps of deploy/docs/tracking.md on their servers."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.streams.tracking.helpers import FakeCollector, request, until
from tests.support.ports import free_port

ROOT = Path(__file__).parents[3]
DOCUMENT = (ROOT / "deploy" / "docs" / "tracking.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
FILES = {block.partition("\n")[0].removeprefix("# "): block for block in BLOCKS if re.match(r"# \w+\.py\n", block)}
SITE = Path(__file__).parent / "site"

UVICORN = ("uvicorn", "--log-level", "warning", "--port")
GUNICORN = ("gunicorn", "--workers", "2", "--preload", "--log-level", "warning", "--bind")

APPS = {
    "starlette_app.py": (*UVICORN, "starlette_app:app"),
    "fastapi_app.py": (*UVICORN, "fastapi_app:app"),
    "flask_app.py": (*GUNICORN, "flask_app:app"),
    "asgi.py": (*UVICORN, "asgi:application"),
    "wsgi.py": (*GUNICORN, "wsgi:application"),
}


def block_with(text: str) -> str:
    """Return the only block of the page that contains this text."""
    (found,) = [block for block in BLOCKS if text in block]
    return found


@contextmanager
def served(
    folder: Path, arguments: tuple[str, ...], environment: dict[str, str], python: Path = Path(sys.executable)
) -> Iterator[int]:
    """Run `python -m SERVER … PORT APP`, yield the port, and stop the server with SIGTERM, like an init system."""
    port = free_port()
    *options, app = arguments
    bind = str(port) if "--port" in options else f"127.0.0.1:{port}"
    command = [python, "-m", *options, bind, app]
    server = subprocess.Popen(command, cwd=folder, env=os.environ | environment | {"PYTHONPATH": str(folder)})

    def answers() -> bool:
        assert server.poll() is None
        try:
            return request(port, "/none").status == 404
        except OSError:
            return False

    try:
        until(answers, 120)
        yield port
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(120)


def write(folder: Path, collector: str) -> None:
    """Write the page's files, with the collector's URL, and the Django project around them."""
    for name, text in FILES.items():
        (folder / name).write_text(text.replace("https://events.example.com", collector))
    (folder / "site_settings.py").write_text((SITE / "site_settings.py").read_text() + FILES["settings.py"])
    (folder / "site_views.py").write_text((SITE / "site_views.py").read_text())


def check(name: str, folder: Path, collector: FakeCollector, python: Path = Path(sys.executable)) -> None:
    """Run an example, request two product pages, and check their events at the collector."""
    environment = {"TURNOUT_WRITE_KEY": "web-key", "SITE_DATABASE": str(folder / "site.sqlite3")}
    with served(folder, APPS[name], environment, python) as port:
        first = request(port, "/products/c-1?utm_source=mail", {"Host": "shop.example.com"})
        anonymous_id = (first.cookie or "").partition("=")[2].partition(";")[0]
        request(port, "/products/c-2", {"Cookie": f"ajs_anonymous_id={anonymous_id}; ajs_user_id=u-1"})
    assert {batch.key for batch in collector.batches} == {"web-key"}
    sent = {(event["type"], event["properties"].get("path")): event for event in collector.events}
    assert len(sent) == 3, "one track by its last request, and two pages"
    page = sent["page", "/products/c-1"]
    assert page["properties"]["url"] == "http://shop.example.com/products/c-1?utm_source=mail"
    assert page["properties"]["title"] == "Coffee"
    assert page["context"]["campaign"] == {"source": "mail"}
    assert {event["anonymousId"] for event in collector.events} == {anonymous_id}
    tracks = [event for event in collector.events if event["type"] == "track"]
    assert sorted(track["properties"]["product_id"] for track in tracks) == ["c-1", "c-2"]
    assert {event.get("userId") for event in collector.events} == {None, "u-1"}
    assert "Domain=example.com" in (first.cookie or "")
