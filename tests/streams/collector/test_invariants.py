import asyncio
from copy import deepcopy
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams import events
from streams.collector.app import App
from streams.collector.settings import CollectorSettings
from tests.streams.collector.helpers import SOURCES, TOPICS, Kept, basic
from tests.support import fuzzing

LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9)
)
VALUES = st.recursive(
    LEAVES, lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(max_size=5), parts, max_size=3)
)
OBJECTS = st.dictionaries(st.text(max_size=5), VALUES, max_size=3)
TEXTS = st.text(min_size=1, max_size=9)
GOOD = st.fixed_dictionaries(
    {"type": st.sampled_from(events.TYPES), "event": TEXTS, "userId": TEXTS, "groupId": TEXTS, "previousId": TEXTS},
    optional={
        "anonymousId": TEXTS | st.integers(0, 2**53),
        "messageId": TEXTS,
        "timestamp": st.datetimes().map(str),
        "sentAt": st.none() | st.datetimes().map(str),
        "context": st.none() | OBJECTS,
        "integrations": st.none() | OBJECTS,
        "properties": OBJECTS,
        "traits": OBJECTS,
        "x": VALUES,
    },
)
BROKEN = st.builds(
    lambda event, name, value: {**event, name: value},
    GOOD,
    st.sampled_from(["type", "event", "userId", "context"]),
    VALUES,
)
EVENTS = GOOD | BROKEN | VALUES
BATCHES = st.fixed_dictionaries(
    {"batch": st.lists(GOOD | EVENTS, max_size=6)},
    optional={"context": st.none() | OBJECTS, "integrations": st.none() | OBJECTS, "sentAt": st.datetimes().map(str)},
) | st.fixed_dictionaries({"batch": VALUES}, optional={"context": VALUES, "integrations": VALUES, "sentAt": VALUES})


def answer(path: str, body: bytes) -> tuple[int, Any, Kept]:
    """What the app answers to a POST, and the producer it had."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    producer = Kept()
    headers = [(name.encode(), value.encode()) for name, value in basic("web-key").items()]
    app = App(CollectorSettings(), lambda: SOURCES, TOPICS, producer)
    asyncio.run(app({"type": "http", "method": "POST", "path": path, "headers": headers}, receive, send))
    return sent[0]["status"], orjson.loads(sent[1]["body"]), producer


@settings(max_examples=fuzzing.examples(200))
@given(BATCHES)
def test_each_event_of_a_batch_is_taken_or_named(body: dict[str, Any]):
    """Whatever a batch holds, it is refused whole, or each event is either in the topic or named and kept as it was."""
    try:
        raw = orjson.dumps(body)
    except TypeError:  # an integer of more than 64 bits, which Python's json writes
        return
    status, told, producer = answer("/v1/batch", raw)
    taken, kept = producer.events(), [orjson.loads(text or b"") for text in producer.values(TOPICS.rejected)]
    if status != 200:
        assert status in (400, 413)
        assert set(told) == {"code", "message"}
        assert not producer.records
        return
    named = [event["index"] for event in told.get("rejected", [])]
    assert kept == [body["batch"][index] for index in named]
    assert len(taken) == len(body["batch"]) - len(named)
    good = [event for index, event in enumerate(body["batch"]) if index not in named]
    for before, after in zip(good, taken, strict=True):
        changed = {"messageId", "sentAt", "receivedAt", "context", "integrations", "traits"}
        assert {k: v for k, v in after.items() if k not in changed} == {
            k: v for k, v in events.normalize(deepcopy(before)).items() if k not in changed
        }
        assert after["messageId"]
        assert events.normalize(deepcopy(after)) == after
        assert isinstance(events.key(after), bytes)


@settings(max_examples=fuzzing.examples(150))
@given(st.sampled_from(events.TYPES), EVENTS)
def test_a_single_event_is_taken_or_refused(kind: str, event: Any):
    """Whatever the event is, the answer is 200 with one record, or 400 with none."""
    try:
        raw = orjson.dumps(event)
    except TypeError:
        return
    status, told, producer = answer(f"/v1/{kind}", raw)
    assert (status, len(producer.records)) in ((200, 1), (400, 0))
    assert told == {"success": True} or set(told) == {"code", "message"}


@given(st.binary(max_size=200) | st.text(alphabet='{}[]":, batchnul\\', max_size=60).map(lambda text: text.encode()))
def test_bytes_that_are_no_request_are_refused(body: bytes):
    """Whatever the bytes, they are answered with an error, or as the batch that they are; never with a 500."""
    status, told, _ = answer("/v1/batch", body)
    assert status in (200, 400)
    assert set(told) <= {"code", "message", "success", "rejected"}


@pytest.mark.parametrize("events_", [0, 1])
def test_the_answer_of_a_good_batch_is_constant(events_: int):
    """What SDKs take for success."""
    body = orjson.dumps({"batch": [{"type": "track", "event": "E", "userId": "u1"}] * events_})
    assert answer("/v1/batch", body)[:2] == (200, {"success": True})
