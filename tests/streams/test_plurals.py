import pytest

from streams.plurals import counted


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 events"), (1, "1 event"), (2, "2 events"), (1234567, "1,234,567 events")]
)
def test_a_number_of_things(number: int, text: str):
    """One is singular, every other number plural; thousands have commas."""
    assert counted(number, "event") == text


def test_a_plural_of_its_own():
    """A noun may have a plural without s."""
    assert [counted(number, "delivery", "deliveries") for number in (1, 2)] == ["1 delivery", "2 deliveries"]


def test_a_fraction():
    """A fraction takes the plural, and a whole number has no decimals."""
    assert [counted(number, "hour") for number in (0.5, 1.0, 36.0)] == ["0.5 hours", "1 hour", "36 hours"]
