"""deploy/docs/records.md describes the records that the code writes."""

import re
from pathlib import Path

import orjson
import pytest

from streams.delivery.sinks.delivery_sink import MAX_RESPONSE_CHARACTERS
from streams.operations.reporter import REPORT_SECONDS
from streams.records import format as record_format
from streams.records import run_header
from streams.records.control import Control, ControlAction
from streams.records.dead_letter import DeadLetter
from streams.records.delivery import DeliveryRecord, Retried
from streams.records.event import Origin, event_headers, noted_header, replay_header
from streams.records.format import Headers
from streams.records.handled import Handled
from streams.records.memory import MEMORY_END, MemoryEntry, MemoryKey, MemoryKind, memory_headers
from streams.records.outcomes import FORWARDED, NOTED, RETENTION, LostDeliveries, Outcome, Outcomes, Stage
from streams.records.recorded_rules import MAX_FILES_BYTES, DataFile, RecordedRules
from streams.records.rejected import rejected_headers
from streams.records.status import DeliveryState, PipelineStatus, ProcessStatus, VendorStatus
from streams.topics import STATUS_SECONDS, Topics

PAGE = (Path(__file__).parents[3] / "deploy" / "docs" / "records.md").read_text()
SECTIONS = {part.partition("\n")[0]: part for part in re.split(r"^#{2,3} ", PAGE, flags=re.MULTILINE)[1:]}
ORIGIN = Origin("turnout.events", 2, 41)
VENDOR = VendorStatus(DeliveryState.DELIVERING)
STATUS = orjson.loads(
    ProcessStatus("router", "h", 1, "1", "v", "t", "t", [PipelineStatus("ga4", vendor=VENDOR)]).encode()
)
RULES = orjson.loads(RecordedRules("1", [], {}, {}, {}, [DataFile("a.csv", "0", 1)]).encode())
OUTCOMES = Outcomes(Stage.FORWARDER, "t", 0, "v", [], [], [], [LostDeliveries("ga4", RETENTION, "t", 0, 1, 2, 0, 9)])
DELIVERY = DeliveryRecord("m", "r", "v", "track", "Order", "t", "t", "web", ORIGIN, {})


def table(section: str, title: str) -> dict[str, str]:
    """Return a table of a section by its first column, the one whose heading begins with `title`."""
    found = re.search(rf"^\| {title} \|.*\n\|[ |-]+\n((?:\|.*\n)+)", SECTIONS[section], re.MULTILINE)
    assert found, f"{section} has no table of {title}"
    rows = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in found[1].splitlines()]
    return {row[0].strip(" `"): row[1] for row in rows}


@pytest.mark.parametrize(
    ("section", "fields"),
    [
        ("turnout.forward.NAME", list(DELIVERY.data())),
        ("turnout.outcomes", list(orjson.loads(OUTCOMES.encode()))),
        (
            "turnout.dead",
            list(orjson.loads(DeadLetter("ga4", DELIVERY.data(), "reason", "detail", 1, "t").encode())),
        ),
        ("turnout.status", list(STATUS)),
        ("A pipeline of turnout.status", list(STATUS["pipelines"][0])),
        ("A vendor of turnout.status", list(STATUS["pipelines"][0]["vendor"])),
        ("turnout.rulesets", list(RULES)),
        ("A file of turnout.rulesets", list(RULES["files"][0])),
        ("turnout.memory", list(orjson.loads(MemoryEntry().encode()))),
        ("turnout.control", list(orjson.loads(Control(ControlAction.PAUSED, "ann", "t").encode()))),
    ],
)
def test_every_field_is_described_in_the_order_of_the_record(section: str, fields: list[str]):
    """A field that the code adds, renames or drops must change in the page."""
    assert list(table(section, "field")) == fields


@pytest.mark.parametrize(
    ("section", "headers"),
    [
        ("turnout.events", [*event_headers("web", b"trace"), noted_header([]), replay_header(1, 2)]),
        ("turnout.forward.NAME.retry", Retried(1, 2.0, 1.0, "failing").headers()),
        ("turnout.outcomes", [(run_header.RUN_HEADER, b"")]),
        ("turnout.rejected", rejected_headers("json", "why", "web", ORIGIN, version=b"2", trace=b"trace")),
        ("turnout.memory", memory_headers()),
        ("Handled records", Handled("dropped", [1]).headers()),
    ],
)
def test_every_header_is_described(section: str, headers: Headers):
    """The headers that the code writes are the headers in the page."""
    assert set(table(section, "header")) == {name for name, _ in headers}


