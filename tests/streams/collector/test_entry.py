"""Events as clients write them, from the collector's socket through the router to a payload."""

from typing import Any

import orjson
import pytest

from streams.collector.server import Collector
from streams.records.event import read_notes
from tests.streams.collector.helpers import TOPICS, Kept, Record, exchange, post, send
from tests.streams.collector.test_bad_inputs import route
from tests.streams.collector.test_browsers import fetch

pytestmark = pytest.mark.anyio

SENT = {"type": "track", "event": "Clicked", "userId": "u-1"}


async def take(collector: Collector, producer: Kept, body: Any, path: str = "/v1/batch", **more: Any) -> list[Any]:
    """Send a body, and return the events as the integrations get them."""
    answer = await send(collector, path, body, **more)
    assert (answer.status, answer.json) == (200, {"success": True})
    records = [record for record in producer.records if record.topic == TOPICS.events]
    routed = await route(records)
    assert not routed.rejected
    return [payload["event"] for payload in routed.payloads["one"]]


async def test_the_record_has_what_must_not_change(collector: Collector, producer: Kept):
    """The collector stores messageId, receivedAt and the source; a router that reads it again finds them."""
    await send(collector, "/v1/track", SENT)
    (record,) = producer.records
    stored = orjson.loads(record.value)
    assert stored["messageId"].startswith("turnout-")
    assert stored["receivedAt"].endswith("Z")
    assert ("turnout-source", b"web") in record.headers
    first, again = [(await route([record])).payloads["one"] for _ in range(2)]
    assert first == again
    assert first[0]["event"]["messageId"] == stored["messageId"]


async def test_equal_events_without_a_time_are_all_delivered(collector: Collector, producer: Kept):
    """Neither the content nor the moment makes one of them a repeat, by the pixel too."""
    for _ in range(3):
        await send(collector, "/v1/track", SENT)
        await fetch(collector, "/v1/pixel/page?writeKey=web-key&userId=u")
    routed = await route(producer.records)
    assert [payload["event"]["type"] for payload in routed.payloads["one"]].count("track") == 3
    assert [payload["event"]["type"] for payload in routed.payloads["one"]].count("page") == 3
    assert len({payload["event"]["messageId"] for payload in routed.payloads["one"]}) == 6


async def test_a_repeat_with_a_time_is_delivered_once(collector: Collector, producer: Kept):
    """A client that sends a request again repeats its content, in whatever form the time is."""
    for time in (1795860000000, "2026-11-28T10:00:00Z", "2026-11-28 10:00:00"):
        await send(collector, "/v1/track", {**SENT, "timestamp": time})
    assert len((await route(producer.records)).payloads["one"]) == 1


@pytest.mark.parametrize("empty", [[], None, {}], ids=str)
async def test_phps_empty_objects(empty: Any, collector: Collector, producer: Kept):
    """Empty lists of the batch and its events count as empty objects, and the batch's values are merged into them."""
    batch = [{**SENT, "properties": empty, "context": empty, "integrations": empty}]
    shared = {"context": {"ip": "1.1.1.1"}, "integrations": {"Slack": False}, "batch": batch}
    (event,) = await take(collector, producer, shared)
    assert (event["context"], event["integrations"]) == ({"ip": "1.1.1.1"}, {"Slack": False})
    producer.records.clear()
    (event,) = await take(collector, producer, {"context": empty, "integrations": empty, "batch": [SENT]})
    assert event["userId"] == "u-1"


async def test_privacy_control_is_kept_in_phps_empty_context(collector: Collector, producer: Kept):
    """Global Privacy Control is not lost because the context is an empty list."""
    (event,) = await take(collector, producer, {**SENT, "context": []}, "/v1/track", headers={"sec-gpc": "1"})
    assert event["context"]["consent"]["globalPrivacyControl"] is True


