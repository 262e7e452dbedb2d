import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.parsing import lenient_json

TEXTS = st.text(st.characters(codec="utf-8") | st.characters(categories=["Cs"]))


def scrub(value: str) -> str:
    """Return text with its pairs of surrogates joined, and U+FFFD for the lone ones."""
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


@given(st.dictionaries(TEXTS, TEXTS, max_size=1) | st.lists(TEXTS))
def test_lone_surrogates_become_replacement_characters(value: Any):
    """JSON with any text in it is read, and only lone surrogates are changed."""
    text = json.dumps(value).encode()
    expected = (
        [list(map(scrub, item)) for item in value.items()] if isinstance(value, dict) else list(map(scrub, value))
    )
    found = lenient_json.loads(text)
    assert ([list(item) for item in found.items()] if isinstance(found, dict) else found) == expected


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (rb'"\ud83d\ude00"', "\U0001f600"),
        (rb'"\uD83D\uDE00\ude00"', "\U0001f600\ufffd"),
        (rb'"\\ud83d"', "\\ud83d"),
        (rb'"\\\ud83d"', "\\\ufffd"),
        (rb'"\ud83d\n\ude00"', "\ufffd\n\ufffd"),
        (b'"a\xed\xa0\xbd"', "a\ufffd"),
        (b'"\xed\x9f\xbf"', "\ud7ff"),
    ],
)
def test_what_is_replaced(text: bytes, value: str):
    """Pairs, escaped backslashes and characters next to the surrogates stay as they are."""
    assert lenient_json.loads(text) == value


@pytest.mark.parametrize("text", [b"NaN", rb'"\ud83', rb'"\ud83d', b'"\xff"', b"\xef\xbb\xbf1", b""])
def test_other_mistakes_remain(text: bytes):
    """Invalid JSON raises the parser's error."""
    with pytest.raises(orjson.JSONDecodeError):
        lenient_json.loads(text)


def test_only_one_byte_order_mark_is_removed():
    """A second one is part of the text."""
    assert lenient_json.without_mark(b"\xef\xbb\xbf\xef\xbb\xbf1") == b"\xef\xbb\xbf1"
    assert lenient_json.without_mark(b"1") == b"1"
