"""Paths find the same as jsonpath-ng, except for a null or false on the way."""

import re
import sys
import warnings
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from jsonpath_ng.ext import parse

from tests.support import fuzzing
from transforms import MISSING, RuleError, compile_mapping
from transforms.documents import Document
from transforms.model.nodes import Index, Key
from transforms.syntax.paths import parse_loose_path, parse_path
from transforms.syntax.unparse import path_text

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
TABLE = Document.read(Path(__file__).parents[2] / "cases" / "rules" / "jsonpath.yaml").data


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


PIECES = st.sampled_from(
    [
        *(
            "$",
            ".",
            "..",
            "a",
            "b",
            "ö",
            "😀",
            "1",
            "01",
            "0.1",
            "[0]",
            "[01]",
            "[ 1 ]",
            "[-1]",
            "[1:]",
            "[0,1]",
            "[*]",
            ".*",
        ),
        *(
            "['a']",
            '["b"]',
            "['a','b']",
            "[a]",
            "[last]",
            ",",
            " ",
            "\t",
            "\r\n",
            "-",
            "(",
            ")",
            "?",
            "@",
            "`len`",
            "[?@.a == 1]",
        ),
    ]
)
TEXTS = st.lists(PIECES, min_size=1, max_size=6).map("".join)


def _parsed(parse, text):
    """The path, None if it was refused with a hint."""
    try:
        return parse(text)
    except RuleError as error:
        return pytest.fail(f"no hint: {error}") if not error.hint else None


def _bare(text):
    """A path's text without blanks, and with names and wildcards in one form."""
    text = re.sub(r"[ \t\r\n()]", "", text).replace("'", '"')
    text = re.sub(r'\.\.\["([^"]*)"\]', r"..\1", text)
    return re.sub(r'\["([^",]*)"\]', r".\1", text).replace("..*", "..[*]").replace(".*", "[*]")


@settings(max_examples=fuzzing.examples(300), deadline=None)
@given(TEXTS | TEXTS.map(lambda text: f"$.{text}"))
@example("$.a,b")
@example("$.l[last]")
@example("$.l[01]")
@example("$ .a")
@example(" $")
@example("$.a[b]")
def test_no_character_of_a_path_is_lost(text):
    """A path is parsed with all of its names, indexes and signs, or refused with a hint."""
    path = _parsed(parse_path, text)
    if path is None:
        return
    assert _bare(path_text(path)) == _bare(text)
    assert parse_path(path_text(path)) == path


@settings(max_examples=fuzzing.examples(300), deadline=None)
@given(TEXTS | TEXTS.map(lambda text: f"$.{text}"))
def test_a_loose_path_is_jsonpath_or_names_between_dots(text):
    """What `@path` and templates take is a JSONPath, with or without `$`, or names with dots between."""
    path = _parsed(parse_loose_path, text)
    if path is None:
        return
    names = re.split(r"\.|\[(\d+)\]", text.removeprefix("$."))
    dotted = [each.name if isinstance(each, Key) else str(getattr(each, "index", None)) for each in path.segments]
    if dotted == [name for name in names if name]:
        return
    assert " " not in re.sub(r"\[.*?\]", "", text)
    rooted = text if text.startswith("$") else f"${text}" if text[:1] in {".", "["} else f"$.{text}"
    assert path.segments == (() if text in {"", ".", "$", "$."} else parse_path(rooted).segments)


@settings(max_examples=fuzzing.examples(300), deadline=None)
@given(TEXTS, EVENTS)
def test_a_path_that_only_the_event_knows(text, event):
    """A path of names and indexes finds the same as in a rule file; other paths are missing."""
    event["path"] = text
    found = compile_mapping({"@path": {"@path": "$.path"}})(event)
    try:
        path = parse_loose_path(text)
    except RuleError:
        assert found is MISSING
        return
    plain = all(isinstance(segment, Key | Index) for segment in path.segments)
    assert found == (compile_mapping({"@path": text})(event) if plain else MISSING)


@pytest.mark.parametrize(
    "text", ["$ .a", "$.a .b", "$.a [0]", " $.a", "$.a ", "$.a. b", "$.l[01]", "$.a[b]", "a[last]", "@.a"]
)
def test_a_path_that_segment_reads_otherwise_is_refused(text):
    """What is a name to Segment, and another path or none to JSONPath, is refused in `@path` and in templates."""
    for mapping in ({"@path": text}, {"@template": f"x {{{{{text}}}}}"}):
        if "@template" in mapping and text != text.strip():
            continue  # Segment takes blanks at the ends of a placeholder out
        with pytest.raises(RuleError) as caught:
            compile_mapping(mapping)
        assert caught.value.hint


@pytest.mark.parametrize("text", ["$ .a", " $", " $.a", "$ ", "$ [0]", "\t$", "$\n.a"])
def test_a_value_that_is_nearly_a_path_is_refused(text):
    """Text that is not a path because of a blank is refused, and `@literal` marks it as text."""
    with pytest.raises(RuleError, match="is neither a path nor plain text") as caught:
        compile_mapping({"a": text})
    assert "@literal" in caught.value.hint
    assert compile_mapping({"@literal": text})({}) == text


def test_half_of_a_surrogate_pair():
    """A regular expression reads it as U+FFFD; it is refused within one."""
    event = {"l": [{"v": "a\ud800b", "n": 1}, {"v": "b\ud800", "n": 2}], "s": "x\udfff"}
    assert compile_mapping("$.l[?(@.v =~ 'a.b')].n")(event) == [1]
    assert compile_mapping({"@match": {"value": "$.s", "pattern": "x(.)"}})(event) == "\ufffd"
    for wrong in ("$.l[?(@.v =~ '\ud800')]", {"@match": {"value": "$.s", "pattern": "\ud800"}}):
        with pytest.raises(RuleError, match="half of a surrogate pair"):
            compile_mapping(wrong)


@pytest.mark.parametrize("make", [lambda inner: [inner], lambda inner: [[], [inner]], lambda inner: {"a": [inner]}])
def test_join_of_descendants_takes_linear_time(make):
    """Each list is converted to text once, though it is in the text of all lists that contain it."""
    mapping = compile_mapping({"@join": {"value": "$.x..*", "separator": ""}})
    calls = []
    for depth in (2_000, 8_000):
        value = [1]
        for _ in range(depth):
            value = make(value)
        calls.append(count_calls(partial(mapping, {"x": value})))
    assert calls[1] < 5 * calls[0]


def count_calls(work):
    """Count the calls of Python and C functions that `work` makes."""
    count = 0

    def count_one(*_):
        nonlocal count
        count += 1

    sys.setprofile(count_one)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count
