"""`turnout explain` agrees with the real router on any record: outcomes, reasons, and the bytes of deliveries."""

import asyncio
import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.cli.main import main
from deploy.config.configuration import Configuration, read_configuration
from deploy.dryrun.preview import decode_event
from deploy.replay.remapping import Remapper
from streams.events import EventError
from streams.ledger.outcome_buffer import MAX_DETAIL_CHARACTERS
from streams.records.delivery import DeliveryRecord
from streams.records.format import MAX_TEXT_CHARACTERS
from streams.records.outcomes import FORWARDED, NOTED, Outcomes
from streams.records.rejected import Rejected
from streams.records.size import HEADROOM, LARGEST_RECORD_BYTES
from tests.streams.test_any_record import USUAL, put
from tests.streams.test_any_record import events as odd_events
from tests.support import fuzzing
from tests.support.in_process import TOPICS, Pipeline
from tests.support.local_producer import LocalRecord

NOW = 1_790_000_000.0

FILES = {
    "turnout.yaml": f"""
prefix: {TOPICS.prefix}
partitions: {TOPICS.partitions}
suppression: {{file: suppressed.txt}}
consent: {{gpc_denies: [ads]}}
""",
    "suppressed.txt": "suppressed-user\n",
    "plans/shop.yaml": """
plan: shop
unplanned_events: warn
events:
  - {event: Order Completed, on_violation: omit, properties: {properties: {total: {type: number}}}}
  - {event: Quarantined, on_violation: quarantine, properties: {required: [missing]}}
  - {event: Rejected, on_violation: reject, properties: {required: [missing]}}
""",
    "sources/web.yaml": """
source: web
write_keys: ['${WEB_KEY}']
kinds: [track, page, screen, identify, group]
limits: {depth: 12}
context: {app: {name: shop}}
plan: shop
enrich: {timestamp: {}, identity: {}, ip: {}, campaign: {}}
match: all
rules:
  - {name: dropped, when: event = "Dropped", drop: true}
  - {name: renamed, when: event = "Renamed", map: {event: Order Completed, messageId: other}}
  - {name: backdated, when: event = "Backdated", map: {receivedAt: '2020-01-02T03:04:05Z', timestamp: null}}
  - {name: broken, when: event = "Invalid", map: {event: null}}
""",
    "sources/server.yaml": "source: server\nwrite_keys: ['${SERVER_KEY}']\nconsent: {assume: granted}\n",
    "integrations/grow.yaml": """
integration: grow
forwarder: webhook
settings: {url: 'https://a.example/'}
match: all
rules:
  - {name: whole, map: {event: $}}
  - {name: thrice, when: type = "track", map: {a: $.properties.big, b: $.properties.big, c: $.properties.big}}
  - {name: text, when: event = "Order Completed", map: {"@path": $.userId}}
""",
    "integrations/ads.yaml": """
integration: ads
forwarder: webhook
settings: {url: 'https://a.example/'}
sources: [web]
consent: {all: [ads]}
rules:
  - {name: order, when: event = "Order Completed", map: {total: {"@number": $.properties.total}, at: $.receivedAt}}
  - {name: noise, when: event = "Heartbeat", drop: true}
otherwise: {type: $.type, at: $.timestamp}
""",
    "integrations/half.yaml": """
integration: half
forwarder: ga4
preset: ga4
settings: {measurement_id: G-1, api_secret: '${GA4_SECRET}'}
sample: {rate: 0.5, by: messageId}
""",
}

Result = dict[tuple[str, str], dict[str, Any]]
"""By integration and rule what the router decided, as `explain --json` has it."""


class Decided(NamedTuple):
    """What became of one record: why it was rejected, and its outcomes."""

    rejected: dict[str, str] | None
    outcomes: Result


class Bench:
    """The real router of a configuration, and its folder."""

    def __init__(self, folder: Path, loop: asyncio.AbstractEventLoop) -> None:
        self.folder, self.loop = folder, loop
        self.configuration: Configuration = read_configuration(folder)
        self.router = Pipeline(self.configuration.rule_set(), {}, folder / "spool", clock=lambda: NOW)

    def route(self, value: bytes, headers: Any) -> Decided:
        """Route a record that is the first of the events topic, with the key that the collector would give it."""
        self.router.windows.drop([(TOPICS.events, 0)])
        record = LocalRecord(TOPICS.events, 0, 0, None, key_of(value, headers, self.configuration), value, headers)
        self.loop.run_until_complete(self.router.take([record]))
        return decided(self.router)

    def explain(self, value: bytes, headers: Any) -> dict[str, Any]:
        """Run `turnout explain --json` of the same bytes."""
        options = [f"--header={name}={text.decode(errors='surrogateescape')}" for name, text in headers]
        arguments = ["explain", "--event", "-", "--json", "--config", str(self.folder), *options]
        result = CliRunner().invoke(main, arguments, input=value, catch_exceptions=False)
        data: dict[str, Any] = json.loads(result.output)
        rejected = data["rejected"] and data["rejected"]["reason"] != "quarantined"
        assert result.exit_code == (1 if rejected else 0)
        return data


