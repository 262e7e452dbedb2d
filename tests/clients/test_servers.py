"""Server SDKs, configured only with the collector's address and a write key."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from streams import events
from tests.clients.collecting import BODY_BYTES, EVENT_BYTES, JITSU_KEY, KEY, Collector
from tests.clients.proxy import Proxy
from tests.clients.sdk import Run, Sdk
from tests.streams.tracking.helpers import until

pytestmark = pytest.mark.clients

ALL = [
    Sdk("segment-python"),
    Sdk("rudderstack-python", waits=False),
    Sdk("segment-node"),
    Sdk("segment-node-old", waits=False),
    Sdk("rudderstack-node"),
    Sdk("segment-go", waits=False, gives_up=False),
    Sdk("segment-java", patient=True),
    Sdk("rudderstack-java", patient=True),
]
JITSU = "jitsu-node"
TEXT = "ünï \u202e\u0000 日本語 😀"
Begin = Callable[..., Run]


@pytest.fixture(params=ALL, ids=[sdk.name for sdk in ALL])
def sdk(request: pytest.FixtureRequest) -> Sdk:
    """Return each SDK."""
    return request.param


@pytest.fixture
def user() -> str:
    """Return a user that is unique to the test."""
    return f"user-{uuid4()}"


@pytest.fixture
def begin(sdk: Sdk, proxy: Proxy, tmp_path: Path) -> Iterator[Begin]:
    """Return a function that starts a program with these calls through the SDK; it ends with the test."""
    begun = []

    def begin(*calls: dict[str, Any], key: str = KEY) -> Run:
        run = Run(sdk.name, f"http://127.0.0.1:{proxy.port}", key, calls, tmp_path)
        begun.append(run)
        return run

    yield begin
    for run in begun:
        run.kill()


def track(user: str, **properties: Any) -> dict[str, Any]:
    return {"type": "track", "userId": user, "event": "Order Completed", "properties": properties}


def test_all_kinds_of_events_arrive_as_they_were_sent(user: str, begin: Begin, collector: Collector):
    """Each of the six calls is in the topic once, with non-ASCII letters intact."""
    traits = {"name": TEXT, "plan": "pro"}
    begin(
        {"type": "identify", "userId": user, "traits": traits},
        track(user, text=TEXT, total=59.9, products=[{"sku": "B-7", "tags": [TEXT, None, True]}]),
        {"type": "page", "userId": user, "name": TEXT, "properties": {"url": "https://shop.example.com/é?q=ü"}},
        {"type": "screen", "userId": user, "name": "Main", "properties": {"depth": 3}},
        {"type": "group", "userId": user, "groupId": "g-1", "traits": traits},
        {"type": "alias", "userId": user, "previousId": "before"},
    ).end()
    taken = {event["type"]: events.normalize(event) for event in collector.events(user)}
    assert len(taken) == len(collector.events(user)) == 6
    assert {event["userId"] for event in taken.values()} == {user}
    assert taken["identify"]["traits"] == traits
    assert taken["track"]["event"] == "Order Completed"
    assert taken["track"]["properties"] == {
        "text": TEXT,
        "total": 59.9,
        "products": [{"sku": "B-7", "tags": [TEXT, None, True]}],
    }
    assert taken["page"]["name"] == TEXT
    assert taken["page"]["properties"]["url"] == "https://shop.example.com/é?q=ü"
    assert (taken["screen"]["name"], taken["screen"]["properties"]["depth"]) == ("Main", 3)
    assert (taken["group"]["groupId"], taken["group"]["traits"]) == ("g-1", traits)
    assert taken["alias"]["previousId"] == "before"
    assert len({event["messageId"] for event in taken.values()}) == 6
    assert all(event["sentAt"] and event["timestamp"] and event["receivedAt"] for event in taken.values())


def test_what_the_collector_could_not_take_is_sent_again(
    sdk: Sdk, user: str, begin: Begin, proxy: Proxy, collector: Collector
):
    """After 500 and 429 the same event is sent a third time, after Retry-After if the SDK supports it."""
    if sdk.patient:
        pytest.skip("it takes half a minute to send anything again")
    proxy.faults += [(500, {}), (429, {"Retry-After": "2"})]
    run = begin(track(user))
    until(lambda: collector.events(user), 120)
    run.end()
    first, second, third = proxy.events
    assert [one.status for one in proxy.events] == [500, 429, 200]
    assert not sdk.waits or third.at - second.at >= 2
    assert len({one.body["batch"][0]["messageId"] for one in (first, second, third)}) == 1
    assert len(collector.events(user)) == 1


@pytest.mark.parametrize(("status", "key"), [(413, KEY), (401, "wrong")], ids=["too-large", "wrong-key"])
def test_a_refused_batch_is_no_storm(
    status: int, key: str, sdk: Sdk, user: str, begin: Begin, proxy: Proxy, collector: Collector
):
    """A batch that the collector refuses is dropped, or retried after growing delays."""
    large = "x" * (EVENT_BYTES // 2)
    # analytics-java has the write key in the body, which must be read to find it wrong.
    run = begin(
        *(track(user, text=large) for _ in range(BODY_BYTES // len(large) + 1 if status == 413 else 2)), key=key
    )

    def refused() -> list[float]:
        return [one.at for one in proxy.events if one.status == status]

    until(lambda: len(refused()) >= (1 if sdk.gives_up else 4), 120)
    run.end()
    if sdk.gives_up:
        # rudder-sdk-node sends its first event alone.
        assert len(refused()) <= 2
        assert len(proxy.events) == len({json.dumps(one.body["batch"]) for one in proxy.events})
    else:
        # 0.1, 0.2 and 0.4 seconds lie between the first four attempts.
        assert refused()[3] - refused()[0] > 0.5


def test_a_refused_event_holds_up_none_of_its_batch(user: str, begin: Begin, proxy: Proxy, collector: Collector):
    """The batch is accepted in one request, and its refused events are in the rejected topic."""
    begin(track(user, n=1), track(user, n=2, text="x" * EVENT_BYTES), track(user, n=3)).end()
    assert {one.status for one in proxy.events} == {200}
    assert sorted(event["properties"]["n"] for event in collector.events(user)) == [1, 3]
    assert [event["properties"]["n"] for event in collector.rejected(user)] == [2]


def test_jitsus_client(user: str, proxy: Proxy, collector: Collector, tmp_path: Path):
    """Each call of Jitsu's Node client is accepted in a request of its own, with the write key in X-Write-Key."""
    calls = [
        {"type": "identify", "userId": user, "traits": {"name": TEXT}},
        {"type": "group", "groupId": "g-1", "traits": {"name": user}},
        {"type": "page", "name": "Home", "properties": {"url": f"https://shop.example.com/{user}"}},
        {**track(user), "properties": {"text": TEXT, "customer": user}},
    ]
    run = Run(JITSU, f"http://127.0.0.1:{proxy.port}", JITSU_KEY, calls, tmp_path)
    try:
        run.end()
    finally:
        run.kill()
    assert {one.status for one in proxy.events} == {200}
    taken = {event["type"]: event for event in collector.events(user)}
    assert sorted(taken) == ["group", "identify", "page", "track"]
    assert taken["track"]["properties"]["text"] == TEXT
    assert (taken["identify"]["userId"], taken["identify"]["traits"]["name"]) == (user, TEXT)
