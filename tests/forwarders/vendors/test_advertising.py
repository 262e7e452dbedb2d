"""Advertising vendors: standard events, and the fields that match a person."""

import re
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.conformance.golden import EVENTS
from forwarders.api.contract import Category, Delivery, Forwarder, HttpForwarder, Request, check_payload
from streams.events import normalize
from tests.support import golden
from transforms import DROP

SPEC = yaml.safe_load((Path(__file__).parents[2] / "cases" / "standard_events.yaml").read_text())
CASES = [(vendor, name) for vendor in SPEC["vendors"] for name in SPEC["events"]]
ADDRESS = {"street": "1 High St", "city": "Menlo Park", "state": "California", "postalCode": "94025", "country": "US"}
PERSON = {
    "email": "ada@example.com",
    "phone": "+44 20 7946 0018",
    "firstName": "Ada",
    "lastName": "Lovelace",
    "gender": "female",
    "birthday": "1990-12-10",
    "address": ADDRESS,
}


def event(name: str, **context: Any) -> dict[str, Any]:
    made: dict[str, Any] = deepcopy(dict(EVENTS["custom"]["everything"]))
    properties = deepcopy(SPEC["kinds"][SPEC["events"].get(name, "none")])
    made |= {"event": name, "properties": properties}
    made["context"] |= {"traits": PERSON} | context
    return made


def payload_of(vendor: str, sent: dict[str, Any]) -> Mapping[str, Any]:
    """Return the payload that the preset makes, which the vendor accepts as it is."""
    ((_, payload),) = golden.of(vendor).preset.apply(normalize(deepcopy(sent)))
    assert isinstance(payload, dict), payload
    checked = check_payload(golden.of(vendor).make(), payload, 1000)
    assert (checked.problem, list(checked.left_out)) == (None, [])
    return payload


def request_of(forwarder: Forwarder[Any], payload: Mapping[str, Any]) -> Request:
    assert isinstance(forwarder, HttpForwarder)
    return forwarder.build_request([Delivery("m-1", payload, "track", "x", "2026-01-02T03:04:05Z")])


def at(payload: Any, place: str) -> Any:
    for key in place.split("."):
        payload = payload.get(key) if isinstance(payload, dict) else None
    return payload


def test_every_advertising_vendor_has_cases() -> None:
    """No vendor of the category goes without."""
    names = [name for name in golden.NAMES if golden.of(name).forwarder.contract.category is Category.ADVERTISING]
    assert sorted(names) == sorted(SPEC["vendors"])


@pytest.mark.parametrize(("vendor", "name"), CASES)
def test_standard_event(vendor: str, name: str) -> None:
    """Each standard event has the vendor's own name and the fields that belong to its kind."""
    spec = SPEC["vendors"][vendor]
    payload = payload_of(vendor, event(name)) if spec["names"][name] else {}
    assert (at(payload, spec["name"]) or None) == spec["names"][name]
    if payload:
        places = spec.get("fields", {}).get(name, spec["places"].get(SPEC["events"][name], ()))
        assert [place for place in places if at(payload, place) in (None, [], {})] == []


@pytest.mark.parametrize("vendor", SPEC["vendors"])
def test_person(vendor: str) -> None:
    """Names, city, ZIP, birthday and gender are sent if the vendor matches by them."""
    spec = SPEC["vendors"][vendor]
    user = payload_of(vendor, event("Order Completed"))
    user = at(user, spec.get("person", "user_data"))
    assert [field for field in spec["user"] if field not in user] == []


def test_snapchat_event_of_an_app() -> None:
    """An event of a mobile SDK is a MOBILE_APP event with the 16 texts of extinfo and the device's IDs."""
    sent = event("Application Opened")
    del sent["context"]["page"]
    payload = payload_of("snapchat", sent)
    assert payload["action_source"] == "MOBILE_APP"
    assert (payload["user_data"]["idfv"], payload["user_data"]["madid"]) == (
        "3f2a9c64-phone",
        "7a3cbea0-bdf5-11e4-8dfc-aa07a5b093db",
    )
    info = payload["app_data"]["extinfo"]
    assert info == [
        *("i2", "example.shop", "314", "3.1.4", "17.5", "iPhone15,2", "en-GB", "", "Example Mobile", "1179", "2556"),
        *("3", "", "", "", "Europe/London"),
    ]
    assert payload["app_data"]["advertiser_tracking_enabled"] == 1
    sent["context"]["device"]["type"] = "Android"
    payload = payload_of("snapchat", sent)
    assert payload["app_data"]["extinfo"][0] == "a2"
    assert "idfv" not in payload["user_data"]


def test_google_ads_identifiers() -> None:
    """The email address, the phone number and the address are one identifier each."""
    identifiers = payload_of("google_ads", event("Order Completed"))["userData"]["userIdentifiers"]
    assert [[*identifier] for identifier in identifiers] == [["emailAddress"], ["phoneNumber"], ["address"]]
    assert identifiers[2]["address"] | {"givenName": "", "familyName": ""} == {
        "givenName": "",
        "familyName": "",
        "regionCode": "US",
        "postalCode": "94025",
    }
    sent = event("Order Completed", traits={"address": ADDRESS})
    sent["properties"]["gclid"] = "g-1"
    payload = payload_of("google_ads", sent)
    assert (payload["adIdentifiers"], payload.get("userData")) == ({"gclid": "g-1"}, None)


