import asyncio
import re
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from prometheus_client import REGISTRY

from streams.consent.policy import Consent, ConsentCategory
from streams.kafka.acks import PendingAcks
from streams.kafka.producer import Producer
from streams.kafka.settings import Broker
from streams.records.dead_letter import DeadLetter
from streams.records.delivery import DeliveryRecord
from streams.records.event import Origin, event_headers, replay_header
from streams.records.format import Headers
from streams.records.outcomes import Outcome, OutcomeDetail, OutcomeInterval, Outcomes
from streams.records.rejected import Rejected
from streams.routing.eligibility import Sample
from streams.routing.router import make_router
from streams.routing.ruleset import CurrentRules, Route, RuleSet
from streams.routing.settings import RouterSettings
from streams.sources.source import Source, Sources
from streams.steps.enrichment.step import EnrichmentStep
from streams.steps.plan import Plan, PlanStep
from streams.steps.source_rules import SourceRulesStep
from streams.steps.step import Blocked
from streams.suppression.filter import SuppressedUsers
from streams.topics import Topics
from tests.support.panics import panic
from tests.support.reading import committed, read, until
from transforms import read_rules
from transforms.documents import Document

pytestmark = pytest.mark.anyio

PURCHASES = """
rules:
  - name: purchase
    when: 'type = "track" and event = "Order Completed"'
    map: {name: purchase, value: {"@number": $.properties.revenue}, user: $.userId}
  - {name: heartbeat, when: 'event = "Heartbeat"', drop: true}
"""
EVERYTHING = "otherwise: {event: $}"
ADS = {"consent": {"categoryPreferences": {"ads": True}}}


def route(topics: Topics, integration: str, text: str, **options: Any) -> Route:
    rules, mistakes = read_rules(Document.parse(text, f"{integration}.yaml"))
    assert rules, mistakes
    return Route(integration, topics.forward(integration), rules.apply, not rules.match_all, **options)


def event(number: int, **fields: Any) -> dict[str, Any]:
    return {"type": "track", "event": "Order Completed", "userId": "u", "messageId": f"m{number}", **fields}


class Bench:
    """Run a router with two routes on the real Kafka, and read its results."""

    def __init__(self, broker: Broker, topics: Topics, routes: Sequence[Route]) -> None:
        self.broker, self.topics = broker, topics
        declared = [
            Source.of("web", ["key-of-web"]),
            Source.of("server", []),
            Source.of("trusting", [], assume="granted"),
        ]
        sources = Sources(declared)
        self.holder = CurrentRules(RuleSet("v1", sources, routes))
        self.suppressed = SuppressedUsers()
        self.failed: list[str] = []
        self.sent = 0

    async def send(self, *values: Any, headers: Headers | None = None, key: bytes | None = b"u") -> None:
        producer = Producer(self.broker, client_id="send")
        await producer.start()
        acks = PendingAcks()
        for value in values:
            encoded = value if value is None or isinstance(value, bytes) else orjson.dumps(value)
            producer.append(
                self.topics.events,
                0,
                acks,
                key=key,
                value=encoded,
                headers=event_headers("web") if headers is None else headers,
            )
        await acks.confirmed(120)
        await producer.stop()
        self.sent += len(values)

    @asynccontextmanager
    async def running(self):
        producer = Producer(self.broker, client_id="router", on_failure=lambda error: self.failed.append(repr(error)))
        await producer.start()
        pipeline = make_router(
            self.holder,
            self.topics,
            self.broker,
            producer,
            RouterSettings(),
            self.suppressed,
            fail=self.failed.append,
            grace=5,
        )
        await pipeline.app.start()
        self.pipeline = pipeline
        try:
            yield pipeline
            await until(lambda: self.is_done)
        finally:
            await pipeline.app.stop()
            await pipeline.stop_processor()
            await producer.stop()
        assert not self.failed

    @property
    def committed_offset(self) -> int:
        """Up to where all is finished."""
        progress = self.pipeline.progress
        return sum(progress.committable(tp) or 0 for tp in progress.partitions())

    @property
    def is_done(self) -> bool:
        """Whether all that was sent is finished."""
        return self.committed_offset >= self.sent

    async def route(self, *values: Any, **options: Any) -> None:
        await self.send(*values, **options)
        async with self.running():
            pass

    async def deliveries(self, integration: str) -> list[DeliveryRecord]:
        return [
            DeliveryRecord.decode(record.value) for record in await read(self.broker, self.topics.forward(integration))
        ]

    async def rejected(self) -> list[Rejected]:
        return [Rejected.decode(r.key, r.value, r.headers) for r in await read(self.broker, self.topics.rejected)]

    async def dead(self) -> list[DeadLetter]:
        return [DeadLetter.decode(record.value) for record in await read(self.broker, self.topics.dead)]

    async def outcomes(self, integration: str) -> dict[int, str]:
        found: dict[int, str] = {}
        for record in await read(self.broker, self.topics.outcomes):
            for span in Outcomes.decode(record.value).spans:
                if span.integration == integration:
                    for offset in range(span.first, span.last + 1):
                        assert offset not in found, "two outcomes for one offset"
                        found[offset] = f"{span.outcome}:{span.rule}"
        return found


