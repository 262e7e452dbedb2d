"""Each record type has a format version of its own, and additions do not raise it."""

import sys
from collections.abc import Callable

import orjson
import pytest

from streams.records import format as record_format
from streams.records.control import Control, ControlAction
from streams.records.dead_letter import DeadLetter
from streams.records.delivery import DeliveryRecord, Retried
from streams.records.event import Origin, event_headers
from streams.records.format import NewerFormatError, check_version
from streams.records.handled import Handled
from streams.records.memory import encode_link, is_copied
from streams.records.outcomes import AttemptInterval, LostDeliveries, OutcomeDetail, OutcomeInterval, Outcomes, Stage
from streams.records.recorded_rules import DataFile, RecordedRules
from streams.records.rejected import Rejected, rejected_headers
from streams.records.status import DeliveryState, PipelineStatus, ProcessStatus, VendorStatus
from turnout_tracking import records

ORIGIN = Origin("turnout.events", 1, 7)
DELIVERY = DeliveryRecord("m", "r", "v", "track", "Order", "t", "t", "web", ORIGIN, {"a": 1})
LETTER = DeadLetter("ga4", DELIVERY.data(), "status", "422", 1, "t")
OUTCOMES = Outcomes(
    Stage.ROUTER,
    "turnout.events",
    1,
    "v",
    [OutcomeInterval("ga4", "", "consent", 1, 4, "ads")],
    [OutcomeDetail("", "", "noted", 1, "p", "")],
    [AttemptInterval("ga4", "r", 3, 422, 1, 1), AttemptInterval("s3", "r", 2, None, 1, 4)],
    (LostDeliveries("ga4", "retention", "turnout.forward.ga4", 1, 5, 9, 0, 40, [("r", [(7, 7), (30, 39)])]),),
)
VENDOR = VendorStatus(DeliveryState.REFUSED, "t", "why", 401, "no", "t", "t")
STATUS = ProcessStatus(
    "forwarder", "app-1", 311, "1.0", "v", "t", "t",
    [PipelineStatus("ga4", "why", {"turnout.events": [0, 2]}, 5, 61, VENDOR), PipelineStatus("meta")],
)  # fmt: skip
RULES = RecordedRules("1", ["ga4"], {"consent": {}}, {"plans/a.yaml": "a"}, {}, [DataFile("t.csv", "0", 1, b"x")])
CONTROL = Control(ControlAction.PAUSED, "ann@app-1", "t")

ROUND_TRIPS: dict[str, Callable[[], object]] = {
    "EVENT_VERSION": lambda: check_version(event_headers("web")),
    "DELIVERY_VERSION": lambda: DeliveryRecord.decode(DELIVERY.encode()),
    "RETRIED_VERSION": lambda: Retried.decode(Retried(1, 2.0, 1.0, "failing").headers()),
    "OUTCOMES_VERSION": lambda: Outcomes.decode(OUTCOMES.encode()),
    "DEAD_LETTER_VERSION": lambda: DeadLetter.decode(LETTER.encode()),
    "REJECTED_VERSION": lambda: Rejected.decode(None, b"", rejected_headers("json", "", "web")),
    "HANDLED_VERSION": lambda: Handled.decode(Handled("dropped", [1]).headers()),
    "STATUS_VERSION": lambda: ProcessStatus.decode(STATUS.encode()),
    "CONTROL_VERSION": lambda: Control.decode(CONTROL.encode()),
    "RULES_VERSION": lambda: RecordedRules.decode(RULES.encode()),
    "MEMORY_VERSION": lambda: is_copied(encode_link(copied=True)),
}


def test_every_type_has_a_version():
    """A new record type gets a version, and this file a case; suppressed users are read by their key alone."""
    declared = {name for name in vars(record_format) if name.endswith("_VERSION")}
    assert declared == {*ROUND_TRIPS, "SUPPRESSED_VERSION"}


