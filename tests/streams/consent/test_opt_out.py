"""Which integrations an event's `integrations` opts out of."""

from typing import Any

import pytest

from forwarders import registry
from turnout_tracking.optout import names_of, opts_out

GA4 = names_of("shop_ga4", registry.find("ga4").contract.names)
OUT: list[dict[str, Any]] = [
    *({"shop_ga4": no} for no in (False, 0, 0.0, None, "false", "False", " FALSE ", "0", "no", "off", "null", "", "?")),
    *({"All": no} for no in (False, 0, None, "false", "0")),
    *({name: False} for name in ("all", "ALL", " All ", "_all")),
    *({name: False} for name in ("Shop-GA4", "shop ga4", "SHOPGA4", "shop__ga4")),
    *({name: False} for name in ("GA4", "Google Analytics 4", "google-analytics-4", "GOOGLE ANALYTICS 4")),
    *({name: False} for name in ("Google Analytics 4 Web", "Google Analytics 4 (GA4)", "Google Analytics 4 (Actions)")),
    {"All": True, "GA4": False},
    {"shop_ga4": True, "Google Analytics 4": False},
    {"ga4": {"client_id": "1"}, "GA4": False},
    {"ga4": {"enabled": False}},
    {"All": False, "mixpanel": True},
    {"All": "false", "Google Ads": "true"},
    {"All": True, "all": False},
]
IN: list[dict[str, Any]] = [
    {},
    *({"shop_ga4": yes} for yes in (True, 1, "true", "True", "1", "yes", {}, [], {"client_id": "1"})),
    *({"All": False, "Google Analytics 4": yes} for yes in (True, 1, "true", {}, [], {"client_id": "1"})),
    {"ALL": "false", "GA-4": True},
    {"All": True},
    {"mixpanel": False},
    {"": False},
    {"GA4" * 100: False},
]


@pytest.mark.parametrize("integrations", OUT, ids=str)
def test_opted_out(integrations: dict[str, Any]):
    """Every spelling of a name and of no is honoured, and a no wins over a yes."""
    assert opts_out(GA4, integrations)


@pytest.mark.parametrize("integrations", IN, ids=str)
def test_not_opted_out(integrations: dict[str, Any]):
    """A clear yes, or another integration's name, is not an opt-out."""
    assert not opts_out(GA4, integrations)


@pytest.mark.parametrize(
    ("forwarder", "name"),
    [
        ("meta", "Facebook Conversions API"),
        ("meta", "Facebook Conversions API (Actions)"),
        ("meta", "Facebook Pixel"),
        ("snapchat", "Snap Conversions Api"),
        ("google_ads", "Google Ads"),
        ("google_ads", "Google Adwords Enhanced Conversions"),
        ("customerio", "Customer.io"),
        ("braze", "Appboy"),
        ("amplitude", "Actions Amplitude"),
        ("segment", "Segment.io"),
    ],
)
def test_names_that_vendors_have_elsewhere(forwarder: str, name: str):
    """Each is one of the names of the forwarder's contract."""
    assert opts_out(names_of("mine", registry.find(forwarder).contract.names), {name: False})


def test_two_vendors_share_no_name():
    """An opt-out by one vendor's name does not reach another vendor."""
    seen: dict[str, str] = {}
    for found in registry.names():
        for name in names_of(found, registry.find(found).contract.names):
            assert seen.setdefault(name, found) == found