@pytest.fixture
def bench(broker: Broker, topics: Topics) -> Bench:
    return Bench(broker, topics, [route(topics, "one", PURCHASES), route(topics, "two", EVERYTHING)])


async def test_an_event_becomes_one_delivery_for_each_integration_that_its_rules_choose(bench: Bench):
    """The delivery carries payload, coordinates, source and rule version; every offset has one outcome."""
    await bench.route(
        event(
            0, properties={"revenue": "9.50"}, timestamp="2026-01-02T03:04:05Z", receivedAt="2026-01-02T03:04:06.000Z"
        ),
        event(1, event="Heartbeat"),
        event(2, event="Other"),
    )
    (one,) = await bench.deliveries("one")
    assert one == DeliveryRecord(
        "m0",
        "purchase",
        "v1",
        "track",
        "Order Completed",
        "2026-01-02T03:04:05.000Z",
        "2026-01-02T03:04:06.000Z",
        "web",
        Origin(bench.topics.events, 0, 0),
        {"name": "purchase", "value": 9.5, "user": "u"},
    )
    assert [delivery.origin.offset for delivery in await bench.deliveries("two")] == [0, 1, 2]
    assert await bench.outcomes("one") == {0: "forwarded:purchase", 1: "filtered:heartbeat", 2: "filtered:"}
    assert await bench.outcomes("two") == dict.fromkeys(range(3), "forwarded:otherwise")
    assert (await committed(bench.broker, f"{bench.topics.prefix}.router", bench.topics.events))[0] == 3


async def test_bad_records_are_kept_byte_for_byte_and_hold_up_nobody(bench: Bench):
    """Invalid events are rejected with reason and coordinates, and neighbouring events are routed."""
    bad = [b"{", b"[1,2]", b"null", b'"x"', b"\xff\xfe", b'{"type":"page"}', b'{"type":"page","userId":1e999}']
    await bench.route(event(0), *bad, event(1))
    rejected = await bench.rejected()
    assert [found.value for found in rejected] == bad
    assert [found.reason for found in rejected[:3]] == ["json", "not_an_object", "not_an_object"]
    assert [found.origin for found in rejected] == [Origin(bench.topics.events, 0, n) for n in range(1, 8)]
    assert [delivery.id for delivery in await bench.deliveries("two")] == ["m0", "m1"]
    assert set(await bench.outcomes("one")) == {0, 8}


async def test_a_tombstone_and_a_null_key_pass(bench: Bench):
    """A tombstone is counted and acknowledged; an event without a key is routed."""
    await bench.route(None, event(0))
    await bench.route(event(1), key=None)
    assert await bench.outcomes("two") == {0: "filtered:", 1: "forwarded:otherwise", 2: "forwarded:otherwise"}
    assert len(await bench.deliveries("two")) == 2


async def test_the_source_comes_from_the_header_else_the_write_key(bench: Bench):
    """Unknown names and keys are rejected, and so are events with neither if there is no default."""
    await bench.route(event(0, writeKey="key-of-web"), event(1, writeKey="wrong"), event(2), headers=[])
    await bench.route(event(3), headers=event_headers("nobody"))
    assert [found.reason for found in await bench.rejected()] == ["unknown_source"] * 3
    assert [delivery.source for delivery in await bench.deliveries("two")] == ["web"]


