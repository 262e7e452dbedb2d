"""What browsers' cookies and addresses tell of clicks and visitors reaches the vendors' requests, by their presets."""

from typing import Any

import pytest

from deploy.conformance.golden import EVENTS
from tests.streams.tracking.helpers import keep_events
from tests.support import golden
from turnout_tracking import Analytics, Tracker
from turnout_tracking.page_request import AsgiRequest

COOKIES = (
    "_ga=GA1.1.1234567890.1755000000; _ga_ABC123=GS2.1.s1755000001$o4$g1; _fbp=fb.1.1755.99; _fbc=fb.1.1755.Click;"
    " _ttp=tt-1; _scid=sc-1"
)
IP = "198.51.100.7"
QUERY = "ttclid=T1&ScCid=S1&rdt_cid=R1&epik=P1"


def visit(cookies: str = "", query: str = "") -> dict[str, Any]:
    """The event of a purchase during a visit with these cookies and parameters, as the middleware sends it."""
    tracker = Tracker(None)
    sent = keep_events(tracker)
    headers = [(b"host", b"shop.example.com"), (b"cookie", cookies.encode()), (b"user-agent", b"Mozilla/5.0")]
    scope = {"headers": headers, "method": "GET", "path": "/p", "query_string": query.encode(), "client": (IP, 1)}
    bought = EVENTS["order-completed"]["everything"]
    analytics = Analytics(tracker, AsgiRequest(scope, tracker.resolve))
    analytics.track(bought["event"], bought["properties"])
    analytics.finish()
    return {**sent[0], "userId": bought["userId"]}


def leaves(found: Any) -> set[str]:
    """All texts in a payload."""
    if isinstance(found, dict):
        return set().union(*map(leaves, found.values()))
    if isinstance(found, list):
        return set().union(*map(leaves, found))
    return {str(found)}


@pytest.mark.parametrize(
    ("name", "values"),
    {
        "ga4": {"1234567890.1755000000", "1755000001"},
        "meta": {"fb.1.1755.99", "fb.1.1755.Click"},
        "tiktok": {"tt-1", "T1"},
        "snapchat": {"sc-1", "S1"},
        "reddit": {"R1"},
        "pinterest": {"P1"},
    }.items(),
)
def test_a_preset_uses_what_the_visit_told(name: str, values: set[str]):
    """Each value is in the payload, and in that of a visit without them it is not."""
    told, silent = (golden.of(name).outcome(event)["payload"] for event in (visit(COOKIES, QUERY), visit()))
    assert values <= leaves(told)
    assert not values & leaves(silent)


def test_a_click_from_meta_that_has_no_cookie_yet():
    """The click id of the address is in the request in the cookie's form."""
    payload = golden.of("meta").outcome(visit(query="fbclid=Click"))["payload"]
    (click,) = (text for text in leaves(payload) if text.endswith(".Click"))
    assert click.startswith("fb.1.")
