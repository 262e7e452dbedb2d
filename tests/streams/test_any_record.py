"""Whatever a record holds, it ends in an outcome for every integration, and the good event after it flows."""

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.conformance.golden import EVENTS
from forwarders.api.contract import Response
from streams.routing.ruleset import Route, RuleSet
from streams.sources.source import Source, Sources
from streams.suppression.filter import SuppressedUsers, Suppression
from tests.support import golden
from tests.support.in_process import TOPICS, Pipeline
from tests.support.local_producer import LocalRecord

SOURCE = ("turnout-source", b"web")
GOOD = {**EVENTS["order-completed"]["everything"], "timestamp": "2999-01-01T00:00:00Z"}


class Bench(NamedTuple):
    """A pipeline with every forwarder, and what runs its coroutines."""

    pipeline: Pipeline
    run: Callable[[Any], Any]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    patched = pytest.MonkeyPatch()
    patched.setattr("streams.worker.guard.HOLD_SECONDS", 0.0)
    # Here most records fail on purpose.
    patched.setattr("streams.worker.guard.WINDOW_RECORDS", 10**9)

    async def answer(_: Any, request: Any) -> Response:
        if not isinstance(request.body, bytes | None):
            orjson.dumps(request.body)
        return Response(200, {}, b"{}")

    patched.setattr("streams.delivery.http.client.Client.send", answer)
    patched.setattr("streams.delivery.http.tokens.Tokens.get", no_token)
    patched.setattr("streams.delivery.flow.rates.Rates.wait", lambda *_: 0.0)
    loop = asyncio.new_event_loop()
    routes = [Route(name, TOPICS.forward(name), golden.of(name).preset.apply) for name in golden.NAMES]
    sources = Sources([Source.of("web", [], [Suppression(SuppressedUsers())])])
    forwarders = {name: golden.of(name).make() for name in golden.NAMES}
    pipeline = Pipeline(RuleSet("v", sources, routes), forwarders, tmp_path_factory.mktemp("spool"))
    loop.run_until_complete(pipeline.start())
    yield Bench(pipeline, loop.run_until_complete)
    loop.run_until_complete(pipeline.stop())
    loop.close()
    patched.undo()


async def no_token(_: Any) -> None:
    return None


def records_of(odd: Sequence[tuple[bytes | None, Any, Any, Any]]) -> list[LocalRecord]:
    """Each of the odd records, and a good one after it."""
    records = []
    for number, (value, key, headers, timestamp) in enumerate(odd):
        records.append(LocalRecord(TOPICS.events, 0, 2 * number, timestamp, key, value, tuple(headers)))
        good = orjson.dumps({**GOOD, "messageId": f"good{number}"})
        records.append(LocalRecord(TOPICS.events, 0, 2 * number + 1, 1_790_000_000_000, b"u", good, (SOURCE,)))
    return records


def check(bench: Bench, odd: Sequence[tuple[bytes | None, Any, Any, Any]]) -> None:
    names = set(golden.NAMES)
    bench.pipeline.windows.drop([(TOPICS.events, 0)])
    found = bench.run(bench.pipeline.take(records_of(odd)))
    good = {name: {"delivered"} for name in names}
    for number in range(len(odd)):
        fate = found.get(2 * number, {})
        assert "" in fate or set(fate) == names, f"no outcome for {names - set(fate)}"
        assert all(fate.values()), [name for name, outcomes in fate.items() if not outcomes]
        assert found[2 * number + 1] == good


def nested(depth: int, inner: Any = 1) -> Any:
    for _ in range(depth):
        inner = {"a": inner}
    return inner


