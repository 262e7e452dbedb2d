from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from deploy.live.live_view import MAX_OPEN_EVENTS, OUTCOME_TIMEOUT_SECONDS, LiveFilter, LiveView
from streams.records.delivery import DeliveryRecord
from streams.records.event import Origin, event_headers
from streams.records.outcomes import (
    FORWARDED,
    NOTED,
    Outcome,
    OutcomeDetail,
    OutcomeInterval,
    Outcomes,
    Stage,
)
from streams.records.rejected import rejected_headers
from streams.topics import Topics

TOPICS = Topics(prefix="t")


class Bench:
    """A trail of two integrations, and records to feed it."""

    def __init__(self, only: LiveFilter | None = None) -> None:
        active = SimpleNamespace(state="active")
        integrations = {"one": active, "two": active, "old": SimpleNamespace(state="draining")}
        self.view = LiveView(TOPICS, integrations, {"shop.orders": "orders"}, only)  # type: ignore[arg-type]

    def read(self, topic: str, value: bytes | None, offset: int = 7, headers: Any = ()) -> None:
        self.view.read(topic, SimpleNamespace(partition=1, offset=offset, key=b"u", value=value, headers=headers))

    def event(self, offset: int = 7, trace: bytes | None = None, source: str = "web", **fields: Any) -> None:
        event = {"type": "track", "event": "E", "userId": "u", **fields}
        self.read(TOPICS.events, orjson.dumps(event), offset, event_headers(source, trace))

    def outcome(
        self, integration: str, outcome: str, rule: str = "r", first: int = 7, last: int = 7, reason: str = ""
    ) -> None:
        named = [OutcomeDetail(integration, rule, outcome, first, reason, "because")] if reason else []
        spans = [OutcomeInterval(integration, rule, outcome, first, last)]
        self.read(TOPICS.outcomes, Outcomes(Stage.ROUTER, TOPICS.events, 1, "v", spans, named).encode(), 0)

    def delivery(self, integration: str, payload: dict[str, Any]) -> None:
        origin = Origin(TOPICS.events, 1, 7)
        delivery = DeliveryRecord("m", "r", "v", "track", "E", "t", "t", "web", origin, payload)
        self.read(TOPICS.forward(integration), delivery.encode(), 0)

    def news(self, later: float = 0.0) -> list[tuple[str, set[tuple[str, str]], list[str]]]:
        """Updates have the source, each integration's outcome, and the integrations without one."""
        from time import monotonic

        return [
            (seen.source, {(fate.integration, fate.outcome) for fate in fates}, list(pending))
            for seen, fates, pending in self.view.updates(monotonic() + later)
        ]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_told_when_all_have_answered(bench):
    """An event is reported once, with every integration's outcome, as soon as all have one."""
    bench.event()
    bench.outcome("one", FORWARDED)
    bench.outcome("two", Outcome.FILTERED, rule="")
    assert bench.news() == []
    bench.outcome("one", Outcome.DELIVERED)
    assert bench.news() == [("web", {("one", "delivered"), ("two", "filtered")}, [])]
    assert bench.news(later=OUTCOME_TIMEOUT_SECONDS + 1) == []


def test_any_order(bench):
    """Records may come in any order: each topic is read on its own."""
    bench.outcome("one", Outcome.DELIVERED)
    bench.outcome("one", FORWARDED)
    bench.outcome("two", Outcome.SAMPLED)
    bench.delivery("one", {"a": 1})
    assert bench.news() == []
    bench.event()
    ((seen, fates, _),) = bench.view.updates(0)
    assert seen.event["event"] == "E"
    assert [(fate.outcome, fate.payload) for fate in fates] == [("delivered", {"a": 1}), ("sampled", None)]


