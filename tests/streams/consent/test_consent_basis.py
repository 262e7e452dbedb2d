"""On which legal basis a consent string permits a purpose."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.consent.tcf import MAX_STRING_CHARACTERS, ConsentString, ConsentStringError

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
EVERY = frozenset(range(1, 25))
BY_INTEREST = EVERY - {1, 3, 4, 5, 6}
"""TCF v2.2 takes purposes 3 to 6 off legitimate interest; purpose 1 never had it."""
NOT_ALLOWED, BY_CONSENT_ONLY, BY_INTEREST_ONLY = 0, 1, 2
VENDOR, OTHER = 7, 8

Restrictions = list[tuple[int, int, int, int]]
"""Purpose, kind, first and last vendor."""


def encode(
    purposes: frozenset[int] = frozenset(),
    interests: frozenset[int] = frozenset(),
    vendors: frozenset[int] = frozenset({VENDOR, OTHER}),
    vendor_interests: frozenset[int] = frozenset({VENDOR, OTHER}),
    restrictions: Restrictions | None = None,
    version: int = 2,
) -> str:
    """A consent string by the specification's table of the core's fields."""
    bits = f"{version:06b}" + "0" * 146 + flags(purposes, 24) + flags(interests, 24) + "0" * 13
    for ids in (vendors, vendor_interests):
        highest = max(ids, default=0)
        bits += f"{highest:016b}0" + flags(ids, highest)
    bits += f"{len(restrictions or []):012b}"
    for purpose, kind, first, last in restrictions or []:
        bits += f"{purpose:06b}{kind:02b}{1:012b}"
        bits += f"0{first:016b}" if first == last else f"1{first:016b}{last:016b}"
    bits += "0" * (-len(bits) % 6)
    return "".join(LETTERS[int(bits[at : at + 6], 2)] for at in range(0, len(bits), 6))


def flags(ids: frozenset[int], count: int) -> str:
    return "".join("1" if number in ids else "0" for number in range(1, count + 1))


def permitted(string: str, vendor: int | None, *, by_interest: bool) -> set[int]:
    consent = ConsentString.decode(string)
    return {purpose for purpose in EVERY if consent.permits(purpose, vendor, by_interest=by_interest)}


@pytest.mark.parametrize("vendor", [None, VENDOR])
def test_only_some_purposes_may_rest_on_legitimate_interest(vendor: int | None):
    """Interest never permits purposes 1 and 3 to 6, whatever the string says; and nothing where consent is wanted."""
    string = encode(interests=EVERY)
    assert permitted(string, vendor, by_interest=True) == BY_INTEREST
    assert permitted(string, vendor, by_interest=False) == set()
    assert not ConsentString.decode(string).permits(2, vendor)


@pytest.mark.parametrize(
    ("kind", "by_consent", "by_interest"),
    [(NOT_ALLOWED, False, False), (BY_CONSENT_ONLY, True, False), (BY_INTEREST_ONLY, False, True)],
)
@pytest.mark.parametrize("purpose", [2, 7, 11])
def test_what_the_publisher_restricts(purpose: int, kind: int, by_consent: bool, by_interest: bool):
    """For its purpose and vendors alone: not allowed at all, by consent only, or by legitimate interest only."""
    restrictions = [(purpose, kind, VENDOR, VENDOR)]
    agreed = encode(purposes=EVERY, restrictions=restrictions)
    assumed = encode(interests=EVERY, restrictions=restrictions)
    for string, basis, answer in ((agreed, False, by_consent), (assumed, True, by_interest)):
        consent = ConsentString.decode(string)
        assert consent.permits(purpose, VENDOR, by_interest=basis) is answer
        assert consent.permits(purpose, OTHER, by_interest=basis)
        assert consent.permits(9, VENDOR, by_interest=basis)


@given(
    st.frozensets(st.sampled_from(sorted(EVERY))),
    st.frozensets(st.sampled_from(sorted(EVERY))),
    st.lists(st.tuples(st.integers(1, 24), st.integers(0, 3), st.integers(1, 9), st.integers(1, 9)), max_size=4),
)
def test_no_restriction_permits_more(purposes: frozenset[int], interests: frozenset[int], made: Restrictions):
    """Whatever the publisher restricts, it only takes away; and legitimate interest only adds to consent."""
    restrictions = [(purpose, kind, min(first, last), max(first, last)) for purpose, kind, first, last in made]
    free, bound = encode(purposes, interests), encode(purposes, interests, restrictions=restrictions)
    for by_interest in (False, True):
        assert permitted(bound, VENDOR, by_interest=by_interest) <= permitted(free, VENDOR, by_interest=by_interest)
    assert permitted(bound, VENDOR, by_interest=False) <= permitted(bound, VENDOR, by_interest=True)


@pytest.mark.parametrize("version", [0, 1, 3, 63])
def test_another_version_is_refused(version: int):
    """Its fields are elsewhere, and must not be guessed."""
    with pytest.raises(ConsentStringError):
        ConsentString.decode(encode(purposes=EVERY, version=version))


def test_a_string_that_is_too_long_is_refused():
    """It is not read at all, however well it begins."""
    string = f"{encode(purposes=EVERY)}."
    assert ConsentString.decode(string.ljust(MAX_STRING_CHARACTERS, "A")).permits(1)
    with pytest.raises(ConsentStringError):
        ConsentString.decode(string.ljust(MAX_STRING_CHARACTERS + 1, "A"))
