"""Segment's own cases, read from where they were recorded; a clone without them skips."""

import json
import os
from pathlib import Path

import pytest

from transforms import MISSING, RuleError, compile_condition, compile_mapping
from transforms.documents import Document

VECTORS = Path(os.environ.get("TURNOUT_VECTORS", Path(__file__).parents[3] / "shared" / "vectors"))
DIFFERENT = Document.read(Path(__file__).with_name("vectors_that_differ.yaml")).data

pytestmark = pytest.mark.skipif(
    not VECTORS.is_dir() and not os.environ.get("CI"), reason=f"Segment's recorded cases are not at {VECTORS}"
)


def _rows(name, kind):
    path = VECTORS / name
    lines = path.read_text().splitlines() if path.exists() else []
    rows = [row for row in map(json.loads, lines) if row["kind"] == kind]
    return [pytest.param(row, id=row["id"]) for row in rows if row["id"] not in DIFFERENT]


def _value(data):
    """Data of the recording, in which `$undefined` means missing."""
    if data == {"$undefined": True}:
        return MISSING
    if isinstance(data, dict):
        return {key: _value(each) for key, each in data.items()}
    return [_value(each) for each in data] if isinstance(data, list) else data


def test_the_recorded_cases_are_there():
    """Where they are demanded, they are read, and none was left out unseen."""
    assert len(_rows("mapping-kit.jsonl", "transform")) + len(_rows("fql.jsonl", "match")) + len(DIFFERENT) == 286


@pytest.mark.parametrize("row", _rows("mapping-kit.jsonl", "transform"))
def test_mapping(row):
    """A mapping does what Segment's kit does with it."""
    if "throws" in row:
        with pytest.raises(RuleError):
            compile_mapping(_value(row["mapping"]))(_value(row.get("input", {})))
        return
    assert compile_mapping(_value(row["mapping"]))(_value(row.get("input", {}))) == _value(row["expected"])


@pytest.mark.parametrize("row", _rows("fql.jsonl", "match"))
def test_condition(row):
    """A condition holds where Segment's filter query language says so."""
    assert compile_condition(row["fql"])(_value(row["event"])) is row["expected"]


def test_the_recording_is_there():
    """No case is lost without notice."""
    assert len(_rows("mapping-kit.jsonl", "transform")) == 146
    assert len(_rows("fql.jsonl", "match")) == 127