def test_every_declared_header_is_in_the_page_and_no_other():
    """A header's constant is a header of some topic."""
    declared = {
        value
        for module in (record_format, run_header)
        for name, value in vars(module).items()
        if name.endswith("_HEADER") and isinstance(value, str)
    }
    named = set(re.findall(r"`(turnout-[a-z]+)`", PAGE))
    assert named == declared


def test_every_topic_has_a_section():
    """A new topic is described."""
    declared = {topic.name for topic in Topics().declared(["NAME"], memory_days=30)}
    assert {title for title in SECTIONS if title.startswith("turnout.")} == declared


def test_versions_are_those_of_the_code():
    """Each record type has a version, and the page says which."""
    names = {
        name.removesuffix("_VERSION").lower().replace("_", " "): str(value)
        for module in (record_format, run_header)
        for name, value in vars(module).items()
        if name.endswith("_VERSION")
    }
    assert table("Rules for all topics", "record type") == names


def test_every_key_of_the_memory_is_described():
    """The kinds of records, as their keys begin."""
    keys = {MemoryKey(kind, b"", 0).encode().partition(b":")[0] for kind in MemoryKind} | {MEMORY_END}
    assert {key.partition(":")[0].encode() for key in table("turnout.memory", "key")} == keys


def test_every_outcome_is_named():
    """Outcomes, and those that are not final."""
    text = SECTIONS["turnout.outcomes"]
    assert [each for each in (*Outcome, FORWARDED, NOTED) if f"`{each}`" not in text] == []


def test_states_and_actions_are_named():
    """The page lists reports of vendors and commands, and for how long reports are valid."""
    states = table("A vendor of turnout.status", "field")["state"]
    actions = table("turnout.control", "field")["action"]
    assert [each for each in DeliveryState if f"`{each}`" not in states] == []
    assert [each for each in ControlAction if f"`{each}`" not in actions] == []
    assert f"more than {STATUS_SECONDS // 60} minutes ago" in SECTIONS["turnout.status"]
    assert f"every {REPORT_SECONDS:.0f} seconds" in SECTIONS["turnout.status"]
    assert f"first {MAX_RESPONSE_CHARACTERS} characters" in SECTIONS["A vendor of turnout.status"]


def test_limits_in_the_text_are_those_of_the_code():
    """Numbers that the page gives about run headers and recorded files."""
    assert f"up to {MAX_FILES_BYTES // 1024} KB" in SECTIONS["A file of turnout.rulesets"]
    text = SECTIONS["The header turnout-run"]
    assert f"more than {run_header.EVENTS_PER_HEADER:,} events" in text
    assert f"at most {run_header.NAME_CHARACTERS} characters" in text
    assert text.count(f"| {run_header.HASH_BYTES} bytes per event |") == 2
    assert f"`{orjson.dumps(list(run_header.UNREAD)).decode().replace(',', ', ')}`" in text


def test_the_layout_is_the_documented_one():
    """A reader that follows the page alone finds every part of a header that the code wrote."""
    class_ = type("Record", (), {"__init__": lambda self, **fields: self.__dict__.update(fields)})
    offsets = [5, 6, 9]
    records = [class_(offset=offset, key=b"u", timestamp=120_000 + 30_000 * at) for at, offset in enumerate(offsets)]
    facts = [(offset, f"m{offset}", "web", "track", f"n{offset % 2}") for offset in offsets]
    (header,) = run_header.encode_run(records, facts)
    # Layout, events, stretches, 5 + 2, 2 + 1.
    assert list(header[:7]) == [1, 3, 2, 5, 2, 2, 1]
    rest = header[7:]
    # The first time and the distance to the last one, 7 bits per byte.
    assert list(rest[:3]) == [120_000 & 127 | 128, 120_000 >> 7 & 127 | 128, 120_000 >> 14]
    assert list(rest[3:6]) == [60_000 & 127 | 128, 60_000 >> 7 & 127 | 128, 60_000 >> 14]
    # Two minutes: two events in the first, one in the next.
    assert list(rest[6:11]) == [2, 0, 2, 1, 1]
    length = rest[11]
    assert orjson.loads(rest[12 : 12 + length]) == [["web", "track", "n1"], ["web", "track", "n0"]]
    rest = rest[12 + length :]
    assert list(rest[:3]) == [0, 1, 0]
    assert rest[3:] == b"".join(map(run_header.hash_id, ["m5", "m6", "m9", "u", "u", "u"]))
