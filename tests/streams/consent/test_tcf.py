from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.consent.tcf import MAX_STRING_CHARACTERS, ConsentString, ConsentStringError
from transforms.documents import Document

CASES = Document.read(Path("tests/cases/consent_strings.yaml").resolve()).data
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@pytest.mark.parametrize("case", [pytest.param(case, id=case["says"]) for case in CASES])
def test_what_a_string_permits(case: dict[str, Any]):
    """A string made by the framework's own library permits what went into it, and nothing else."""
    consent = ConsentString.decode(case["string"])
    for purpose, vendor, by_interest, answer in case["permits"]:
        assert consent.permits(purpose, vendor, by_interest=by_interest) is answer, (purpose, vendor, by_interest)


@given(
    st.text(max_size=60) | st.text(LETTERS, max_size=300).map("C".__add__) | st.just("C" * (MAX_STRING_CHARACTERS + 1))
)
def test_anything_else_is_an_error_of_its_own(text: str):
    """Any text is a consent string or raises ConsentStringError; `permits` never raises."""
    try:
        consent = ConsentString.decode(text)
    except ConsentStringError:
        return
    assert consent.permits(1, 65535, by_interest=True) in (True, False)


@pytest.mark.parametrize("case", [pytest.param(case, id=case["says"]) for case in CASES])
def test_a_string_cut_off_is_an_error(case: dict[str, Any]):
    """No part of a core is taken for the whole."""
    core = case["string"].partition(".")[0]
    # The last letters may be padding alone.
    for length in range(len(core) - 5):
        with pytest.raises(ConsentStringError):
            ConsentString.decode(core[:length])


@given(st.sets(st.integers(1, 24)), st.sets(st.integers(1, 300)), st.booleans())
def test_purposes_and_vendors_come_back(purposes: set[int], vendors: set[int], by_ranges: bool):
    """However vendors are written, as bits or as ranges, exactly those that went in are permitted."""
    bits = f"{2:06b}" + "0" * 146 + "".join("1" if it in purposes else "0" for it in range(1, 25)) + "0" * 24 + "0" * 13
    bits += f"{max(vendors, default=0):016b}"
    if by_ranges:
        bits += f"1{len(vendors):012b}" + "".join(f"0{vendor:016b}" for vendor in sorted(vendors))
    else:
        bits += "0" + "".join("1" if it in vendors else "0" for it in range(1, max(vendors, default=0) + 1))
    bits += "0" * 17 + "0" * 12
    bits += "0" * (-len(bits) % 6)
    consent = ConsentString.decode("".join(LETTERS[int(bits[at : at + 6], 2)] for at in range(0, len(bits), 6)))
    assert {it for it in range(1, 25) if consent.permits(it)} == purposes
    assert {it for it in range(1, 302) if purposes and consent.permits(min(purposes), it)} == (
        vendors if purposes else set()
    )
