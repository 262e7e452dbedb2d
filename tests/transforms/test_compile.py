"""Each case of tests/cases/rules/mappings: a mapping, an event, and the result."""

from pathlib import Path

import pytest

from transforms import MISSING, RuleError, compile_condition, compile_mapping
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
    """A condition holds for the events of its case and not for the others, or is refused with a hint."""
    if "refused" in case:
        with pytest.raises(RuleError) as caught:
            compile_condition(case["when"])
        assert case["refused"] in str(caught.value)
        return
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


def test_mistakes_of_plain_data_name_their_keys():
    """A mistake in plain data says by which keys it is reached, and in which file where that is named."""
    with pytest.raises(RuleError) as caught:
        compile_mapping({"params": [{"@nothing": 1}]}, source="ga4.yaml")
    assert str(caught.value).startswith("ga4.yaml: /params/0/@nothing: '@nothing' is not a directive")
    assert caught.value.line is None


def test_mistakes_of_a_document_have_lines():
    """A mistake in a document's data has its line and column."""
    document = Document.parse("params:\n  - {'@nothing': 1}\n", "ga4.yaml")
    with pytest.raises(RuleError) as caught:
        compile_mapping(document.data, source=document)
    assert (caught.value.path, caught.value.line, caught.value.column) == ("ga4.yaml", 2, 6)


@pytest.mark.parametrize("condition", [None, 5, ["type"], {"a": 1}])
def test_a_condition_is_text(condition):
    """A value that is not text is refused as a condition."""
    with pytest.raises(RuleError, match="a condition is a string"):
        compile_condition(condition)


def test_an_event_is_an_object():
    """Mapping a value that is not an object is the caller's error; a condition is false for it."""
    with pytest.raises(RuleError, match="an event is an object, not a list"):
        compile_mapping({"a": 1})([])
    assert compile_condition("a = null")([]) is False


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({1: "x"}, "the key 1 is not a string (quote it)"),
        ({"a": {1, 2}}, "/a: this is a set, which JSON does not have"),
        ({"a": float("nan")}, "/a: this number is out of range (quote it if it is text)"),
        ({"a": 10**301}, "/a: this number is out of range (quote it if it is text)"),
        (
            {"__segment_internal_directive": {"@transform": 1}},
            "__segment_internal_directive is an object with one directive (write the directive around the mapping)",
        ),
    ],
)
def test_data_that_no_yaml_holds(mapping, message):
    """Plain data that YAML and JSON do not have is refused."""
    with pytest.raises(RuleError) as caught:
        compile_mapping(mapping)
    assert str(caught.value) == message


def test_data_that_contains_itself():
    """Data that contains itself is refused like any that is too deep."""
    mapping = {}
    mapping["a"] = mapping
    with pytest.raises(RuleError, match="nested more than 32 levels deep"):
        compile_mapping(mapping)


def test_data_with_too_many_values():
    """A mapping of more values than are ever written is refused once."""
    with pytest.raises(RuleError) as caught:
        compile_mapping({"a": [0] * 50_000})
    assert str(caught.value) == "/a/49998: the rules have more than 50,000 values (split them)"
