"""The browser client's script and the cookies that last, over a socket."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from pydantic import ValidationError

from streams.collector.server import Collector
from streams.collector.settings import CollectorSettings
from streams.sources.source import Source, Sources
from tests.streams.collector import helpers
from tests.streams.collector.helpers import KEY, Kept, head, post, serving

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("way")]

SHOP = "https://shop.example.com"
SCRIPT = b"window.analytics = {}; // \xc3\xa9\n" * 100
CASES = yaml.safe_load((Path(__file__).parents[2] / "cases" / "collector" / "cookies.yaml").read_text())


class Said(NamedTuple):
    """An answer: its headers by name in lower case, but for cookies, which are apart."""

    status: int
    headers: dict[str, str]
    cookies: list[str]
    body: bytes


async def ask(collector: Collector, request: bytes) -> Said:
    reader, writer = await asyncio.open_connection(*collector.address)
    writer.write(request)
    raw = await reader.read()
    writer.close()
    top, _, body = raw.partition(b"\r\n\r\n")
    line, *lines = top.decode().split("\r\n")
    fields = [(name.lower(), value) for name, _, value in (field.partition(": ") for field in lines)]
    cookies = [value for name, value in fields if name == "set-cookie"]
    return Said(int(line.split()[1]), dict(fields), cookies, body)


def get(path: str, **headers: str) -> bytes:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return head("GET", path, {"host": "test", "connection": "close", **fields})


@pytest.fixture
async def collector(monkeypatch: pytest.MonkeyPatch, producer: Kept, tmp_path: Path) -> AsyncIterator[Collector]:
    """A collector of a site at example.com, which serves a script."""
    monkeypatch.setattr(helpers, "SOURCES", Sources([Source.of("shop", [KEY], origins=[SHOP])]))
    (tmp_path / "client.js").write_bytes(SCRIPT)
    client = {"path": "/assets/a.js", "file": tmp_path / "client.js"}
    async with serving(producer, client=client, cookie_domain="example.com") as running:
        yield running


async def test_the_script_is_served_and_kept(collector: Collector):
    """Any page may load the script; caches store it, compressed if supported, and revalidate it by ETag."""
    said = await ask(collector, get("/assets/a.js"))
    assert (said.status, said.body) == (200, SCRIPT)
    assert said.headers["content-type"] == "text/javascript; charset=utf-8"
    assert said.headers["cache-control"] == "public, max-age=3600, stale-while-revalidate=86400"
    assert said.headers["access-control-allow-origin"] == "*"
    compressed = await ask(collector, get("/assets/a.js", accept_encoding="br, gzip"))
    assert compressed.headers["content-encoding"] == "gzip"
    assert compressed.headers["vary"] == "Accept-Encoding"
    assert gzip.decompress(compressed.body) == SCRIPT
    again = await ask(collector, get("/assets/a.js", if_none_match=f'"x", {said.headers["etag"]}'))
    assert (again.status, again.body) == (304, b"")
    assert again.headers["etag"] == said.headers["etag"]


async def test_a_missing_script_is_known_at_the_start(producer: Kept, tmp_path: Path):
    """A collector that cannot read the file does not begin."""
    with pytest.raises(FileNotFoundError, match=r"gone\.js"):
        async with serving(producer, client={"path": "/a.js", "file": tmp_path / "gone.js"}):
            pass


async def test_the_script_brings_no_cookie(collector: Collector):
    """Shared caches may store the script, so its response never sets cookies."""
    said = await ask(collector, get("/assets/a.js", cookie="ajs_anonymous_id=a", origin=SHOP))
    assert said.cookies == []


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
async def test_ids_of_cookies_are_set_again(case: Mapping[str, Any], collector: Collector):
    """An answer to a page's event sets the cookies of the anonymous ids as they came, for a year; no cache keeps it."""
    headers = {"origin": SHOP, "connection": "close"} | case["headers"]
    fields = {name: value.replace("{long}", "x" * 2000) for name, value in headers.items() if value is not None}
    said = await ask(collector, post("/v1/track", b'{"event":"E","userId":"u"}', fields))
    assert said.cookies == case["sets"]
    assert said.headers.get("cache-control") == ("no-store" if case["sets"] else None)


async def test_without_a_domain_cookies_are_left_alone(producer: Kept):
    """A collector without a cookie domain sets no cookies."""
    async with serving(producer) as collector:
        fields = {"origin": SHOP, "connection": "close", "cookie": "ajs_anonymous_id=a"}
        said = await ask(collector, post("/v1/track", b'{"event":"E","userId":"u"}', fields))
    assert (said.status, said.cookies) == (200, [])


async def test_the_settings_tell_the_client_to_send_cookies(collector: Collector):
    """Where the collector has cookies last, analytics.js is to send them to another host than the page's."""
    said = await ask(collector, get(f"/v1/projects/{KEY}/settings", origin=SHOP))
    assert b'"deliveryStrategy":{"config":{"credentials":"include"}}' in said.body


@pytest.mark.parametrize("path", ["/v1/track", "/health", "no-slash", "/a b"])
def test_the_scripts_path_is_its_own(path: str, tmp_path: Path):
    """The script's path must be a path that the collector does not use."""
    with pytest.raises(ValidationError, match=r"client\.path"):
        CollectorSettings.model_validate({"client": {"path": path, "file": tmp_path / "client.js"}})


async def test_the_configuration_of_rudderstacks_client(collector: Collector):
    """It is asked with a preflight and the key in the query; a page of another origin gets nothing."""
    said = await ask(collector, get(f"/sourceConfig/?p=npm&writeKey={KEY}", origin=SHOP))
    assert said.status == 200
    assert said.headers["access-control-allow-origin"] == SHOP
    assert b'"destinations":[]' in said.body
    assert (await ask(collector, get("/sourceConfig/?writeKey=wrong", origin=SHOP))).status == 404
    assert (await ask(collector, get(f"/sourceConfig/?writeKey={KEY}", origin="https://evil.example"))).status == 403
    asked = {"host": "test", "connection": "close", "access-control-request-headers": "authorization"}
    assert (await ask(collector, head("OPTIONS", "/sourceConfig/", asked | {"origin": SHOP}))).status == 204
    assert (await ask(collector, head("OPTIONS", "/sourceConfig/", asked | {"origin": "https://x.y"}))).status == 403


async def test_a_beacon_has_its_key_in_the_address(collector: Collector, producer: Kept):
    """RudderStack's beacons have neither header nor field; a wrong key is still refused."""
    body = b'{"batch":[{"type":"page","anonymousId":"a"}]}'
    fields = {"origin": SHOP, "connection": "close", "content-type": "text/plain"}
    assert (await ask(collector, post(f"/beacon/v1/batch?writeKey={KEY}", body, fields, key=None))).status == 200
    assert (await ask(collector, post("/beacon/v1/batch?writeKey=wrong", body, fields, key=None))).status == 401
    assert len(producer.events()) == 1