@pytest.mark.parametrize("nobody", ["", " ", "null", "undefined", None, False, []], ids=repr)
async def test_a_header_names_whom_the_event_does_not(nobody: Any, collector: Collector, producer: Kept):
    """RudderStack's AnonymousId header counts if the event's own ids are empty in any way."""
    sent = {**SENT, "userId": nobody, "anonymousId": nobody}
    (event,) = await take(collector, producer, sent, "/v1/track", headers={"anonymousid": "a-1"})
    assert (event["anonymousId"], event.get("userId")) == ("a-1", None)


@pytest.mark.parametrize("own", [None, "", "0001-01-01T00:00:00Z", "2026-11-28T10:00:27.957:Z"])
async def test_the_batchs_sent_at_counts_if_the_event_has_none(own: Any, collector: Collector, producer: Kept):
    """Go's zero time and unreadable ones are none."""
    batch = {"sentAt": 1795860000, "batch": [{**SENT, "sentAt": own}]}
    (event,) = await take(collector, producer, batch)
    assert event["sentAt"] == "2026-11-28T10:00:00.000Z"


async def test_what_the_collector_leaves_out_is_in_the_events_story(collector: Collector, producer: Kept):
    """Its notes travel with the record, and the router's outcomes have them."""
    batch = {"sentAt": "x", "batch": [{**SENT, "timestamp": True}, SENT]}
    assert (await send(collector, "/v1/batch", batch)).json == {"success": True}
    first, second = producer.records
    assert read_notes(first.headers) == [("unreadable", "sentAt"), ("unreadable", "timestamp")]
    assert read_notes(second.headers) == [("unreadable", "sentAt")]
    routed = await route(producer.records)
    expected = [(0, "unreadable", "sentAt"), (0, "unreadable", "timestamp"), (1, "unreadable", "sentAt")]
    assert routed.notes == expected


async def test_what_the_router_leaves_out_is_in_the_events_story():
    """Of another producer's record the router notes it, and only once."""
    record = Record(TOPICS.events, 0, None, orjson.dumps({**SENT, "sentAt": "x"}), [("turnout-source", b"web")])
    assert (await route([record])).notes == [(0, "unreadable", "sentAt")]


@pytest.mark.parametrize("header", [b"", b"x", b"5", b"[1]", b'[["a"]]', b"{}", b'[["a", 1]]', None])
async def test_a_header_for_notes_that_another_producer_writes_is_harmless(header: bytes | None):
    """The event is routed."""
    headers: Any = [("turnout-source", b"web"), ("turnout-noted", header)]
    routed = await route([Record(TOPICS.events, 0, None, orjson.dumps(SENT), headers)])
    assert len(routed.payloads["one"]) == 1


async def test_depth_is_checked_on_entry(collector: Collector, producer: Kept):
    """62 levels in the properties are taken, more are refused alone, with a batch's key in the body too."""
    deep = {n: b'{"type":"page","userId":"u","properties":{"a":%b}}' % (b"[" * n + b"]" * n) for n in (62, 63, 250)}
    body = b'{"writeKey":"web-key","batch":[%b]}' % b",".join(deep.values())
    answer = await exchange(collector, post("/v1/batch", body, key=None))
    assert [(each["index"], each["code"]) for each in answer.json["rejected"]] == [(1, "too_deep"), (2, "too_deep")]
    assert len(producer.events()) == 1
    answer = await exchange(collector, post("/v1/page", deep[250]))
    assert (answer.status, answer.json["code"]) == (400, "too_deep")


async def test_surrogates_cost_no_neighbour(collector: Collector, producer: Kept):
    """With the write key in the body, both events are taken, one with U+FFFD."""
    body = (
        rb'{"writeKey":"web-key","batch":[{"type":"track","event":"cut","anonymousId":"a","properties":'
        rb'{"t\ud83d":"New \ud83d"}},{"type":"track","event":"good","anonymousId":"a"}]}'
    )
    answer = await exchange(collector, post("/v1/batch", body, key=None))
    assert (answer.status, answer.json) == (200, {"success": True})
    assert [event.get("properties") for event in producer.events()] == [{"t\ufffd": "New \ufffd"}, None]