def test_slow_integration(bench):
    """A slow vendor does not delay an event: its outcome is reported later."""
    bench.event()
    bench.outcome("one", FORWARDED)
    bench.outcome("two", Outcome.DELIVERED)
    assert bench.news(later=OUTCOME_TIMEOUT_SECONDS + 1) == [("web", {("two", "delivered")}, ["one"])]
    assert bench.news(later=OUTCOME_TIMEOUT_SECONDS + 2) == []
    bench.outcome("one", Outcome.DEAD)
    assert bench.news(later=OUTCOME_TIMEOUT_SECONDS + 3) == [("web", {("one", "dead")}, [])]


def test_delivered_beats_dead(bench):
    """Of two outcomes that a redelivery gave, delivered counts."""
    bench.event()
    bench.outcome("one", Outcome.DELIVERED)
    bench.outcome("one", Outcome.DEAD)
    bench.outcome("two", Outcome.DEAD)
    bench.outcome("two", Outcome.DELIVERED)
    assert bench.news() == [("web", {("one", "delivered"), ("two", "delivered")}, [])]


def test_reason(bench):
    """The reason of an outcome is reported with it."""
    bench.event()
    bench.outcome("one", Outcome.DEAD, reason="mapping")
    bench.outcome("two", Outcome.FILTERED)
    ((_, fates, _),) = bench.view.updates(0)
    assert [fate.reason for fate in fates] == ["mapping: because", ""]


def test_notes(bench):
    """Notes about an event, such as by its plan, are reported with it, whichever arrives first."""
    note = OutcomeDetail("", "", NOTED, 7, "plan", "shop: track: unplanned_event")
    bench.read(TOPICS.outcomes, Outcomes(Stage.ROUTER, TOPICS.events, 1, "v", [], [note]).encode(), 0)
    bench.event()
    bench.outcome("one", Outcome.FILTERED)
    bench.outcome("two", Outcome.FILTERED)
    ((seen, _, _),) = bench.view.updates(0)
    assert seen.notes == ["plan: shop: track: unplanned_event"]


@pytest.mark.parametrize("event_first", [True, False])
def test_rejected_event(bench, event_first):
    """An event that the router rejected is reported as rejected without waiting for outcomes."""
    steps = [
        bench.event,
        lambda: bench.read(TOPICS.rejected, b"{}", 0, rejected_headers("type", "no", "web", Origin("t.events", 1, 7))),
    ]
    for step in steps if event_first else reversed(steps):
        step()
    assert [it.reason for it in bench.view.rejected()] == ["type"]
    assert bench.news(later=OUTCOME_TIMEOUT_SECONDS + 1) == []
    assert bench.view.rejected() == []


def test_flood(bench):
    """Outcomes of any number of events keep no more than the last of them."""
    for integration in ("one", "two"):
        bench.outcome(integration, Outcome.FILTERED, first=0, last=10_000_000)
    bench.event(offset=10_000_000)
    assert len(bench.news()) == 1
    assert len(bench.view._seen) <= MAX_OPEN_EVENTS


@pytest.mark.parametrize("value", [None, b"", b"{", b"[]", b'{"v": 99}'])
@pytest.mark.parametrize("topic", [TOPICS.events, TOPICS.outcomes, TOPICS.rejected, TOPICS.forward("one")])
def test_unreadable_record(bench, topic, value):
    """A record that cannot be read is passed over."""
    bench.read(topic, value)
    bench.event(offset=8)
    assert bench.news() == []


def test_a_topic_of_others_has_offsets_of_its_own(bench):
    """An event in it is its source's, and none of those at the same place in the events topic."""
    bench.event()
    bench.read("shop.orders", b'{"type":"track","event":"E","userId":"u"}', headers=event_headers("web"))
    for name in ("one", "two"):
        spans = [OutcomeInterval(name, "r", Outcome.DELIVERED, 7, 7)]
        bench.read(TOPICS.outcomes, Outcomes(Stage.ROUTER, "shop.orders", 1, "v", spans, []).encode(), 0)
    assert bench.news() == [("orders", {("one", "delivered"), ("two", "delivered")}, [])]


