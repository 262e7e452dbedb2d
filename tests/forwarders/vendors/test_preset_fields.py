"""Fields that presets send to one vendor for standard events."""

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from streams.steps.enrichment.campaign import CAMPAIGN
from streams.steps.enrichment.files import Files
from streams.steps.enrichment.user_agent import USER_AGENT
from tests.support import golden, spec_events

ANONYMOUS = "0a6b1c2d-1111-4222-8333-444455556666"
GA4_NAMES = {
    "Product List Viewed": "view_item_list",
    "Product Clicked": "select_item",
    "Promotion Viewed": "view_promotion",
    "Promotion Clicked": "select_promotion",
    "Product Removed": "remove_from_cart",
    "Product Added to Wishlist": "add_to_wishlist",
    "Wishlist Product Added to Cart": "add_to_cart",
    "Cart Viewed": "view_cart",
    "Payment Info Entered": "add_payment_info",
    "Checkout Step Completed": "add_shipping_info",
    "Product Shared": "share",
    "Signed In": "login",
}
EXPECTED: dict[str, list[tuple[str, str, str, Any]]] = {
    "customerio": [
        ("identify", "both", "batch.0.identifiers", {"id": "u-42-ada"}),
        ("identify", "both", "batch.0.attributes.anonymous_id", ANONYMOUS),
        ("identify", "both", "batch.0.attributes.created_at", 1748736000),
        ("identify", "anonymous", "batch.0.identifiers", {"email": "ada@example.com"}),
        ("alias", "known", "batch.0.action", "merge"),
        ("alias", "known", "batch.0.primary", {"id": "u-42-ada"}),
        ("alias", "known", "batch.0.secondary", {"id": "a-9"}),
        ("Application Opened", "known", "batch.0.name", "Application Opened"),
        ("Application Opened", "known", "batch.1.action", "add_device"),
        ("Application Opened", "known", "batch.1.device.platform", "ios"),
        ("Application Opened", "anonymous", "batch", 1),
    ],
    "iterable": [
        ("identify", "known", "users.0.dataFields.phoneNumber", "+442079460018"),
        ("identify", "anonymous", "users.0.email", "ada@example.com"),
        ("Order Completed", "known", "user.dataFields.phoneNumber", "+442079460018"),
        ("Order Completed", "known", "user.mergeNestedObjects", True),
        ("Order Completed", "known", "items", 2),
        ("alias", "known", "sourceUserId", "a-9"),
        ("alias", "known", "destinationUserId", "u-42-ada"),
    ],
    "klaviyo": [
        ("identify", "both", "data.attributes.anonymous_id", ANONYMOUS),
        ("Article Read", "both", "data.attributes.profile.data.attributes.anonymous_id", ANONYMOUS),
        ("Article Read", "anonymous", "data.attributes.profile.data.attributes.phone_number", "+442079460018"),
        ("group", "known", "data.attributes.properties.group_id", "c-7"),
    ],
    "mixpanel": [
        ("identify", "anonymous", "0.$distinct_id", f"$device:{ANONYMOUS}"),
        ("identify", "both", "0.$distinct_id", "u-42-ada"),
        ("Article Read", "both", "0.properties.$browser", "Chrome"),
        ("Article Read", "both", "0.properties.$os_version", "10"),
        ("Article Read", "both", "0.properties.company", "c-7"),
        ("Article Read", "both", "0.properties.mp_country_code", "GB"),
        ("Application Opened", "both", "0.properties.$ios_ifa", "7A3CBEA0-BDF5-11E4-8DFC-AA07A5B093DB"),
        ("alias", "known", "0.properties.$device_id", "a-9"),
        ("alias", "known", "0.properties.$user_id", "u-42-ada"),
    ],
    "posthog": [
        ("Article Read", "anonymous", "batch.0.properties.$process_person_profile", False),
        ("Article Read", "known", "batch.0.properties.$process_person_profile", True),
        ("Article Read", "known", "batch.0.properties.$groups", {"company": "c-7"}),
        ("Article Read", "known", "batch.0.properties.$browser", "Chrome"),
        ("Article Read", "known", "batch.0.properties.$device_type", "Desktop"),
        ("Article Read", "known", "batch.0.properties.$geoip_country_code", "GB"),
        ("identify", "anonymous", "batch.0.properties.$process_person_profile", True),
        ("alias", "known", "batch.0.properties.alias", "a-9"),
    ],
    "amplitude": [
        ("Article Read", "both", "events.0.platform", "Web"),
        ("Article Read", "both", "events.0.os_name", "Chrome"),
        ("Article Read", "both", "events.0.os_version", "126.0.6478.127"),
        ("Article Read", "both", "events.0.device_model", "Windows"),
        ("Article Read", "both", "events.0.user_properties.$set.utm_source", "news"),
        ("Article Read", "both", "events.0.user_properties.$set.referring_domain", "search.example"),
        ("Article Read", "both", "events.0.user_properties.$setOnce.initial_referrer", "https://search.example/"),
        ("Article Read", "both", "events.0.groups", {"company": "c-7"}),
        ("identify", "both", "events.0.user_properties.$set.plan", "gold"),
        ("Application Opened", "both", "events.0.platform", "iOS"),
        ("Application Opened", "both", "events.0.os_name", "iOS"),
        ("Application Opened", "both", "events.0.idfa", "7A3CBEA0-BDF5-11E4-8DFC-AA07A5B093DB"),
        ("Application Opened", "both", "events.0.adid", None),
        ("Order Completed", "both", "events.0.revenueType", "Purchase"),
    ],
    "ga4": [
        *((event, "both", "events.0.name", name) for event, name in GA4_NAMES.items()),
        ("Product Clicked", "both", "events.0.params.items.0.item_id", "P-1"),
        ("Promotion Viewed", "both", "events.0.params.creative_slot", "home_banner"),
        ("Payment Info Entered", "both", "events.0.params.payment_type", "Visa"),
        ("Checkout Step Completed", "both", "events.0.params.shipping_tier", "Fedex"),
        ("Order Completed", "both", "events.0.params.value", 45.5),
        ("Article Read", "both", "user_location", {"city": "London", "region_id": "GB-ENG", "country_id": "GB"}),
        ("Article Read", "both", "device.browser", "Chrome"),
    ],
    "hubspot": [("identify", "known", "inputs.0.properties.company", "Analytical Engines")],
}