@pytest.mark.parametrize("raised", ROUND_TRIPS)
def test_a_new_version_of_one_type_is_refused_for_that_type_alone(raised: str, monkeypatch: pytest.MonkeyPatch):
    """An old reader continues with all other types of a newer writer."""
    encoders: dict[str, Callable[[], object]] = {
        "EVENT_VERSION": lambda: event_headers("web"),
        "DELIVERY_VERSION": DELIVERY.encode,
        "RETRIED_VERSION": Retried(1, 2.0, 1.0, "failing").headers,
        "OUTCOMES_VERSION": OUTCOMES.encode,
        "DEAD_LETTER_VERSION": LETTER.encode,
        "REJECTED_VERSION": lambda: rejected_headers("json", "", "web"),
        "HANDLED_VERSION": Handled("dropped", [1]).headers,
        "STATUS_VERSION": STATUS.encode,
        "CONTROL_VERSION": CONTROL.encode,
        "RULES_VERSION": RULES.encode,
        "MEMORY_VERSION": lambda: encode_link(copied=True),
    }
    decoders: dict[str, Callable[..., object]] = {
        "EVENT_VERSION": check_version,
        "DELIVERY_VERSION": DeliveryRecord.decode,
        "RETRIED_VERSION": Retried.decode,
        "OUTCOMES_VERSION": Outcomes.decode,
        "DEAD_LETTER_VERSION": DeadLetter.decode,
        "REJECTED_VERSION": lambda headers: Rejected.decode(None, b"", headers),
        "HANDLED_VERSION": Handled.decode,
        "STATUS_VERSION": ProcessStatus.decode,
        "CONTROL_VERSION": Control.decode,
        "RULES_VERSION": RecordedRules.decode,
        "MEMORY_VERSION": is_copied,
    }
    with monkeypatch.context() as newer:
        for module in [each for name, each in sys.modules.items() if name.startswith("streams.")]:
            if hasattr(module, raised):
                newer.setattr(module, raised, 2)
        if raised == "EVENT_VERSION":
            newer.setattr(records, "VERSION", 2)
        written = {name: encode() for name, encode in encoders.items()}
    for name, value in written.items():
        if name == raised:
            with pytest.raises(NewerFormatError, match=r"format .*2.* reads up to 1"):
                decoders[name](value)
        else:
            decoders[name](value)


@pytest.mark.parametrize("name", ROUND_TRIPS)
def test_a_reader_takes_its_own_records(name: str):
    """The cases of this file are records that are read as long as the versions agree."""
    ROUND_TRIPS[name]()


def test_additional_fields_and_headers_change_nothing_for_an_old_reader():
    """Unknown fields and headers are ignored, even inside spans and reasons."""
    more = {"more": [1]}
    assert DeliveryRecord.decode(orjson.dumps({**DELIVERY.data(), **more})) == DELIVERY
    assert DeadLetter.decode(orjson.dumps({**orjson.loads(LETTER.encode()), **more})).reason == LETTER.reason
    data = orjson.loads(OUTCOMES.encode())
    data["spans"][0].append("more")
    data["named"][0].append("more")
    data["attempts"][0].append("more")
    data["lost"][0].append("more")
    assert Outcomes.decode(orjson.dumps({**data, **more})) == OUTCOMES
    assert Control.decode(orjson.dumps({**orjson.loads(CONTROL.encode()), **more})) == CONTROL
    data = orjson.loads(RULES.encode())
    data["files"][0] |= more
    assert RecordedRules.decode(orjson.dumps({**data, **more})) == RULES
    data = orjson.loads(STATUS.encode())
    data["pipelines"][0] |= more
    data["pipelines"][0]["vendor"] |= more
    assert ProcessStatus.decode(orjson.dumps({**data, **more})) == STATUS
    headers = [*rejected_headers("json", "why", "web", ORIGIN), ("turnout-more", b"\xff")]
    assert Rejected.decode(None, b"", headers).origin == ORIGIN


def read_outcomes_without_attempts(value: bytes) -> tuple[object, ...]:
    """Read a record as `Outcomes.decode` did before there were attempts."""
    data = orjson.loads(value)
    assert data["v"] == 1
    topic, partition = data["from"]
    spans = [
        OutcomeInterval(integration, rule, outcome, *(span if isinstance(span, list) else (span, span)), *detail[:1])
        for integration, rule, outcome, spans, *detail in data["spans"]
        for span in spans
    ]
    named = [OutcomeDetail(*named[: len(OutcomeDetail._fields)]) for named in data["named"]]
    return Stage(data["stage"]), topic, partition, data["rules"], spans, named


def test_readers_and_writers_of_attempts_run_beside_those_without():
    """A ledger from before attempts reads a new forwarder's outcomes, and a new one reads those without attempts."""
    assert read_outcomes_without_attempts(OUTCOMES.encode()) == OUTCOMES[:6]
    before = (
        b'{"v":1,"stage":"forwarder","from":["turnout.events",1],"rules":"v",'
        b'"spans":[["ga4","r","dead",[3]],["ga4","r","delivered",[[4,9]]]],"named":[["ga4","r","dead",3,"status_422",""]]}'
    )
    read = Outcomes.decode(before)
    assert (read.attempts, len(read.spans), read.named[0].reason) == (None, 2, "status_422")
    assert read.encode() == before