async def test_a_repeated_message_id_is_forwarded_once_also_after_a_restart(bench: Bench):
    """The window of messageIds is read back when a partition comes; the repeats' outcome is `duplicate`."""
    await bench.route(event(0), event(0), event(1))
    await bench.route(event(1), event(2))
    assert [delivery.id for delivery in await bench.deliveries("two")] == ["m0", "m1", "m2"]
    assert await bench.outcomes("two") == {
        0: "forwarded:otherwise",
        1: "duplicate:",
        2: "forwarded:otherwise",
        3: "duplicate:",
        4: "forwarded:otherwise",
    }


async def test_an_event_without_time_gets_the_records_and_is_marked(bench: Bench):
    """A missing timestamp is the record's own, and the event says so."""
    await bench.route(event(0))
    (delivery,) = await bench.deliveries("two")
    assert delivery.payload["event"]["timestamp"] == delivery.time == delivery.received
    assert delivery.payload["event"]["turnout"] == {"timestamp": "record"}


async def test_a_mapping_that_raises_costs_its_own_delivery_only(broker: Broker, topics: Topics):
    """The delivery is a dead letter that names the rule; other events and other integrations flow."""
    from transforms import Failure

    def apply(event: Any) -> Sequence[tuple[str, Any]]:
        if event["messageId"] == "m1":
            return [("broken", Failure("broken", 4, 7, "one.yaml", "ZeroDivisionError"))]
        return [("fine", {"a": 1})]

    bench = Bench(broker, topics, [Route("one", topics.forward("one"), apply), route(topics, "two", EVERYTHING)])
    await bench.route(event(0), event(1), event(2))
    (letter,) = await bench.dead()
    assert (letter.integration, letter.reason, letter.detail) == ("one", "mapping", "one.yaml:4:7: ZeroDivisionError")
    assert letter.delivery["from"][2] == 1
    assert await bench.outcomes("one") == {0: "forwarded:fine", 1: "dead:broken", 2: "forwarded:fine"}
    assert len(await bench.deliveries("two")) == 3


async def test_a_delivery_over_the_record_limit_is_a_dead_letter(broker: Broker, topics: Topics):
    """A payload that a mapping makes too large for a record is dead, without affecting other events."""
    text = "otherwise: {a: $.properties.big, b: $.properties.big, c: $.properties.big}"
    bench = Bench(broker, topics, [route(topics, "one", text), route(topics, "two", EVERYTHING)])
    await bench.route(event(0), event(1, properties={"big": "x" * 900_000}), event(2))
    (letter,) = await bench.dead()
    assert letter.reason == "too_large"
    assert await bench.outcomes("one") == {0: "forwarded:otherwise", 1: "dead:otherwise", 2: "forwarded:otherwise"}
    assert len(await bench.deliveries("two")) == 3


async def test_every_rule_that_matches_delivers_where_the_file_says_all(broker: Broker, topics: Topics):
    """With `match: all` the delivery ids tell the rules apart, and each has its own outcome."""
    text = "match: all\nrules:\n  - {name: a, map: {rule: a}}\n  - {name: b, map: {rule: b}}"
    bench = Bench(broker, topics, [route(topics, "one", text)])
    await bench.route(event(0))
    assert [(delivery.id, delivery.payload) for delivery in await bench.deliveries("one")] == [
        ("m0:a", {"rule": "a"}),
        ("m0:b", {"rule": "b"}),
    ]


@pytest.mark.parametrize(
    ("options", "fields", "outcome"),
    [
        ({}, {"integrations": {"one": False}}, "opted_out"),
        ({}, {"integrations": {"All": False}}, "opted_out"),
        ({}, {"integrations": {"All": False, "one": True}}, None),
        ({}, {"integrations": {"All": False, "one": {"clientId": 1}}}, None),
        ({}, {"integrations": {"One": False}}, "opted_out"),
        ({"sample": Sample(0.0)}, {}, "sampled"),
        ({"sample": Sample(1.0)}, {}, None),
        ({"consent": Consent((ConsentCategory("ads"),))}, {}, "consent"),
        ({"consent": Consent((ConsentCategory("ads"),))}, {"context": ADS}, None),
    ],
)
def test_what_holds_an_event_back_is_its_outcome(options: dict[str, Any], fields: dict[str, Any], outcome: str | None):
    """Opt-out, sampling and consent each leave their own outcome; None lets the event through."""
    route = Route("one", "t.forward.one", lambda _: [], **options)
    held = [check(event(0, **fields), None) for check in route.checks]
    assert next((each.outcome for each in held if each), None) == outcome