def at(body: Any, path: str) -> Any:
    """Return the value at a path of a request's body; None if there is no such key."""
    for key in path.split("."):
        body = body[int(key)] if isinstance(body, list) else body.get(key) if isinstance(body, dict) else None
    return body


@pytest.mark.parametrize(
    ("vendor", "event", "identity", "path", "expected"),
    [(vendor, *row) for vendor, rows in EXPECTED.items() for row in rows],
)
def test_field(vendor: str, event: str, identity: str, path: str, expected: Any) -> None:
    """The request for an event has a value at a path; of a list, the number of items is expected."""
    (body,) = spec_events.requests(golden.of(vendor), spec_events.event(event, identity))
    found = at(body, path)
    assert (len(found) if isinstance(found, list) else found) == expected


def test_amplitude_maps_aliases() -> None:
    """An alias call maps the previous user to the user, and the request has nothing else of the event."""
    (body,) = spec_events.requests(golden.of("amplitude"), spec_events.event("alias"))
    assert parse_qs(body.decode())["mapping"] == ['[{"user_id":"a-9","global_user_id":"u-42-ada"}]']


@pytest.mark.parametrize("phone", ["+44 20 7946 0018", "+44-20-7946-0018", "+44 (20) 7946 0018"])
def test_klaviyo_knows_people_by_phone_number(phone: str) -> None:
    """Someone with nothing but a phone number is a profile, and someone without one is dropped."""
    event = spec_events.event("Article Read", "anonymous")
    event["context"]["traits"] = {"phone": phone}
    (body,) = spec_events.requests(golden.of("klaviyo"), event)
    assert body["data"]["attributes"]["profile"]["data"]["attributes"]["phone_number"] == "+442079460018"
    event["context"]["traits"] = {"phone": "", "email": ""}
    assert not list(spec_events.requests(golden.of("klaviyo"), event))


