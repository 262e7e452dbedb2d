import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.collector import slices

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda parts: st.lists(parts, max_size=4) | st.dictionaries(st.text(), parts, max_size=4),
    max_leaves=12,
)
LAYOUTS = st.sampled_from(
    [{"separators": (",", ":")}, {"indent": 3}, {"ensure_ascii": False, "separators": (" ,", ": ")}]
)


@given(st.lists(VALUES), LAYOUTS)
def test_elements_are_what_stands_in_the_list(values: list[Any], layout: dict[str, Any]):
    """Each element of any list, in any layout, is found as it was written."""
    text = json.dumps(values, **layout).encode()
    found = slices.elements(b" \n" + text + b"\t")
    assert [json.loads(part) for part in found] == values
    assert all(part in text and part == part.strip() for part in found)


@given(st.dictionaries(st.text(), VALUES), LAYOUTS)
def test_members_are_what_stands_in_the_object(values: dict[str, Any], layout: dict[str, Any]):
    """Each member of any object, in any layout, is found as it was written."""
    text = json.dumps(values, **layout).encode(errors="surrogatepass")
    try:
        found = slices.members(text)
    except ValueError:
        assert any("\ud800" <= letter <= "\udfff" for name in values for letter in name)
    else:
        assert {name: json.loads(part) for name, part in found.items()} == values


def test_the_last_member_of_a_name_wins():
    """As it does for the parser, however the name is written."""
    assert slices.members(rb'{"batch":[1],"b\u0061tch":[2]}') == {"batch": b"[2]"}


@given(st.binary() | st.text(alphabet='[]{}",:\\ a1', max_size=30).map(str.encode))
def test_anything_else_is_a_value_error(text: bytes):
    """Whatever the bytes, parts are found or a ValueError is raised."""
    for function in (slices.members, slices.elements):
        try:
            function(text)
        except ValueError:
            continue


@pytest.mark.parametrize(
    "text",
    [
        b"[" + b'"' * 4_000_000,
        b"[" + b'"\\' * 2_000_000,
        b"[" * 4_000_000,
        b"[" + b"[]," * 1_300_000,
        b"[" + b" " * 4_000_000,
        b'["' + b"a" * 4_000_000,
        b"{" + b'"a":' * 1_000_000,
    ],
)
def test_hostile_text_takes_linear_time(text: bytes):
    """4 MB of anything are through in seconds."""
    started = time.process_time()
    for function in (slices.members, slices.elements):
        with pytest.raises(ValueError, match=r"byte \d|line 1"):
            function(text)
    assert time.process_time() - started < 8