async def test_what_lacks_consent_says_which(broker: Broker, topics: Topics):
    """The missing categories are in the outcomes' intervals; each source has its own default."""
    wants = Consent((ConsentCategory("ads"), ConsentCategory("stats")))
    bench = Bench(broker, topics, [route(topics, "one", EVERYTHING, consent=wants)])
    await bench.send(event(0), event(1), event(2, context=ADS), headers=event_headers("web"))
    await bench.route(event(3), event(4, context=ADS), headers=event_headers("trusting"))
    (record,) = await read(broker, topics.outcomes)
    assert Outcomes.decode(record.value).spans == [
        OutcomeInterval("one", "", "consent", 0, 1, "ads and stats"),
        OutcomeInterval("one", "", "consent", 2, 2, "stats"),
        OutcomeInterval("one", "", "consent", 4, 4, "stats"),
        OutcomeInterval("one", "otherwise", "forwarded", 3, 3),
    ]


async def test_an_integration_gets_events_of_its_own_sources_only(broker: Broker, topics: Topics):
    """`sources` of an integration filters, and opting out is recorded."""
    served = [
        route(topics, "one", EVERYTHING, sources=frozenset({"server"})),
        route(topics, "two", EVERYTHING, sources=frozenset({"web"})),
    ]
    bench = Bench(broker, topics, served)
    await bench.route(event(0), event(1, integrations={"two": False}))
    assert await bench.outcomes("one") == {0: "filtered:", 1: "filtered:"}
    assert await bench.outcomes("two") == {0: "forwarded:otherwise", 1: "opted_out:"}


async def test_new_rules_take_effect_at_a_run_and_name_their_version(bench: Bench):
    """The router reads the current rules once per run; earlier events keep their version."""
    await bench.send(event(0))
    async with bench.running():
        while not await bench.deliveries("two"):
            await asyncio.sleep(0.05)
        old = bench.holder.current
        bench.holder.current = RuleSet("v2", old.sources, [route(bench.topics, "two", "otherwise: {new: true}")])
        await bench.send(event(1))
        while len(await bench.deliveries("two")) < 2:
            await asyncio.sleep(0.05)
    first, second = await bench.deliveries("two")
    assert (first.rules, second.rules) == ("v1", "v2")
    assert second.payload == {"new": True}


async def test_a_source_mends_its_events_before_the_integrations_get_them(broker: Broker, topics: Topics):
    """Integrations see the mended event; dropped ones are filtered, spoilt ones rejected, each as it came."""
    text = """
rules:
  - {when: event = "order_done", map: {event: Order Completed, timestamp: '2026-01-02T03:04:05Z'}}
  - {when: event = "Noise", drop: true}
  - {when: event = "Odd", map: {event: null}}
"""
    rules, mistakes = read_rules(Document.parse(text, "web.yaml"))
    assert rules, mistakes
    bench = Bench(broker, topics, [route(topics, "one", PURCHASES)])
    sources = Sources([Source.of("web", [], [SourceRulesStep(rules, keep_unmatched=True)]), Source.of("server", [])])
    bench.holder.current = RuleSet("v1", sources, bench.holder.current.routes)
    odd = orjson.dumps(event(3, event="Odd"))
    await bench.send(event(1, event="order_done"), event(2, event="Noise"), odd, event(4))
    await bench.route(event(5, event="order_done"), headers=event_headers("server"))
    assert [(it.event, it.time, it.id) for it in await bench.deliveries("one")][:1] == [
        ("Order Completed", "2026-01-02T03:04:05.000Z", "m1")
    ]
    assert await bench.outcomes("one") == {
        1: "filtered:",
        4: "filtered:",
        0: "forwarded:purchase",
        3: "forwarded:purchase",
    }
    assert [(it.reason, it.value) for it in await bench.rejected()] == [("repair", odd)]