def key_of(value: bytes, headers: Any, configuration: Configuration) -> bytes:
    """Return the key of an event's record, b"u" for an invalid event."""
    try:
        return decode_event(value, configuration.sources, headers=headers).key or b""
    except EventError:
        return b"u"


def decided(pipeline: Pipeline) -> Decided:
    """Read a router's records about one input record."""
    records = pipeline.producer.records
    rejections = [Rejected.decode(it.key, it.value, it.headers) for it in records.get(TOPICS.rejected, [])]
    rejected = {"reason": rejections[0].reason, "detail": rejections[0].detail} if rejections else None
    outcomes: Result = {}
    for record in records.get(TOPICS.outcomes, []):
        written = Outcomes.decode(record.value)
        for span in written.spans:
            place = (span.integration, span.rule)
            assert place not in outcomes
            outcomes[place] = {"outcome": span.outcome, "reason": "", "detail": span.detail, "record": None}
        for named in written.named:
            if named.outcome != NOTED:
                outcomes[named.integration, named.rule] |= {"reason": named.reason, "detail": named.detail}
    for name in ("grow", "ads", "half"):
        for record in records.get(TOPICS.forward(name), []):
            assert record.value is not None
            place = (name, DeliveryRecord.decode(record.value).rule)
            assert outcomes[place]["outcome"] == FORWARDED
            outcomes[place]["record"] = record.value.decode()
    return Decided(rejected, outcomes)


def explained(data: dict[str, Any]) -> Decided:
    """Read the same from an explanation, with details cut as the records cut them."""
    rejected = data["rejected"] and {**data["rejected"], "detail": data["rejected"]["detail"][:MAX_TEXT_CHARACTERS]}
    outcomes: Result = {}
    for account in data["integrations"]:
        for delivery in account["deliveries"]:
            place = (account["integration"], delivery["rule"] or "")
            assert place not in outcomes
            outcomes[place] = {**delivery["router"], "detail": delivery["router"]["detail"][:MAX_DETAIL_CHARACTERS]}
    return Decided(rejected, outcomes)


def check(bench: Bench, value: bytes, headers: Any) -> Decided:
    """Compare the results of the router and `explain` for a record; returns its kind."""
    routed, data = bench.route(value, headers), bench.explain(value, headers)
    # The rejected record of a huge event is itself too large, and its detail has the original reason.
    if routed.rejected and "unknown_source" in (routed.rejected["reason"], routed.rejected["detail"][-15:-1]):
        # `explain` continues without a source.
        assert data["source"] is None
    else:
        assert explained(data) == routed
    return routed


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    patched = pytest.MonkeyPatch()
    patched.setattr("streams.worker.guard.HOLD_SECONDS", 0.0)
    patched.setattr("transforms.joint.COMPILE_AFTER", 1)  # the router maps jointly, and `explain` does not
    patched.setattr("deploy.dryrun.preview.time", SimpleNamespace(time=lambda: NOW))
    for name, text in {"WEB_KEY": "key-of-web", "SERVER_KEY": "key-of-server", "GA4_SECRET": "s"}.items():
        patched.setenv(name, text)
    folder = tmp_path_factory.mktemp("configuration")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text.lstrip())
    loop = asyncio.new_event_loop()
    yield Bench(folder, loop)
    loop.close()
    patched.undo()


WEB, SERVER = ("turnout-source", b"web"), ("turnout-source", b"server")
ORDER: dict[str, Any] = {
    "type": "track",
    "event": "Order Completed",
    "userId": "u-1",
    "messageId": "m-1",
    "timestamp": "2026-01-02T03:04:05.000Z",
    "receivedAt": "2026-01-02T03:04:06.000Z",
    "properties": {"total": "9.50", "order_id": "o-1"},
    "context": {"ip": "203.0.113.7", "consent": {"categoryPreferences": {"ads": True}}},
}


def order(**fields: Any) -> bytes:
    return json.dumps({key: value for key, value in {**ORDER, **fields}.items() if value is not None}).encode()