@pytest.mark.parametrize(
    ("category", "expected"),
    [
        (["Kitchen", "Teapots", "Blue"], ["Kitchen", "Teapots", "Blue", None]),
        ("Kitchen", ["Kitchen", None, None, None]),
    ],
)
def test_ga4_takes_a_list_of_categories(category: Any, expected: Any) -> None:
    """A list of categories fills the levels of an item's category in order."""
    event = spec_events.event("Product Viewed")
    event["properties"]["category"] = category
    (body,) = spec_events.requests(golden.of("ga4"), event)
    item = body["events"][0]["params"]["items"][0]
    assert [item.get(f"item_category{level}") for level in ("", 2, 3, 4)] == expected


@pytest.mark.parametrize(
    ("vendor", "path", "expected"),
    [
        ("amplitude", "events.0.os_name", "Chrome"),
        ("amplitude", "events.0.platform", "Web"),
        ("amplitude", "events.0.user_properties.$set.utm_source", "news"),
        ("amplitude", "events.0.user_properties.$set.gclid", "g-1"),
        ("mixpanel", "0.properties.$browser", "Chrome"),
        ("mixpanel", "0.properties.utm_source", "news"),
        ("posthog", "batch.0.properties.$browser", "Chrome"),
        ("posthog", "batch.0.properties.$device_type", "Desktop"),
        ("ga4", "device.operating_system", "Windows"),
        ("ga4", "device.category", "desktop"),
    ],
)
def test_enrichments_are_read(vendor: str, path: str, expected: str) -> None:
    """Presets send the values that the enrichments user_agent and campaign find in an event with user agent and URL."""
    event = spec_events.event("Article Read")
    for name in ("browser", "os", "device", "campaign"):
        del event["context"][name]
    event["context"]["page"]["url"] += "&gclid=g-1"
    for enrichment in (USER_AGENT, CAMPAIGN):
        patch = enrichment.make(enrichment.settings(), Files(Path()))(event)
        assert isinstance(patch, dict)
        event["context"] |= patch["context"]
    (body,) = spec_events.requests(golden.of(vendor), event)
    assert at(body, path) == expected


@pytest.mark.parametrize(
    ("vendor", "path", "expected"),
    [
        ("amplitude", "events.0.os_name", "Chrome"),
        ("amplitude", "events.0.os_version", "126.0.6478"),
        ("amplitude", "events.0.device_model", "Windows"),
        ("amplitude", "events.0.platform", "Web"),
        ("mixpanel", "0.properties.$browser", "Chrome"),
        ("mixpanel", "0.properties.$os", "Windows"),
        ("posthog", "batch.0.properties.$browser_version", "126.0.6478"),
        ("posthog", "batch.0.properties.$device_type", "Desktop"),
    ],
)
def test_user_agent_is_read_without_the_enrichment(vendor: str, path: str, expected: str) -> None:
    """Vendors that do not read a user agent get browser, system and device of an event that only has one."""
    event = spec_events.event("Article Read")
    for name in ("browser", "os", "device"):
        del event["context"][name]
    (body,) = spec_events.requests(golden.of(vendor), event)
    assert at(body, path) == expected


@pytest.mark.parametrize("kind", ["ios", "iOS", "Android"])
def test_user_agent_of_an_app_is_not_a_browser(kind: str) -> None:
    """An app's HTTP library is not taken for a browser."""
    event = spec_events.event("Application Opened")
    event["context"]["device"]["type"] = kind
    (body,) = spec_events.requests(golden.of("mixpanel"), event)
    assert at(body, "0.properties.$browser") is None
    (body,) = spec_events.requests(golden.of("amplitude"), event)
    assert at(body, "events.0.os_name") == "iOS"