async def test_quarantined_events_are_kept_and_may_be_sent_again(bench: Bench):
    """The outcome is recorded for every integration; a repaired replay is not a repeat, but a second one is."""
    plan = Plan.model_validate(
        {
            "plan": "shop",
            "on_violation": "quarantine",
            "events": [{"event": "Order Completed", "properties": {"required": ["revenue"]}}],
        }
    )
    web = Source.of("web", [], [PlanStep(plan)])
    bench.holder.current = RuleSet("v1", Sources([web]), bench.holder.current.routes)
    await bench.send(event(0))
    mended, headers = event(0, properties={"revenue": 9}), [*event_headers("web"), replay_header(0, 0)]
    await bench.send(mended, mended, headers=headers)
    await bench.route(event(0))
    (rejected,) = await bench.rejected()
    detail = "shop: Order Completed: $.properties.revenue required"
    assert (rejected.reason, rejected.detail, rejected.source) == ("quarantined", detail, "web")
    assert orjson.loads(rejected.value or b"") == event(0)
    assert [delivery.id for delivery in await bench.deliveries("one")] == ["m0"]
    assert await bench.outcomes("one") == {0: "quarantined:", 1: "forwarded:purchase", 2: "duplicate:", 3: "duplicate:"}


async def test_what_a_plan_notes_stands_with_the_outcomes(bench: Bench):
    """A violation with `warn` is noted by offset, and the event is routed."""
    plan = Plan.model_validate({"plan": "shop", "events": [{"event": "Other"}]})
    web = Source.of("web", [], [PlanStep(plan)])
    bench.holder.current = RuleSet("v1", Sources([web]), bench.holder.current.routes)
    await bench.route(event(0))
    (record,) = await read(bench.broker, bench.topics.outcomes)
    assert list(Outcomes.decode(record.value).named) == [
        OutcomeDetail("", "", "noted", 0, "plan", "shop: track: unplanned_event")
    ]
    assert len(await bench.deliveries("one")) == 1


async def test_events_and_outcomes_are_counted(bench: Bench):
    """By integration and outcome, and rejected ones by reason."""

    def counts() -> list[float]:
        samples = (
            ("turnout_router_events_total", {}),
            ("turnout_router_outcomes_total", {"integration": "one", "outcome": "forwarded"}),
            ("turnout_router_outcomes_total", {"integration": "one", "outcome": "filtered"}),
            ("turnout_router_rejected_events_total", {"reason": "json"}),
        )
        return [REGISTRY.get_sample_value(name, labels) or 0 for name, labels in samples]

    before = counts()
    await bench.route(event(0), event(1), event(2, event="Other"), b"{")
    assert [after - was for after, was in zip(counts(), before, strict=True)] == [4, 2, 1, 1]


async def test_values_that_rules_left_out_are_counted(bench: Bench):
    """A number that JSON cannot hold is missing from the payload, and the delivery is forwarded."""

    def count() -> float:
        return REGISTRY.get_sample_value("turnout_router_left_out_values_total", {"directive": "@number"}) or 0

    before = count()
    await bench.route(event(0, properties={"revenue": "1e999"}), event(1, properties={"revenue": "5"}))
    assert count() - before == 1
    assert [delivery.payload for delivery in await bench.deliveries("one")] == [
        {"name": "purchase", "user": "u"},
        {"name": "purchase", "value": 5, "user": "u"},
    ]


async def test_an_enrichment_that_fails_is_noted_and_stops_nothing(bench: Bench):
    """A bot's event has its outcome and reason; an event whose enrichment failed continues unchanged, with a note."""

    def enrich(event: dict[str, Any]) -> dict[str, Any] | Blocked:
        if event["messageId"] == "m1":
            return Blocked(Outcome.FILTERED, "bot")
        return {"properties": {"revenue": 10 / (event["messageId"] != "m2")}}

    web = Source.of("web", [], [EnrichmentStep("worth", enrich, replaces=False)])
    bench.holder.current = RuleSet("v1", Sources([web]), bench.holder.current.routes)
    await bench.route(event(0), event(1), event(2))
    assert [each.payload.get("value") for each in await bench.deliveries("one")] == [10.0, None]
    assert await bench.outcomes("one") == {0: "forwarded:purchase", 1: "filtered:", 2: "forwarded:purchase"}
    (record,) = await read(bench.broker, bench.topics.outcomes)
    named = Outcomes.decode(record.value).named
    assert OutcomeDetail("one", "", "filtered", 1, "bot", "") in named
    assert OutcomeDetail("", "", "noted", 2, "enrichment", "worth") in named


def raise_for(numbers: set[int]) -> Callable[[Any], Sequence[tuple[str, Any]]]:
    """Rules that are broken for some events, and make a payload of the others."""

    def apply(event: Any) -> Sequence[tuple[str, Any]]:
        if int(event["messageId"][1:]) in numbers:
            raise KeyError("personal data")
        return [("fine", {"a": 1})]

    return apply