@pytest.mark.parametrize(
    ("only", "hit", "miss"),
    [
        (LiveFilter(sources=frozenset({"web"})), {}, {"source": "server"}),
        (LiveFilter(events=frozenset({"E"})), {}, {"event": "F"}),
        (LiveFilter(events=frozenset({"page"})), {"type": "page", "event": None}, {}),
        (LiveFilter(events=frozenset({"Home"})), {"type": "page", "event": None, "name": "Home"}, {"event": None}),
        (LiveFilter(users=frozenset({"a1"})), {"anonymousId": "a1"}, {"anonymousId": "a2"}),
        (LiveFilter(users=frozenset({"u", "v"})), {"userId": "v"}, {"userId": "w"}),
        (LiveFilter(traces=frozenset({"my-test"})), {"trace": b"my-test"}, {"trace": b"my-test\x1b"}),
        (LiveFilter(sources=frozenset({"web"}), users=frozenset({"x"})), {"userId": "x"}, {}),
    ],
)
def test_filter_of_events(only: LiveFilter, hit: dict[str, Any], miss: dict[str, Any]):
    """Events that do not match are not shown and use no memory, whichever record comes first."""
    bench = Bench(only)
    bench.outcome("one", Outcome.DELIVERED)
    bench.event(7, **miss)
    bench.outcome("two", Outcome.DELIVERED)
    assert bench.news(later=OUTCOME_TIMEOUT_SECONDS + 1) == []
    assert not bench.view._seen
    bench.event(8, **hit)
    for name in ("one", "two"):
        bench.outcome(name, Outcome.DELIVERED, first=8, last=8)
    ((_, outcomes, _),) = bench.news()
    assert outcomes == {("one", "delivered"), ("two", "delivered")}


def test_filter_of_integrations():
    """Only the outcomes of the named integrations are shown and waited for, and only their deliveries are read."""
    bench = Bench(LiveFilter(integrations=frozenset({"two"})))
    assert TOPICS.forward("one") not in bench.view.names
    bench.event()
    bench.outcome("one", Outcome.DEAD)
    assert bench.news() == []
    bench.outcome("two", Outcome.DELIVERED)
    assert bench.news() == [("web", {("two", "delivered")}, [])]
    bench.read(TOPICS.rejected, b"{}", 0, rejected_headers("type", "no", "web"))
    assert bench.view.rejected() == []


def test_filter_of_outcomes():
    """An event is shown for each matching outcome, also a late one, and never without."""
    bench = Bench(LiveFilter(outcomes=frozenset({"dead"})))
    bench.event()
    bench.outcome("one", Outcome.DELIVERED)
    assert bench.news(later=OUTCOME_TIMEOUT_SECONDS + 1) == []
    bench.outcome("two", Outcome.DEAD)
    assert bench.news(later=OUTCOME_TIMEOUT_SECONDS + 2) == [("web", {("two", "dead")}, [])]
    bench.read(TOPICS.rejected, b"{}", 0, rejected_headers("type", "no", "web"))
    assert bench.view.rejected() == []


def test_filter_of_rejected_events():
    """A rejected event is chosen by its own fields; one that is not JSON matches no name and no user."""
    bench = Bench(LiveFilter(users=frozenset({"u"}), outcomes=frozenset({"rejected"})))
    for value in (b'{"userId": "u"}', b'{"userId": "v"}', b"{"):
        bench.read(TOPICS.rejected, value, 0, rejected_headers("type", "no", "web"))
    assert [it.value for it in bench.view.rejected()] == [b'{"userId": "u"}']
    bench = Bench(LiveFilter(traces=frozenset({"mine"})))
    for trace in (b"mine", b"other", None):
        bench.read(TOPICS.rejected, b"{}", 0, rejected_headers("type", "no", "web", trace=trace))
    assert len(bench.view.rejected()) == 1


def test_too_many_open_events(bench: Bench):
    """Beyond the limit the oldest event is shown without its missing outcomes, so that none is left out."""
    for offset in range(MAX_OPEN_EVENTS + 3):
        bench.event(offset)
    assert bench.news() == [("web", set(), ["one", "two"])] * 3
    assert len(bench.view._seen) == MAX_OPEN_EVENTS
