"""What each client of tests/cases/sdks.yaml sends, over a socket, in every spelling of its path."""

import asyncio
import gzip
import re
from base64 import b64encode
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
import yaml

from streams.collector import pixel
from streams.collector.server import Collector
from tests.streams.collector.helpers import KEY, Kept, basic, head

pytestmark = pytest.mark.anyio

EVENT = {"type": "track", "event": "Signed Up", "userId": "u1"}
CASES = yaml.safe_load((Path(__file__).parents[2] / "cases" / "sdks.yaml").read_text())
REQUESTS = [
    pytest.param(request, id=f"{case['sdk']} {case['version']}: {request.get('post') or request['get']}")
    for case in CASES
    for request in case["requests"]
]


class Reply(NamedTuple):
    """An answer, whatever its content type."""

    status: int
    content_type: str
    body: bytes


def spellings(target: str) -> list[str]:
    """Return a path as clients make it of a host with a slash behind it, and with one of their own at the end."""
    path, mark, query = target.partition("?")
    return [each + mark + query for each in (path, "/" + path, path.rstrip("/"), path.rstrip("/") + "/", path + "//")]


def wire(request: dict[str, Any], target: str) -> bytes:
    """Return a client's request to this path."""
    shape, key = request.get("as", []), request.get("key", "basic")
    secret = {"writeKey": KEY} if key == "body" else {}
    headers = {"host": "test", **(basic(KEY) if key == "basic" else {"x-write-key": KEY} if key == "header" else {})}
    data = b64encode(orjson.dumps({**EVENT, "writeKey": KEY})).decode()
    target = target.replace("KEY", KEY).replace("DATA", data)
    if "get" in request:
        return head("GET", target, {**headers, "connection": "close"})
    body = orjson.dumps({**EVENT, **secret} if "event" in shape else {"batch": [EVENT], "sentAt": None, **secret})
    headers["content-type"] = "application/json; charset=utf-8"
    if "plain" in shape:
        headers["content-type"] = "text/plain;charset=UTF-8"
    if "form" in shape:
        headers["content-type"] = "application/x-www-form-urlencoded"
    if "gzip" in shape:
        headers["Content-Encoding"] = "gzip"
        body = gzip.compress(body)
    if "chunked" in shape:
        headers["Transfer-Encoding"] = "chunked"
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    else:
        headers["Content-Length"] = str(len(body))
    return head("POST", target, {**headers, "connection": "close"}) + body


async def send(collector: Collector, request: bytes) -> Reply:
    """Return the response to a request with `Connection: close`."""
    reader, writer = await asyncio.open_connection(*collector.address)
    writer.write(request)
    async with asyncio.timeout(60):
        top, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return Reply(int(top.split()[1]), re.findall(rb"content-type: (.*)", top)[0].strip().decode(), body)


@pytest.mark.parametrize("request_", REQUESTS)
async def test_each_clients_requests_are_answered(request_: dict[str, Any], collector: Collector, producer: Kept):
    """Events are taken, and settings are sent, whatever slashes the path has."""
    target = request_.get("post") or request_["get"]
    for spelling in spellings(target):
        producer.records.clear()
        answer = await send(collector, wire(request_, spelling))
        assert answer.status == 200, spelling
        if "settings" in target:
            assert orjson.loads(answer.body)["integrations"]["Segment.io"]["apiKey"] == KEY
        elif "sourceConfig" in target:
            source = orjson.loads(answer.body)["source"]
            assert (source["writeKey"], source["enabled"]) == (KEY, True)
            # Their apps do not start without these.
            assert {"id", "name", "workspaceId", "updatedAt", "destinations"} <= source.keys()
        else:
            assert len(producer.events()) == 1, spelling
        if "get" in request_ and producer.records:
            assert (answer.content_type, answer.body) == ("image/gif", pixel.GIF)


@pytest.mark.parametrize("target", ["/v1/pixel/track", "/pixel/v1/track"])
async def test_a_pixel_takes_a_form(target: str, collector: Collector, producer: Kept):
    """Fields may come in a form, with blanks as plus signs, as `sendBeacon` sends URLSearchParams."""
    form = f"writeKey={KEY}&userId=u1&event=Signed+Up&properties.plan=pro%20%C3%A9".encode()
    headers = {"content-type": "application/x-www-form-urlencoded", "content-length": str(len(form))}
    request = head("POST", target, {"host": "test", "connection": "close", **headers}) + form
    assert (await send(collector, request)).status == 200
    (event,) = producer.events()
    assert (event["event"], event["properties"]) == ("Signed Up", {"plan": "pro é"})


@pytest.mark.parametrize(
    "target", ["/v2/batch", "/v1/batches", "/v1", "/", "/v1/import/x", "/sourceConfig/x", "/pixel/track"]
)
async def test_other_paths_are_not_found(target: str, collector: Collector, producer: Kept):
    """A path that no client uses is answered 404, with code and message."""
    answer = await send(collector, wire({"post": target}, target))
    assert (answer.status, orjson.loads(answer.body)["code"]) == (404, "not_found")
    assert not producer.records


def test_the_versions_that_were_run_are_those_that_the_tests_install():
    """A version of tests/cases/sdks.yaml with `run` is the one that is installed or pinned."""
    sdks = Path(__file__).parents[2] / "clients" / "sdks"
    pins = "\n".join(path.read_text() for name in ("package.json", "go.mod", "pom.xml") for path in sdks.rglob(name))
    for case in CASES:
        if case.get("run", "").endswith("-python"):
            assert version(case["sdk"]) == case["version"]
        elif "run" in case:
            assert re.search(rf"(?<![\d.]){re.escape(case['version'])}(?![\d.])", pins), case["sdk"]
