from pathlib import Path
from typing import Any

import orjson
import pytest

from streams.collector.server import Collector
from tests.streams.collector.helpers import TOPICS, Kept, exchange, post

pytestmark = pytest.mark.anyio

CASES = {
    path.stem: orjson.loads(path.read_bytes())
    for path in sorted((Path(__file__).parents[2] / "cases" / "collector").glob("*.json"))
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_a_request_gets_its_answer(case: dict[str, Any], collector: Collector, producer: Kept):
    """A case's request gets the expected response, and exactly its events and rejected texts are sent to Kafka."""
    answer = await exchange(collector, wire(case["request"]))
    expected = case["answer"]
    assert answer.status == expected["status"]
    assert answer.headers["content-type"] == "application/json"
    if "json" in expected:
        assert answer.json == expected["json"]
    else:
        assert is_like(answer.json, expected["like"])
    for name, value in expected.get("headers", {}).items():
        assert answer.headers[name] == value
    events = producer.events()
    assert all(event.pop("receivedAt").startswith("20") for event in events)
    for event, wanted in zip(events, case["events"], strict=True):
        if "messageId" not in wanted:
            assert event.pop("messageId").startswith("turnout-")
    assert events == case["events"]
    assert producer.values(TOPICS.rejected) == [text.encode() for text in case["rejected"]]


def wire(request: dict[str, Any]) -> bytes:
    """A case's request as it goes over the wire."""
    if "json" in request:
        body = orjson.dumps(request["json"])
    elif "hex" in request:
        body = bytes.fromhex(request["hex"])
    else:
        body = request["body"].encode()
    sent = post(request["path"], body, request.get("headers"), key=request.get("key", "web-key"))
    return sent.replace(b"POST", request["method"].encode(), 1) if "method" in request else sent


def is_like(value: Any, expected: Any) -> bool:
    """Whether all that is expected is there; messages that are a library's own words are left out of cases."""
    if isinstance(expected, dict):
        return all(name in value and is_like(value[name], part) for name, part in expected.items())
    if isinstance(expected, list):
        return len(value) == len(expected) and all(map(is_like, value, expected))
    return bool(value == expected)