def nested(depth: int) -> Any:
    return {"a": nested(depth - 1)} if depth else 1


CASES = {
    "forwarded": (order(), [WEB], {"ads": "forwarded:", "grow": "forwarded:"}),
    "dead mapping": (order(), [WEB], {"grow/text": "dead:mapping"}),
    "renamed by the source": (order(event="Renamed"), [WEB], {"ads/order": "forwarded:"}),
    "times changed by the source": (order(event="Backdated"), [WEB], {"ads": "forwarded:"}),
    "no times": (order(timestamp=None, receivedAt=None), [WEB], {"ads": "forwarded:"}),
    "no id, no time": (order(messageId=None, timestamp=None), [SERVER], {"grow": "forwarded:"}),
    "dropped by the source": (order(event="Dropped"), [WEB], {"ads": "filtered:"}),
    "dropped by a rule": (order(event="Heartbeat"), [WEB], {"ads/noise": "filtered:"}),
    "another source": (order(), [SERVER], {"ads": "filtered:"}),
    "source by write key": (order(writeKey="key-of-server"), [], {"ads": "filtered:"}),
    "no consent": (order(context={}), [WEB], {"ads": "consent:"}),
    "opted out": (order(integrations={"All": False}), [WEB], {"ads": "opted_out:", "half": "opted_out:"}),
    "sampled": (order(messageId="m-1"), [WEB], {"half": "sampled:"}),
    "suppressed": (order(userId="suppressed-user"), [WEB], {"ads": "suppressed:"}),
    "quarantined": (order(event="Quarantined"), [WEB], {"": "quarantined", "ads": "quarantined:plan"}),
    "rejected by the plan": (order(event="Rejected"), [WEB], {"": "plan"}),
    "rejected kind": (order(type="alias", previousId="p"), [WEB], {"": "kind"}),
    "made invalid by the source": (order(event="Invalid"), [WEB], {"": "repair"}),
    "too deep for the source": (order(properties=nested(20)), [WEB], {"": "too_deep"}),
    "not too deep for another": (order(properties=nested(20)), [SERVER], {"grow": "forwarded:"}),
    "too deep for any": (order(properties=nested(200)), [SERVER], {"": "too_deep"}),
    "huge": (
        order(properties={"big": "x" * 700_000}),
        [WEB],
        {"grow/whole": "forwarded:", "grow/thrice": "dead:too_large"},
    ),
    "not JSON": (b"{", [WEB], {"": "json"}),
    "empty": (b"", [WEB], {"": "json"}),
    "a list": (b"[]", [WEB], {"": "not_an_object"}),
    "byte order mark": (b"\xef\xbb\xbf" + order(), [WEB], {"ads": "forwarded:"}),
    "lone surrogate": (order().replace(b'"o-1"', b'"\\ud800"'), [WEB], {"ads": "forwarded:"}),
    "newer format": (order(), [WEB, ("turnout-version", b"9")], {"": "newer_format"}),
    "unreadable format": (order(), [WEB, ("turnout-version", b"x")], {"": "newer_format"}),
    "odd notes": (order(), [WEB, ("turnout-noted", b"[1]"), ("x", b"\xff")], {"ads": "forwarded:"}),
    "unknown source": (order(), [("turnout-source", b"\xff")], {"": "unknown_source"}),
    "unknown write key": (order(writeKey="no"), [], {"": "unknown_source"}),
}


@pytest.mark.parametrize(("value", "headers"), [case[:2] for case in CASES.values()], ids=CASES)
@pytest.mark.parametrize("name", ["grow", "ads"])
def test_a_replay_makes_what_the_router_writes(bench: Bench, name: str, value: bytes, headers: Any):
    """The same deliveries, byte for byte, of the same record; and none if it is rejected."""
    routed = bench.route(value, headers)
    record = LocalRecord(TOPICS.events, 0, 0, None, key_of(value, headers, bench.configuration), value, headers)
    mapped = Remapper(bench.configuration, name, clock=lambda: NOW).map(record)
    if not routed.outcomes:
        assert routed.rejected
        assert [(it.outcome, it.reason) for it in mapped] == [("rejected", routed.rejected["reason"])]
        return
    written = {place[1]: (it["outcome"], it["record"]) for place, it in routed.outcomes.items() if place[0] == name}
    assert {it.rule: (it.outcome, it.delivery.encode().decode() if it.delivery else None) for it in mapped} == written