async def test_an_error_in_one_route_costs_that_integrations_delivery_only(broker: Broker, topics: Topics):
    """It is a dead letter `internal` with type and place; the other integration has the event, and the next flows."""
    routes = [Route("one", topics.forward("one"), raise_for({1})), route(topics, "two", EVERYTHING)]
    bench = Bench(broker, topics, routes)
    await bench.route(event(0), event(1), event(2))
    (letter,) = await bench.dead()
    assert (letter.integration, letter.reason, letter.delivery["from"][2]) == ("one", "internal", 1)
    assert re.fullmatch(r"KeyError at routing/test_router\.py:\d+", letter.detail)
    assert await bench.outcomes("one") == {0: "forwarded:fine", 1: "dead:", 2: "forwarded:fine"}
    assert await bench.outcomes("two") == dict.fromkeys(range(3), "forwarded:otherwise")


async def test_a_panic_in_one_route_costs_that_integrations_delivery_only(broker: Broker, topics: Topics):
    """A panic in a Rust library, which is not an Exception, does not stop the worker or other integrations."""

    def apply(event: Any) -> Sequence[tuple[str, Any]]:
        return panic() if event["messageId"] == "m1" else [("fine", {"a": 1})]

    bench = Bench(broker, topics, [Route("one", topics.forward("one"), apply), route(topics, "two", EVERYTHING)])
    await bench.route(event(0), event(1), event(2))
    (letter,) = await bench.dead()
    assert (letter.integration, letter.reason, letter.delivery["from"][2]) == ("one", "internal", 1)
    assert re.fullmatch(r"PanicException at support/panics\.py:\d+", letter.detail)
    assert await bench.outcomes("one") == {0: "forwarded:fine", 1: "dead:", 2: "forwarded:fine"}
    assert await bench.outcomes("two") == dict.fromkeys(range(3), "forwarded:otherwise")


async def test_a_panic_in_a_step_rejects_its_event_only(bench: Bench):
    """The event is rejected for the reason `internal`, and its neighbours are routed."""

    class Panicking:
        name = "panicking"

        def __call__(self, event: Any, _: Any) -> Any:
            return panic() if event["messageId"] == "m1" else event

    bench.holder.current = RuleSet("v1", Sources([Source.of("web", [], [Panicking()])]), bench.holder.current.routes)
    await bench.route(event(0), event(1), event(2))
    (rejected,) = await bench.rejected()
    assert (rejected.reason, orjson.loads(rejected.value or b"")) == ("internal", event(1))
    assert [delivery.id for delivery in await bench.deliveries("two")] == ["m0", "m2"]


async def test_an_enrichment_that_panics_leaves_the_event_as_it_was(bench: Bench):
    """It is noted like any failure of an enrichment, and the event is routed."""
    steps = [EnrichmentStep("odd", panic, replaces=False)]
    bench.holder.current = RuleSet("v1", Sources([Source.of("web", [], steps)]), bench.holder.current.routes)
    await bench.route(event(0))
    assert [delivery.id for delivery in await bench.deliveries("two")] == ["m0"]
    assert not await bench.rejected()


async def test_an_error_at_one_of_several_rules_keeps_what_the_others_made(
    broker: Broker, topics: Topics, monkeypatch: pytest.MonkeyPatch
):
    """Each rule of a file with `match: all` has its own outcome, before and after the one that failed."""
    append = Producer.append

    def fail_once(self: Producer, topic: str, *args: Any, **kwargs: Any) -> None:
        if topic == topics.forward("one") and b'"rule":"b"' in kwargs["value"]:
            raise KeyError
        append(self, topic, *args, **kwargs)

    monkeypatch.setattr(Producer, "append", fail_once)
    rules = "\n".join(f"  - {{name: {name}, map: {{rule: {name}}}}}" for name in "abc")
    bench = Bench(broker, topics, [route(topics, "one", f"match: all\nrules:\n{rules}")])
    await bench.route(event(0))
    assert [delivery.rule for delivery in await bench.deliveries("one")] == ["a", "c"]
    assert [(letter.delivery["rule"], letter.delivery["id"]) for letter in await bench.dead()] == [("b", "m0:b")]


