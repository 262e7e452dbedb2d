import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.collector import json_slices

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
    found = json_slices.elements(b" \n" + text + b"\t")
    assert [json.loads(part) for part in found] == values
    assert all(part in text and part == part.strip() for part in found)


@given(st.dictionaries(st.text(), VALUES), LAYOUTS)
def test_members_are_what_stands_in_the_object(values: dict[str, Any], layout: dict[str, Any]):
    """Each member of any object, in any layout, is found as it was written."""
    text = json.dumps(values, **layout).encode(errors="surrogatepass")
    try:
        found = json_slices.members(text)
    except ValueError:
        assert any("\ud800" <= letter <= "\udfff" for name in values for letter in name)
    else:
        assert {name: json.loads(part) for name, part in found.items()} == values


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (b"[]", []),
        (b"[1,]", [b"1"]),
        (b"[,1]", [b"", b"1"]),
        (b"[1,,2]", [b"1", b"", b"2"]),
        (b"[{} x, NaN ,undefined]", [b"{} x", b"NaN", b"undefined"]),
        (b"[{'a,b':1},2]", [b"{'a,b':1}", b"2"]),
        (b'["\\x41",{"a":"\xff,]"}]', [b'"\\x41"', b'{"a":"\xff,]"}']),
    ],
)
def test_an_invalid_element_ends_where_the_next_one_begins(text: bytes, parts: list[bytes]):
    """Whatever is between two commas is one element, for the parser to refuse."""
    assert json_slices.elements(text) == parts


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        (b'{"writeKey":"a"}', ["a"]),
        (b'{"batch":[{"writeKey" :\n"a"}],"writeKey":"b\\/","x":"writeKey"}', ["a", "b/"]),
        (b'{"writeKey":1}', []),
        (b'{"batch":[NaN]}', []),
        (b'{"writeKey":"a",' * 3, ["a"]),
    ],
)
def test_write_keys_are_found_wherever_they_are(text: bytes, keys: list[str]):
    """Each one once, as it reads without its escapes."""
    assert json_slices.write_keys(text) == keys


def test_so_many_write_keys_are_looked_up():
    """A body of nothing but keys costs a hundred look-ups."""
    assert len(json_slices.write_keys(b",".join(b'"writeKey":"%d"' % n for n in range(200_000)))) == 100


def test_the_last_member_of_a_name_wins():
    """As it does for the parser, however the name is written."""
    assert json_slices.members(rb'{"batch":[1],"b\u0061tch":[2]}') == {"batch": b"[2]"}


@given(st.binary() | st.text(alphabet='[]{}",:\\ a1', max_size=30).map(str.encode))
def test_anything_else_is_a_value_error(text: bytes):
    """Whatever the bytes, parts are found or a ValueError is raised."""
    for function in (json_slices.members, json_slices.elements):
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
    for function in (json_slices.members, json_slices.elements):
        with pytest.raises(ValueError, match=r"byte \d|line 1"):
            function(text)
    json_slices.write_keys(text)
    assert time.process_time() - started < 8
