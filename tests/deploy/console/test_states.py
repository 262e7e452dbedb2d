"""What pages show if something is missing: an event that expired, a ledger that is away, a right, an answer yet."""

import pytest
from playwright.sync_api import expect

from deploy.console.access.roles import Role
from deploy.ledger.kafka_facts import KafkaFacts
from streams.operations.overview import Overview
from tests.deploy.console.browsing import card, overflow, tab, violations
from tests.deploy.console.conftest import shop_configuration
from tests.deploy.console.serving import ServedConsole, serving_console

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def without_ledger(shop):
    """A console for the shop whose ledger does not answer."""
    with serving_console(shop_configuration(shop, 1)) as served:
        yield served


def test_ledger_that_is_away(chromium, shop, shop_console, without_ledger: ServedConsole):
    """Without the ledger, pages say so; an event is found by its place, with a story from Kafka alone."""
    at = shop_console.get("/find.json?q=m-0002", role=Role.EDITOR).json()["events"][0]["at"]
    with tab(chromium, without_ledger, Role.EDITOR) as page:
        page.goto("/")
        expect(page.get_by_text("The ledger does not answer.")).to_be_visible()
        page.goto(f"/?q={at}")
        expect(page.get_by_text("This story is from Kafka alone.")).to_be_visible()
        expect(card(page, "meta").get_by_text("dead", exact=True)).to_be_visible()
    with tab(chromium, without_ledger, Role.EDITOR, width=390, expected="503") as page:
        for path, text in (
            ("/flow", "can still be found by topic:partition:offset"),
            ("/?q=m-0002", "can be found by"),
        ):
            page.goto(path)
            expect(page.get_by_role("main")).to_contain_text(text)
            expect(page.get_by_role("link", name="Try again")).to_be_visible()
            assert not violations(page)
            assert not overflow(page)
        page.goto("/issues")
        expect(page.get_by_text("no ledger answers")).to_be_visible()
        assert not violations(page)
    for path in ("/find.json?q=m-0002", "/flow.json", "/issues.json"):
        assert without_ledger.get(path, role=Role.EDITOR).status_code == 503


def test_event_that_has_expired(chromium, shop_console, monkeypatch):
    """Of an event that Kafka no longer has, the page shows the outcomes, says what expired, and offers no replay."""
    at = shop_console.get("/find.json?q=m-0004", role=Role.EDITOR).json()["events"][0]["at"]
    read = KafkaFacts.record
    monkeypatch.setattr(
        KafkaFacts,
        "record",
        lambda self, place: None if place.topic == self._topics.events else read(self, place),
    )
    with tab(chromium, shop_console, Role.EDITOR, width=390) as page:
        page.goto("/?q=m-0004")
        expect(page.get_by_text("Kafka no longer has this event.")).to_be_visible()
        expect(card(page, "ga4").locator("summary .o")).to_have_text("delivered")
        expect(page.get_by_text("It has expired.")).to_be_visible()
        expect(page.get_by_role("button", name="Replay")).to_have_count(0)
        expect(page.get_by_role("button", name="Copy as test")).to_have_count(0)
        assert not violations(page)
        assert not overflow(page)
    answer = shop_console.get(f"/event/explain.json?at={at}", role=Role.EDITOR)
    assert (answer.status_code, answer.json()["error"]) == (404, f"Kafka no longer has the event at {at}.")


def test_missing_right_names_the_role(shop_console):
    """An action without permission gets a 403 page that names the required role and a contact."""
    viewer = shop_console.session(Role.VIEWER)
    form = {"csrf": shop_console.csrf(viewer), "at": "turnout.events:0:0", "integration": "meta"}
    answer = viewer.post(f"{shop_console.url}/event/replay", form, timeout=60)
    assert answer.status_code == 403
    assert "This needs the role operator, and you are viewer. Ask who runs this console." in answer.text


def test_page_that_takes_long_shows_that_it_loads(chromium, console):
    """While a page takes long, the old one stays, marked as busy; it is not if the reader comes back to it."""
    with tab(chromium, console, Role.VIEWER) as page:
        page.goto("/")
        busy = page.locator("html[data-loading] main[aria-busy=true]")
        page.evaluate("dispatchEvent(new Event('beforeunload'))")
        expect(busy).to_be_visible()
        expect(page.get_by_role("heading", level=1)).to_have_text("Where is my event?")
        page.evaluate("dispatchEvent(new Event('pageshow'))")
        expect(busy).to_have_count(0)


def test_rejected_events_are_shown(chromium, shop_console):
    """The number of rejected events leads to examples, also of those that no router has read, and to their stories."""
    with tab(chromium, shop_console, Role.EDITOR) as page:
        page.goto("/flow")
        page.get_by_role("link", name="rejected").click()
        row = page.locator("[data-rows] tr", has_text="event: is missing")
        expect(row).to_contain_text("missing")
        row.get_by_role("link").click()
        expect(page.get_by_text("Rejected: missing.")).to_be_visible()
        expect(page.get_by_label("Event as received")).to_contain_text("m-0009")
    examples = shop_console.get("/flow/samples.json?outcome=rejected&source=server", role=Role.EDITOR).json()
    assert examples["events"] == []


def test_process_with_other_rules_is_shown(chromium, shop_console, monkeypatch):
    """While a process runs other rules than the rest, Health says so, and marks them."""
    read = Overview.data

    def with_old_rules(self: Overview, dead: int | None) -> dict:
        data = read(self, dead)
        return {**data, "processes": [{**data["processes"][0], "rules": "0ld0ld0ld"}, *data["processes"][1:]]}

    monkeypatch.setattr(Overview, "data", with_old_rules)
    with tab(chromium, shop_console, Role.VIEWER) as page:
        page.goto("/health")
        expect(page.get_by_text("2 versions of the rules run")).to_be_visible()
        expect(page.locator(".no", has_text="0ld0ld0ld")).to_be_visible()
