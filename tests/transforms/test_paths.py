"""Paths: what they find is what jsonpath-ng finds, but for a null or false on the way."""

import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from jsonpath_ng.ext import parse

from tests import fuzzing
from transforms import MISSING, RuleError, compile_mapping
from transforms.documents import Document
from transforms.paths import parse_path

NAMES = ["a", "b", "c"]
# Truthy scalars only: for the others `$.a.b` yields the value on the way, as in Segment's kit.
EVENTS = st.recursive(
    st.integers(1, 3) | st.sampled_from(["x", "yy", True, 1.5]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner, min_size=1, max_size=3),
    max_leaves=25,
).map(lambda value: {"a": value, "b": [value, {"c": value}], "c": {"a": 1, "b": "x"}})
OPERANDS = st.sampled_from(["@.a", "@.b", "@.a.b", "@.b[0]", "@", "$.c.a"])
OPERATORS = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
VALUES = st.sampled_from(["1", "2.5", "'x'", "true", "null", "$.c.b", "@.c"])
TESTS = st.recursive(
    st.tuples(OPERANDS, OPERATORS, VALUES).map(" ".join)
    | OPERANDS
    | OPERANDS.map(lambda operand: f"!{operand}")
    | OPERANDS.map(lambda operand: f"{operand} =~ 'x|y+'"),
    lambda inner: st.tuples(inner, st.sampled_from(["&&", "||"]), inner).map(lambda parts: f"({' '.join(parts)})"),
    max_leaves=3,
)
SEGMENTS = st.one_of(
    st.sampled_from(NAMES).map(lambda name: f".{name}"),
    st.sampled_from(NAMES).map(lambda name: f"..{name}"),
    st.sampled_from(NAMES).map(lambda name: f"['{name}']"),
    st.sampled_from(["[0]", "[-1]", "[*]", ".*", "[1:]", "[:2]", "[::2]", "[::-1]", "[0,1]", "['a','b']", ".`len`"]),
    TESTS.map(lambda test: f"[?({test})]"),
)
PATHS = st.lists(SEGMENTS, min_size=1, max_size=4).map(lambda segments: "$" + "".join(segments))


@settings(max_examples=fuzzing.examples(300), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(PATHS, EVENTS)
def test_paths_find_what_jsonpath_ng_finds(text, event):
    """Any path that is taken finds, in the same order, what jsonpath-ng finds; others are refused."""
    assume("`len`" not in text.removesuffix("`len`"))  # a length of 0 is falsy
    try:
        path = parse_path(text)
        found = compile_mapping({"@path": text})(event)
    except RuleError:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        expected = [match.value for match in parse(text).find(event)]
    assert _exactly(found) == _exactly((expected or [MISSING])[0] if path.singular else expected)


def _exactly(value):
    if isinstance(value, dict):
        return {key: _exactly(each) for key, each in value.items()}
    return [_exactly(each) for each in value] if isinstance(value, list) else (type(value), value)


EVENT = {"a": {"b": [{"c": 1, "d": "x"}, {"c": 2}, {"c": "1"}], "e f": 5}, "l": [1, 2, 3, 4], "n": [0, None, True]}
TABLE = Document.read(Path(__file__).parents[1] / "cases" / "rules" / "jsonpath.yaml").data


@pytest.mark.parametrize("row", [pytest.param(row, id=row["feature"]) for row in TABLE])
def test_what_a_path_may_have(row):
    """Each row of the documentation's table: a path finds the right value, or is refused with a hint."""
    if "refused" in row:
        with pytest.raises(RuleError) as caught:
            compile_mapping(row["path"])
        assert caught.value.hint == row["refused"]
    else:
        found = compile_mapping(row["path"])(EVENT)
        assert _exactly("nothing" if found is MISSING else found) == _exactly(row["finds"])
