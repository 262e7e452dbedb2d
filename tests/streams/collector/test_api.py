"""The API's declarations, which deploy/docs/http-api.md is made of: the collector answers as they say."""

import asyncio
import re
from pathlib import Path

import pytest

from streams.collector import api
from streams.collector.errors import REFUSALS
from streams.collector.server import Collector
from tests.streams.collector.helpers import Kept, head

pytestmark = pytest.mark.anyio

SOURCE = "\n".join(path.read_text() for path in Path(api.__file__).parent.glob("*.py"))
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH")


@pytest.mark.parametrize("endpoint", api.ENDPOINTS, ids=lambda endpoint: endpoint.paths[0])
async def test_each_path_has_its_methods_and_no_others(endpoint: api.Endpoint, collector: Collector, producer: Kept):
    """A declared method is supported, whatever the answer; another one is answered 405 with those that are."""
    for path in endpoint.paths:
        target = path.replace("TYPE", "track").replace("{write_key}", "wrong")
        for method in METHODS:
            reader, writer = await asyncio.open_connection(*collector.address)
            writer.write(head(method, target, {"host": "test", "content-length": "0", "connection": "close"}))
            async with asyncio.timeout(60):
                top = (await reader.read()).partition(b"\r\n\r\n")[0].decode()
            writer.close()
            assert (top.split()[1] == "405") == (method not in endpoint.methods), (method, target)
            if method not in endpoint.methods:
                (allowed,) = re.findall("(?i)^allow: (.*?)\r?$", top, re.MULTILINE)
                assert set(allowed.split(", ")) == set(endpoint.methods)
    assert not producer.records


def test_every_code_is_declared_and_used():
    """Each code that a request is refused with is explained, and none is explained that is not used."""
    assert set(re.findall(r'(?:RequestError|_refuse)\(\s*"(\w+)"', SOURCE)) <= REFUSALS.keys()
    assert {code for code in REFUSALS if SOURCE.count(f'"{code}"') > 1} == REFUSALS.keys()


def test_every_header_that_is_read_is_declared():
    """No header is read by a name that is written where it is read."""
    assert re.findall(r'(?:headers|asked)\.get\(\s*b?"([\w-]+)"', SOURCE) == []


@pytest.mark.parametrize(
    ("path", "free"),
    [
        ("/hooks/stripe", True),
        ("/v1/webhook/stripe", True),
        ("/a.js", True),
        ("/v1/batch", False),
        ("/v1/anything", False),
        ("/import", False),
        ("/t", False),
        ("/pixel/v1/track", False),
        ("/api/s/track", False),
        ("/sourceConfig", False),
        ("/projects/x/settings", False),
        ("/health", False),
    ],
)
def test_a_webhook_cannot_have_a_path_of_the_api(path: str, free: bool):
    """Other paths are free."""
    if free:
        assert api.check_free(path) == path
    else:
        with pytest.raises(ValueError, match="reserved for the collector"):
            api.check_free(path)


@pytest.mark.parametrize(
    ("given", "cleaned"),
    [
        ("/v1/batch", "/v1/batch"),
        ("//v1//batch///", "/v1/batch"),
        ("/", "/"),
        ("", "/"),
        ("///", "/"),
        ("/a b/", "/a b"),
    ],
)
def test_slashes_are_cleaned(given: str, cleaned: str):
    """Repeated slashes become one, and those at the end vanish."""
    assert api.clean(given) == cleaned