@pytest.mark.parametrize(("value", "headers", "expected"), CASES.values(), ids=CASES)
def test_explain_says_what_the_router_writes(bench: Bench, value: bytes, headers: Any, expected: dict[str, str]):
    """Of every kind of outcome; each case comes to the outcome that it is about."""
    routed = check(bench, value, headers)
    found = {f"{name}/{rule}": f"{it['outcome']}:{it['reason']}" for (name, rule), it in routed.outcomes.items()}
    found |= {"": routed.rejected["reason"]} if routed.rejected else {}
    for place, outcome in expected.items():
        some = [each for key, each in found.items() if key == place or (place and key.startswith(f"{place}/"))]
        assert outcome in some, found


@pytest.mark.parametrize(
    "place", ["streams.steps.plan.step.PlanStep.__call__", "streams.routing.eligibility.in_sample"]
)
def test_explain_says_the_same_of_an_error_of_ours(bench: Bench, place: str, monkeypatch: pytest.MonkeyPatch):
    """In a step of the source it rejects the event, and in one route it costs that route alone."""

    def fail(*_: Any) -> Any:
        raise KeyError("personal data")

    monkeypatch.setattr(place, fail)
    routed = check(bench, order(), [WEB])
    if routed.rejected:
        assert routed.rejected["reason"] == "internal"
    else:
        assert [name for (name, _), it in routed.outcomes.items() if it["reason"] == "internal"] == ["half"]
    assert bool(routed.rejected) == ("plan" in place)


def test_explain_finds_the_same_limit_of_a_records_size(bench: Bench):
    """To the byte, with the key; one byte more is a dead letter."""
    user = "u" * 1000
    big = 900_000
    (whole,) = [it for place, it in check(bench, grown(user, big), [SERVER]).outcomes.items() if place[1] == "whole"]
    fits = big + LARGEST_RECORD_BYTES - HEADROOM - len(user) - len(whole["record"])
    for more, outcome in ((0, "forwarded"), (1, "dead")):
        routed = check(bench, grown(user, fits + more), [SERVER])
        assert routed.outcomes["grow", "whole"]["outcome"] == outcome


def grown(user: str, size: int) -> bytes:
    return order(userId=user, properties={"total": "x" * size})


CHANGES: list[tuple[tuple[str, ...], list[Any]]] = [
    (("event",), ["Order Completed", "Dropped", "Renamed", "Backdated", "Quarantined", "Rejected", "Invalid", 7]),
    (("userId",), ["suppressed-user", '"suppressed-user"', "", 7]),
    (("writeKey",), ["key-of-web", "key-of-server", "no", None]),
    (("integrations",), [{"All": False}, {"ads": False}, {"All": False, "Grow": True}, {"half": "no"}, {"ads": {}}]),
    (("context", "consent"), [{"categoryPreferences": {"ads": True}}, {"globalPrivacyControl": True}, [], 1]),
    (("properties", "big"), ["x" * 700_000, "é" * 400_000, nested(9), nested(100)]),
    (("properties", "total"), ["9.50", 2**70, "much"]),
    (("receivedAt",), [None, "2020-01-01", "x"]),
    (("timestamp",), [None, "2020-01-01", "x", 1e308]),
    (("messageId",), [None, "", "m" * 300, 1.5]),
]


@st.composite
def usual_events(draw: st.DrawFn) -> bytes:
    """Usual events with changes to what decides about their outcome."""
    event = deepcopy(draw(st.sampled_from([*USUAL, ORDER, ORDER, ORDER])))
    event["messageId"] = draw(st.uuids()).hex
    for path, values in draw(st.lists(st.sampled_from(CHANGES), max_size=4)):
        value = draw(st.sampled_from(values))
        put(event, path, value)
        if value is None and len(path) == 1:
            del event[path[0]]
    return json.dumps(event).encode()


SOURCES = st.sampled_from([[WEB], [WEB], [WEB], [SERVER], [SERVER], [], [("turnout-source", b"no")]])
OTHER_HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["turnout-version", "turnout-noted", "turnout-replay", "x"]),
        st.sampled_from([b"", b"1", b"1", b"2", b"x", b'[["a","b"]]', b"\xff", b"9" * 5000]),
    ),
    max_size=1,
)
VALUES = usual_events() | usual_events() | odd_events() | st.binary(max_size=50)


@settings(
    max_examples=fuzzing.examples(20),
    deadline=None,
    derandomize=not fuzzing.LONG,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)
@given(value=VALUES, source=SOURCES, headers=OTHER_HEADERS)
def test_explain_says_what_the_router_writes_of_any_record(bench: Bench, value: bytes, source: Any, headers: Any):
    """Generate valid, odd and huge events, invalid JSON, newer formats, and odd headers."""
    check(bench, value, [*source, *headers])
