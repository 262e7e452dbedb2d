"""Live: events as they arrive, in a real browser."""

import json
import re
from contextlib import contextmanager

import pytest
import requests
from playwright.sync_api import expect

from deploy.console.access.roles import Role
from tests.deploy.console.browsing import tab, violations
from tests.deploy.console.conftest import shop_configuration
from tests.deploy.console.serving import serving_console
from tests.deploy.console.shop import hostile, order

pytestmark = pytest.mark.browser

CONNECTED = re.compile("events/s")


@contextmanager
def live(chromium, console, role=Role.OPERATOR, query="", **options):
    """A page that sees every event from now on."""
    with tab(chromium, console, role, **options) as page:
        page.goto(f"/live{query}")
        expect(page.locator("#live-state")).to_contain_text(CONNECTED)
        yield page


@contextmanager
def messages(console, role, query=""):
    """The messages of a stream in JSON, after it is connected."""
    url = f"{console.url}/live/stream.json{query}"
    with console.session(role).get(url, stream=True, timeout=60) as answer:
        assert answer.status_code == 200, answer.text
        lines = (json.loads(line[6:]) for line in answer.iter_lines() if line.startswith(b"data: "))
        while not next(lines)["ready"]:
            pass
        yield lines


def row_of(page, user):
    """The row of a user's event."""
    return page.locator("#rows tr", has=page.get_by_text(user, exact=True))


def test_events_appear_with_their_outcomes(chromium, shop, shop_console):
    """An event appears without a reload, with an outcome for each integration, and its row leads to its story."""
    with live(chromium, shop_console) as page:
        expect(page.get_by_text("No event since you opened this page")).to_be_visible()
        shop.send(order(5001, 150.0))
        row = row_of(page, "u-815001")
        for integration, outcome in (("meta", "delivered"), ("crm", "delivered"), ("webhook", "delivered")):
            cell = row.locator(f"[data-l={integration}] .o")
            expect(cell).to_have_attribute("title", outcome)
        expect(page.get_by_text("No event since you opened this page")).to_be_hidden()
        assert not violations(page)
        row.get_by_role("link").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Order Completed")
        expect(page.locator(".sub")).to_contain_text("m-5001")


def test_filters_are_applied_by_the_server(chromium, shop, shop_console):
    """Only events that pass the filter are sent to the page; a changed choice has a URL of its own."""
    with live(chromium, shop_console, query="?event=Checkout") as page:
        shop.send(order(5002), {"type": "page", "name": "Checkout", "messageId": "p-5002", "userId": "u-checkout-5002"})
        expect(row_of(page, "u-checkout-5002")).to_have_count(1)
        expect(page.locator("#rows tr")).to_have_count(1)
        page.get_by_label("Integration").select_option("meta")
        expect(page).to_have_url(re.compile("event=Checkout"))
        expect(page).to_have_url(re.compile("integration=meta"))
        expect(page.locator("thead th.c")).to_have_text(["meta"])
    for query, status in (("?source=nowhere", 400), ("?outcome=%3Cb%3E", 400), ("?integration=../x", 400)):
        assert shop_console.get(f"/live{query}", role=Role.VIEWER).status_code == status


def test_own_traffic(shop, shop_console):
    """The header X-Turnout-Trace marks one's own events among all others."""
    with messages(shop_console, Role.OPERATOR, "?trace=mine-5003") as lines:
        shop.send(order(5003))
        url = f"http://127.0.0.1:{shop.ports['8080']}/v1/batch"
        headers = {"X-Turnout-Trace": "mine-5003"}
        mine = order(5004)
        answer = requests.post(url, json={"batch": [mine]}, auth=("demo-web", ""), headers=headers, timeout=60)
        assert answer.status_code == 200
        shop.sent += 1
        rows = next(message["rows"] for message in lines if message["rows"])
    assert [(row["user"], row["trace"]) for row in rows] == [("u-815004", "mine-5003")]


def test_space_pauses(chromium, shop, shop_console):
    """Space and the button pause and resume drawing; in a field, Space is a space."""
    with live(chromium, shop_console) as page:
        page.keyboard.press(" ")
        expect(page.get_by_role("button", name="Resume")).to_have_attribute("aria-pressed", "true")
        expect(page.locator("#live-state")).to_contain_text("Paused")
        with messages(shop_console, Role.OPERATOR, "?user=u-815005") as lines:
            shop.send(order(5005))
            next(message for message in lines if message["rows"])
        expect(row_of(page, "u-815005")).to_have_count(0)
        page.get_by_label("Event name").press(" ")
        expect(page.get_by_role("button", name="Resume")).to_be_visible()
        page.get_by_role("button", name="Resume").click()
        expect(page.locator("#live-state")).to_contain_text(CONNECTED)
        shop.send(order(5006))
        expect(row_of(page, "u-815006")).to_have_count(1)


def test_viewers_see_no_personal_data(chromium, shop, shop_console):
    """Users are masked for viewers by the server, in the page's stream and in JSON."""
    with (
        live(chromium, shop_console, Role.VIEWER) as page,
        messages(shop_console, Role.VIEWER, "?user=u-815007") as masked,
        messages(shop_console, Role.OPERATOR, "?user=u-815007") as plain,
    ):
        shop.send(order(5007))
        assert "u-815007" in json.dumps(next(message for message in plain if message["rows"]))
        message = next(message for message in masked if message["rows"])
        assert "u-815007" not in json.dumps(message)
        assert message["rows"][0]["user"] == "u-•••"
        expect(page.locator("#rows tr").first).to_contain_text("u-•••")
        assert "u-815007" not in page.content()


def test_hostile_event_is_harmless(chromium, shop, shop_console):
    """Markup, control characters and direction marks of events and of rejected events are text in Live."""
    with live(chromium, shop_console, width=390) as page:
        shop.send(hostile(5008), {"type": "<img src=x onerror=alert(1)>\x1b[31m", "userId": "u-\u202eevil"})
        expect(page.locator("#rows tr")).to_have_count(2)
        expect(page.locator("#rows")).to_contain_text("<script>alert(1)</script>\\u001b[31m\\u202egnp")
        expect(page.locator("#rows")).to_contain_text("rejected")
        assert page.locator("main script, main img").count() == 0
        assert not {character for character in "\x1b\u202e" if character in page.content()}


def test_kafka_that_is_away(chromium, console):
    """Without Kafka, the page says so and tries again; JSON has the same."""
    with tab(chromium, console, Role.VIEWER) as page:
        page.goto("/live")
        expect(page.locator("#live-state")).to_contain_text("No events can be read.")
        assert not violations(page)


def test_live_needs_no_ledger(chromium, shop):
    """Without a ledger, events and their outcomes appear as usual."""
    with serving_console(shop_configuration(shop, 1)) as served, live(chromium, served) as page:
        shop.send(order(5009))
        expect(row_of(page, "u-815009")).to_have_count(1)
