"""deploy/docs/page-calls.md: its apps for Python and Express send the same page calls of the same requests."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.clients.collecting import KEY, Collector
from tests.clients.sdk import SDKS, missing
from tests.streams.tracking.helpers import BROWSER, Answer, request, until
from tests.support import npm
from tests.support.ports import free_port

DOCUMENT = (Path(__file__).parents[2] / "deploy" / "docs" / "page-calls.md").read_text()
EXAMPLES = dict(re.findall(r"```\w+\n(?:#|//) (page.calls\.\w+)\n(.*?)```", DOCUMENT, re.DOTALL))


@contextmanager
def serving(name: str, folder: Path, collector: Collector) -> Iterator[int]:
    """An app of the page, until the end of the `with`, when it is asked to end; its port."""
    script = folder / name
    script.write_text(EXAMPLES[name].replace("https://events.example.com", f"http://127.0.0.1:{collector.port}"))
    port = free_port()
    if script.suffix == ".py":
        command = [sys.executable, "-m", "uvicorn", "--log-level", "warning", "--port", str(port), "page_calls:app"]
        environment = dict(os.environ)
    else:
        command, environment = npm.command(script, SDKS) or missing("npm")
    app = subprocess.Popen(command, cwd=folder, env=environment | {"TURNOUT_WRITE_KEY": KEY, "PORT": str(port)})

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
        assert app.wait(120) in (0, -15)


@pytest.fixture(params=sorted(EXAMPLES))
def app(request: pytest.FixtureRequest) -> str:
    """Each app of the page."""
    return request.param


def page_of(app: str, folder: Path, collector: Collector, **headers: str | None) -> tuple[Answer, list[dict[str, Any]]]:
    """The answer to a request with these headers for a page of its own, and the page calls of it."""
    mark = uuid4().hex
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    with serving(app, folder, collector) as port:
        answer = request(port, f"/products/{mark}?utm_source=mail&utm_campaign=tea&utm_term=caf%C3%A9&q=1", fields)
    events = collector.events(mark)
    return answer, [
        {**event, "properties": {key: str(value).replace(mark, "ID") for key, value in event["properties"].items()}}
        for event in events
    ]


def test_a_visitor_who_is_known(app: str, tmp_path: Path, collector: Collector):
    """The page call has page, campaign and browser, and is the cookies' user's; no cookie is set."""
    answer, (page,) = page_of(
        app,
        tmp_path,
        collector,
        Host="shop.example.com",
        Referer="https://search.example/",
        Accept_Language="en-GB, de;q=0.5",
        Cookie="ajs_anonymous_id=%22a-1%22; ajs_user_id=u-1",
    )
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
    assert answer.cookie is None


def test_a_first_visit(app: str, tmp_path: Path, collector: Collector):
    """The id is made and set, for the domain, and no shared cache may keep the response."""
    answer, (page,) = page_of(app, tmp_path, collector, Host="shop.example.com")
    attributes = {part.strip().partition("=")[0]: part.strip().partition("=")[2] for part in answer.cookie.split(";")}
    attributes.pop("Expires", None)
    assert attributes == {
        "ajs_anonymous_id": page["anonymousId"],
        "Max-Age": "31536000",
        "Domain": "example.com",
        "Path": "/",
        "SameSite": "Lax",
    }
    assert answer.headers["Cache-Control"] == "private"
    assert "userId" not in page


@pytest.mark.parametrize(
    ("headers", "pages"), [({"Sec_GPC": "1"}, 1), ({"Sec_Fetch_Dest": "image"}, 0), ({"Sec_Purpose": "prefetch"}, 0)]
)
def test_who_wants_privacy_and_what_is_no_page(
    headers: dict[str, str], pages: int, app: str, tmp_path: Path, collector: Collector
):
    """With Global Privacy Control no cookie is set; what nobody navigated to is no page call."""
    answer, sent = page_of(app, tmp_path, collector, **headers)
    assert answer.status == 200
    assert answer.cookie is None
    assert len(sent) == pages