async def test_an_error_before_the_routes_rejects_the_event(bench: Bench):
    """The record is kept byte for byte with the reason `internal`; it may be sent again, and its neighbours flow."""
    fails = True

    class Broken:
        name = "broken"

        def __call__(self, event: Any, _: Any) -> Any:
            if event["messageId"] == "m1" and fails:
                raise KeyError("personal data")
            return event

    bench.holder.current = RuleSet("v1", Sources([Source.of("web", [], [Broken()])]), bench.holder.current.routes)
    async with bench.running():
        await bench.send(event(0), event(1), event(2))
        await until(lambda: bench.is_done)
        fails = False
        await bench.send(event(1))
    (rejected,) = await bench.rejected()
    assert (rejected.reason, orjson.loads(rejected.value or b"")) == ("internal", event(1))
    assert re.fullmatch(r"KeyError at routing/test_router\.py:\d+", rejected.detail)
    assert [delivery.id for delivery in await bench.deliveries("two")] == ["m0", "m2", "m1"]


async def test_a_router_that_fails_for_most_events_stops_before_them(broker: Broker, topics: Topics):
    """It is reported, nothing of the failures is written, and the committed offset stays before them."""
    bench = Bench(broker, topics, [Route("one", topics.forward("one"), raise_for(set(range(100, 1100))))])
    await bench.send(*(event(n) for n in range(100)))
    async with bench.running():
        await until(lambda: bench.committed_offset == 100)
        await bench.send(*(event(n) for n in range(100, 1100)))
        await until(lambda: bool(bench.failed))
        bench.sent = 100
        (why,) = bench.failed
        bench.failed.clear()
    assert why == "router: more than half of 1,000 consecutive records failed"
    assert not await bench.dead()
    assert (await committed(broker, f"{topics.prefix}.router", topics.events))[0] == 100


@pytest.mark.parametrize("version", [b"2", b"99", b"x", b"", None, b"9" * 5000])
async def test_a_newer_or_unreadable_format_is_rejected(bench: Bench, version: bytes | None):
    """Anybody may write to the events topic, so the event is kept with its version, and the next flows."""
    await bench.send(event(0), headers=[("turnout-source", b"web"), ("turnout-version", version)])
    await bench.route(event(1))
    (rejected,) = await bench.rejected()
    assert (rejected.reason, orjson.loads(rejected.value or b"")) == ("newer_format", event(0))
    assert rejected.version == (version[:4096] if version is not None else None)
    assert [delivery.id for delivery in await bench.deliveries("two")] == ["m1"]


@pytest.mark.parametrize("headers", [[("turnout-source", None)], [("turnout-replay", None)], [("x", None)]])
async def test_a_header_without_a_value_stops_nobody(bench: Bench, headers: Any):
    """Neither when it is routed nor when the window is read back."""
    await bench.send(event(0, writeKey="key-of-web"), headers=headers)
    await bench.route(event(1))
    await bench.send(event(0, writeKey="key-of-web"), headers=headers)
    await bench.route(event(2))
    assert [delivery.id for delivery in await bench.deliveries("two")] == ["m0", "m1", "m2"]


async def test_rejected_events_do_not_count_as_seen(bench: Bench):
    """Events that are sent again after their source was configured are routed, also after a restart."""
    await bench.route(*(event(n) for n in range(8)), headers=event_headers("new"))
    assert len(await bench.rejected()) == 8
    old = bench.holder.current
    bench.holder.current = RuleSet("v2", Sources([Source.of("new", [])]), old.routes)
    await bench.route(*(event(n) for n in range(8)), headers=event_headers("new"))
    await bench.route(*(event(n) for n in range(9)), headers=event_headers("new"))
    assert [delivery.id for delivery in await bench.deliveries("two")] == [f"m{n}" for n in range(9)]


async def test_events_that_a_step_rejected_do_not_count_as_seen(bench: Bench):
    """Neither in a running router nor after a restart; quarantined ones do."""
    plan = Plan.model_validate({"plan": "shop", "unplanned_events": "reject", "events": [{"event": "Other"}]})
    old = bench.holder.current
    bench.holder.current = RuleSet("v1", Sources([Source.of("web", [], [PlanStep(plan)])]), old.routes)
    async with bench.running():
        await bench.send(event(0), event(1))
        await until(lambda: bench.committed_offset == 2)
        bench.holder.current = RuleSet("v2", Sources([Source.of("web", [])]), old.routes)
        await bench.send(event(0))
    await bench.route(event(1), event(0))
    assert [delivery.id for delivery in await bench.deliveries("two")] == ["m0", "m1"]
