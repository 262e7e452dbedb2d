"""Each case of tests/cases/rules/mappings: a mapping, an event, and what comes out."""

from pathlib import Path

import pytest

from transforms import MISSING, compile_condition, compile_mapping
from transforms.documents import Document

CASES = Path(__file__).parents[1] / "cases" / "rules"


def _cases(path: Path) -> list:
    data = Document.read(path).data
    return [pytest.param(case, id=f"{path.stem}:{case.get('does') or case['when']}") for case in data]


@pytest.mark.parametrize(
    "case", [case for path in sorted((CASES / "mappings").glob("*.yaml")) for case in _cases(path)]
)
def test_mapping(case):
    """A mapping gives exactly the value that its case states, with keys in the mapping's order."""
    result = compile_mapping(case["map"])(case["event"])
    expected = MISSING if case.get("missing") else case["gives"]
    assert _exactly(result) == _exactly(expected)


@pytest.mark.parametrize("case", _cases(CASES / "conditions.yaml"))
def test_condition(case):
    """A condition holds for the events of its case, and not for the others."""
    condition = compile_condition(case["when"])
    assert [event for event in case["holds"] if condition(event) is not True] == []
    assert [event for event in case["not"] if condition(event) is not False] == []


def _exactly(value):
    """Tells 1 from 1.0 and true."""
    if isinstance(value, dict):
        return {key: _exactly(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_exactly(each) for each in value]
    return type(value), value
