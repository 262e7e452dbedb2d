"""The forwarder of each vendor interprets the simulator's responses as intended."""

from datetime import datetime
from urllib.parse import parse_qsl, urlsplit

import orjson
import pytest

from deploy.simulator.vendor_state import VendorState
from deploy.simulator.vendors import SeenRequest, find_vendor
from forwarders.api.contract import (
    BatchFailure,
    Delivered,
    Delivery,
    HttpForwarder,
    PermanentFailure,
    Response,
    Split,
    Throttled,
)
from forwarders.api.oauth import Token, authorize, parse_token_response
from tests.support import golden

HTTP = [name for name in golden.NAMES if issubclass(golden.of(name).forwarder, HttpForwarder)]
SILENT = {"ga4", "webhook", "clickhouse", "slack", "rudderstack"}
"""They answer alike to good and bad, take one at a time, or have another's API."""
NOW = datetime.fromisoformat("2026-01-02T04:00:00Z").timestamp()


def contract(name):
    return golden.of(name).forwarder.contract


def send(state, name, items, poison=None):
    """What the forwarder reads from the simulator's answer to its request with these items."""
    forwarder = golden.of(name).make()
    request = forwarder.build_request(items)
    if (asking := forwarder.build_token_request(NOW)) is not None:
        token = parse_token_response(Response(200, {}, orjson.dumps(take(state, asking).body)), NOW)
        assert isinstance(token, Token)
        request = authorize(request, token)
    reply = take(state, request, poison)
    content = reply.body.encode() if isinstance(reply.body, str) else orjson.dumps(reply.body)
    return list(
        forwarder.parse_response(
            Response(reply.status, reply.headers, content if reply.body is not None else b""), items
        )
    )


def take(state, request, poison=None):
    """What the simulator answers to a request."""
    url = urlsplit(request.url)
    body = request.body if isinstance(request.body, bytes) else orjson.dumps(request.body)
    data = orjson.loads(body) if request.body is not None and body[:1] in b"[{" and b"\n" not in body else body.decode()
    headers = {key.lower(): value for key, value in request.headers.items()}
    seen = SeenRequest(1, "", "", request.method, url.path, dict(parse_qsl(url.query)), headers, data)
    return state.respond(find_vendor(url.path), seen, poison)


ID = "6f1c2a9e-3b44-4c1d-9a57-0d2f5e8b7c11"


def orders(name):
    """The delivery of an order, and two more that differ in their ids and numbers; iterable's also in the person."""
    (case,) = (each for each in golden.of(name).cases if each.name == "order-completed-everything")
    for n in range(3):
        payload = orjson.dumps(case.written["payload"]).decode()
        # Also in a product's name, since some vendors get the order's id only as a hash.
        for text, numbered in (("O-1001", f"O-{n}"), (ID, ID[:-1] + str(n)), ("Teapot", f"Teapot O-{n}")):
            payload = payload.replace(text, numbered)
        person = {"email": f"O-{n}"} if name == "iterable" else {}  # it lists people, and not deliveries
        yield Delivery(
            ID[:-1] + str(n), {**orjson.loads(payload), **person}, "track", "Order Completed", case.event["timestamp"]
        )


@pytest.mark.parametrize("name", HTTP)
def test_golden_requests_are_taken(name):
    """Every golden request, in its time, is taken."""
    for delivery in golden.of(name).deliveries():
        assert send(VendorState(lambda: NOW), name, [delivery]) == [Delivered()], delivery.event


@pytest.mark.parametrize("name", [name for name in HTTP if contract(name).max_event_age and name not in SILENT])
def test_too_old(name):
    """What is older than the vendor's window is refused."""
    window = contract(name).max_event_age.total_seconds()
    (result,) = send(VendorState(lambda: NOW + window), name, golden.of(name).deliveries()[:1])
    assert isinstance(result, PermanentFailure)


@pytest.mark.parametrize("name", [each for each in HTTP if each not in SILENT and contract(each).limits.items > 1])
def test_poison(name):
    """A bad one among good ones is refused as the vendor does it: listed, or all as a whole. Alone it is dead."""
    items, forwarder = list(orders(name)), golden.of(name).make()
    text = (
        items[1].id if items[1].id in str(forwarder.build_request(items[1:2]).body) and name != "iterable" else 'O-1"'
    )
    batch = items if len({forwarder.group_key(item.payload) for item in items}) == 1 else items[1:2]
    results = send(VendorState(lambda: NOW), name, batch, text)
    if len(results) == 3:
        listed = contract(name).batch_failure is BatchFailure.LISTED
        assert isinstance(results[1], PermanentFailure if listed or name == "google_ads" else Split)
        assert not any(isinstance(result, PermanentFailure) for result in (results[0], results[2]))
    assert isinstance(send(VendorState(lambda: NOW), name, items[1:2], text)[0], PermanentFailure)


@pytest.mark.parametrize("name", ["meta", "tiktok", "linkedin", "hubspot", "reddit"])
def test_too_many(name):
    """More items than a request may hold are refused as too large."""
    count = contract(name).limits.items + 1
    assert set(send(VendorState(lambda: NOW), name, golden.of(name).deliveries()[:1] * count)) == {Split()}


@pytest.mark.parametrize("name", ["tiktok", "linkedin", "hubspot", "google_ads", "klaviyo"])
def test_rates(name):
    """What is above the contract's rate is throttled, until its time is over."""
    now = [NOW]
    rate = contract(name).rates[0]
    state, items = VendorState(lambda: now[0]), golden.of(name).deliveries()[:1]
    for _ in range(rate.count):
        assert send(state, name, items) == [Delivered()]
    assert isinstance(send(state, name, items)[0], Throttled)
    now[0] += rate.seconds
    assert send(state, name, items) == [Delivered()]


def test_counts():
    """Deliveries are counted by their keys; keys accepted twice and keys never accepted are listed."""
    state = VendorState(lambda: NOW)
    first, second, third = orders("linkedin")
    send(state, "linkedin", [first, second])
    assert state.counts() == {"linkedin": {"requests": 1, "deliveries": 2, "keys": 2, "repeated": {}, "missing": []}}
    send(state, "linkedin", [first, third], third.id)
    assert state.counts() == {
        "linkedin": {"requests": 2, "deliveries": 3, "keys": 2, "repeated": {first.id: 2}, "missing": [third.id]}
    }