def test_reddit_match_keys() -> None:
    """The email address is hashed in Reddit's own form, by its published example, and so is the phone number."""
    sent = event("Order Completed", traits={"email": "Al.ice+Apple@Example.Com", "phone": "+1 (555) 444-1234"})
    user = payload_of("reddit", sent)["user"]
    assert user["email"] == "ff8d9819fc0e12bf0d24892e45987e249a28dce836a85cad60e28eaaa8c6d976"
    assert user["phone_number"] == "e5b124c58580eb16bd959b8d0cac12b12c952e2ceae0203d416cff94f10b994a"


def test_reddit_order_without_products() -> None:
    """It is sent with its value."""
    sent = event("Order Completed")
    sent["properties"] = {"revenue": 20, "currency": ""}
    payload = payload_of("reddit", sent)
    assert (payload["type"]["tracking_type"], payload["metadata"]["value"]) == ("PURCHASE", 20)


@pytest.mark.parametrize(
    ("source", "objects", "name"),
    [
        ("web", {"page"}, "CompleteRegistration"),
        ("app", {"app"}, "Registration"),
        ("crm", {"lead"}, "CompleteRegistration"),
        ("offline", set(), "CompleteRegistration"),
    ],
)
def test_tiktok_event_source(source: str, objects: set[str], name: str) -> None:
    """Each event source has the objects that belong to it, and apps have names of their own."""
    sent = event("Signed Up")
    sent["properties"] = {"lead_id": "l-1"}
    forwarder = golden.of("tiktok").make(event_source=source)
    body = request_of(forwarder, payload_of("tiktok", sent)).body
    assert (body["event_source"], body["data"][0]["event"]) == (source, name)
    assert {"page", "app", "lead"} & body["data"][0].keys() == objects


def test_tiktok_app_without_id() -> None:
    """The app's ID is that of the settings if the event has none."""
    sent = event("Signed Up")
    sent["context"]["app"] = {"name": "Shop"}
    payload = payload_of("tiktok", sent)
    for settings, app in (({}, {}), ({"app_id": "123"}, {"app_id": "123"})):
        forwarder = golden.of("tiktok").make(event_source="app", **settings)
        assert check_payload(forwarder, payload, 1000).problem is None
        assert request_of(forwarder, payload).body["data"][0]["app"] == app | {"app_name": "Shop"}


def test_meta_event_of_an_app() -> None:
    """An event of a mobile SDK has the fields that Meta requires of apps; one of a website has none of them."""
    sent = event("Application Opened")
    assert payload_of("meta", sent)["action_source"] == "website"
    assert "app_data" not in payload_of("meta", sent)
    del sent["context"]["page"]
    payload = payload_of("meta", sent)
    assert payload["action_source"] == "app"
    assert (len(payload["app_data"]["extinfo"]), payload["app_data"]["extinfo"][0]) == (16, "i2")
    assert payload["user_data"]["madid"] == "7A3CBEA0-BDF5-11E4-8DFC-AA07A5B093DB"


@pytest.mark.parametrize("vendor", ["meta", "snapchat", "pinterest", "tiktok"])
def test_country_of_the_geo_enrichment(vendor: str) -> None:
    """Without an address the country is that of the IP address; the city, which is often wrong, is not sent."""
    spec = SPEC["vendors"][vendor]
    sent = event(
        "Order Completed", traits={"email": "ada@example.com"}, location={"countryCode": "GB", "city": "London"}
    )
    user = at(payload_of(vendor, sent), spec.get("person", "user_data"))
    addressed = event("Order Completed", traits={"email": "ada@example.com", "address": {"country": "GB"}}, location={})
    assert user["country"] == at(payload_of(vendor, addressed), spec.get("person", "user_data"))["country"]
    assert not {"ct", "city"} & user.keys()


DIRTY: Mapping[str, Mapping[str, Any]] = {
    "a product without ID": {"products": [{"name": "x", "price": 3}, {"product_id": "P-1", "price": 2}]},
    "numeric names": {"products": [{"product_id": 5, "name": 7, "price": "3", "quantity": "2"}]},
    "a list as category": {"products": [{"product_id": "5", "category": ["a", "b"]}], "category": ["a"]},
    "a fraction as quantity": {"products": [{"product_id": "5", "quantity": 1.5}], "quantity": 1.5},
    "no products": {"products": None},
    "a text for products": {"products": "x"},
    "nulls for products": {"products": [None, 5]},
    "an empty coupon and email": {"coupon": [], "email": "", "phone": ""},
    "a number as order ID": {"order_id": 17},
    "no currency": {"currency": ""},
    "a currency's name": {"currency": "pounds"},
}


@pytest.mark.parametrize("dirt", DIRTY)
@pytest.mark.parametrize("vendor", SPEC["vendors"])
def test_dirty_values_never_kill_a_conversion(vendor: str, dirt: str) -> None:
    """An order with values that no vendor takes is sent without them; Meta requires a currency for a Purchase."""
    sent = event("Checkout Started" if vendor == "meta" and "currency" in dirt else "Order Completed")
    sent["properties"] |= DIRTY[dirt]
    ((_, payload),) = golden.of(vendor).preset.apply(normalize(sent))
    checked = check_payload(golden.of(vendor).make(), payload, 1000)
    assert checked.problem is None
    assert not re.search(r"""['"]['"]|pounds|1\.5""", str(checked.payload))


@pytest.mark.parametrize("vendor", ["snapchat", "pinterest", "google_ads", "linkedin"])
@pytest.mark.parametrize("traits", [{}, {"email": "", "phone": ""}])
def test_nobody_is_dropped(vendor: str, traits: dict[str, Any]) -> None:
    """An event without personal data to match is filtered out, not a dead letter."""
    sent = event("Order Completed", traits=traits, ip="", device={})
    ((rule, payload),) = golden.of(vendor).preset.apply(normalize(sent))
    assert (rule in {"nobody", "unknown"}, payload) == (True, DROP)