ODD_VALUES: list[Any] = [
    *(None, True, 0, -1, 2**53 + 1, 2**63, 2**64, -(2**63) - 1, 1.5, 1e308, float("nan"), "", "x", "\x00\u202e😀"),
    *("\ud800", "u" * 2000, "2026-01-02", "2026-01-02T03:04:05", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59Z"),
    *(1e15, 1767323045, -62135596800, [], [1, [2, {"a": None}]], {}, {"": {"$": [".", "[]"]}}, {"a": [{}] * 50}),
    *(nested(100), nested(250), nested(253), nested(300), [nested(252)], {str(n): n for n in range(300)}),
]
PATHS = [(name,) for name in (*GOOD, "traits", "groupId", "previousId", "originalTimestamp", "name", "writeKey")]
PATHS += [("properties", name) for name in GOOD["properties"]] + [("context", name) for name in GOOD["context"]]
PATHS += [("properties", "products", 0), ("context", "traits", "email"), ("context", "consent", "tcString")]
USUAL = [event for variants in EVENTS.values() for event in variants.values()]


def put(event: dict[str, Any], path: Sequence[Any], value: Any) -> None:
    node: Any = event
    for step in path[:-1]:
        inner = node.get(step) if isinstance(node, dict) else None
        if not isinstance(inner, dict):
            if not isinstance(node, dict):
                return
            inner = node[step] = {}
        node = inner
    if isinstance(node, dict):
        node[path[-1]] = value


@st.composite
def events(draw: st.DrawFn) -> bytes:
    """Usual events, some parts of which are odd."""
    event = deepcopy(draw(st.sampled_from(USUAL)))
    event["messageId"] = draw(st.uuids()).hex
    for path, value in draw(
        st.lists(st.tuples(st.sampled_from(PATHS), st.sampled_from(ODD_VALUES)), min_size=1, max_size=3)
    ):
        put(event, path, value)
    return json.dumps(event).encode()


HEADER = st.tuples(
    st.sampled_from(["turnout-source", "turnout-version", "turnout-replay", "turnout-from", "x", ""]),
    st.none() | st.sampled_from([b"", b"web", b"1", b"2", b"99", b"9" * 5000, b"\xff", b"0:1"]) | st.binary(max_size=9),
)
HEADERS = (
    st.just([SOURCE]) | st.lists(HEADER, max_size=4) | st.lists(HEADER, max_size=3).map(lambda some: [SOURCE, *some])
)
KEYS = st.sampled_from([None, b"", b"u", b"\xff\xfe", b"k" * 70_000]) | st.binary(max_size=20)
TIMESTAMPS = st.sampled_from([None, -1, 0, 1, -(2**40), 2**40, 253_402_300_800_000, 2**53, 2**62])
RECORDS = st.tuples(events() | events() | st.none() | st.binary(max_size=50), KEYS, HEADERS, TIMESTAMPS)


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(odd=st.lists(RECORDS, min_size=4, max_size=8))
def test_any_record_ends_in_an_outcome(bench: Bench, odd: list[Any]):
    """Whatever value, key, headers and timestamp it has; the good event after it is delivered everywhere."""
    check(bench, odd)


@pytest.mark.parametrize("message_id", [None, "m"])
@pytest.mark.parametrize("depths", [range(240, 250), range(250, 260), [300, 900, 1100]])
def test_deep_events_end_in_an_outcome(bench: Bench, depths: Sequence[int], message_id: str | None):
    """Also if the event can be read, and its delivery, its request or its dead letter is one level too deep."""
    odd = []
    for depth in depths:
        deep = '{"a":' * depth + str(depth) + "}" * depth
        event = {**GOOD, "messageId": message_id and f"{message_id}{depth}", "properties": 0}
        value = json.dumps(event).replace('"properties": 0', f'"properties": {deep}')
        odd.append((value.encode(), b"u", [SOURCE], 1_790_000_000_000))
    check(bench, odd)


LONG = {"long": "x" * 1_000_000}


@pytest.mark.parametrize(
    ("value", "key", "headers"),
    [
        pytest.param(orjson.dumps(GOOD | {"messageId": "a"}), b"k" * 2_200_000, [SOURCE], id="key"),
        pytest.param(orjson.dumps(GOOD | {"messageId": "b"}), b"k" * 2_095_000, [SOURCE], id="key that nearly fits"),
        pytest.param(orjson.dumps(GOOD | {"messageId": "c"}), b"k", [SOURCE, ("x", b"h" * 2_200_000)], id="header"),
        pytest.param(orjson.dumps(GOOD | {"messageId": "d"}), b"k", [(SOURCE[0], b"h" * 2_200_000)], id="source"),
        pytest.param(b"[" + b"1" * 2_200_000, b"k" * 100_000, [SOURCE], id="value"),
        pytest.param(orjson.dumps(GOOD | {"messageId": "e", "receivedAt": LONG, "x": LONG}), b"k", [SOURCE], id="time"),
        pytest.param(orjson.dumps(GOOD | {"messageId": "f", "properties": LONG | {"x": LONG}}), b"k", [SOURCE], id="p"),
        pytest.param(orjson.dumps(GOOD | {"messageId": "g"}), b"k", [SOURCE] * 50_000, id="many headers"),
    ],
)
def test_huge_parts_of_a_record_end_in_an_outcome(bench: Bench, value: bytes, key: bytes, headers: Any):
    """More than a record of Turnout's own topics may hold is dropped from it, never the outcome."""
    check(bench, [(value, key, headers, 1_790_000_000_000)])
