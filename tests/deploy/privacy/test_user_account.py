"""Personal data is recognized by the names of fields."""

import pytest

from deploy.privacy.user_account import kind_of


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("$.context.traits.email", "email"),
        ("$.context.ip", "ip"),
        ("$.properties['phone_number']", "phone_number"),
        ("$.traits.plan", "plan"),
        ("$.properties.total", None),
        ("$.properties.products[0].name", None),
        ("$", "the whole event"),
        ("$.properties", "all of its properties"),
    ],
)
def test_kind_of_a_field(path, kind):
    """Fields with names of personal data, and all traits, have a kind; an object of all has that of the whole event."""
    assert kind_of(path) == kind
