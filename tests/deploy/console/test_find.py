"""Find: one event's story, in a real browser."""

import json

import pytest
import yaml
from playwright.sync_api import expect

from deploy.config.models.tests import Case
from deploy.console.access.roles import Role
from tests.deploy.console.browsing import card, tab
from tests.deploy.console.shop import HOSTILE

pytestmark = pytest.mark.browser


def test_a_missing_purchase_is_found_replayed_and_delivered(chromium, shop, shop_console):
    """A purchase is missing at Meta: Find shows the refusal, replay sends it again, and it is delivered."""
    with tab(chromium, shop_console, Role.OPERATOR) as page:
        page.goto("/")
        page.get_by_label("Message ID, user or coordinates").fill("m-0004")
        page.get_by_role("button", name="Find").click()
        meta = card(page, "meta")
        expect(meta.locator("summary .o")).to_have_text("dead")
        expect(meta.locator(".msg").first).to_contain_text("refused it. 400")
        meta.get_by_role("tab", name="Request and answer").click()
        expect(meta.get_by_label("Answer of meta")).to_contain_text("OAuthException")
        expect(meta.get_by_label("Request to meta")).to_contain_text("/v26.0/1048/events")
        shop.forgive()
        meta.get_by_role("button", name="Replay to meta").click()
        page.get_by_role("dialog").get_by_role("button", name="Replay 1 event").click()
        expect(page.locator(".toast")).to_have_text("Sent to meta again.")
        for _ in range(60):
            if meta.locator("summary .o").inner_text() == "delivered":
                break
            page.wait_for_timeout(1_000)
            page.reload()
        expect(meta.locator("summary .o")).to_have_text("delivered")
    entry = shop_console.backend.audit_log.recent[0]
    assert (entry["action"], entry["integration"], entry["result"]) == ("replay", "meta", {"replayed": 1})
    assert "m-0004" not in json.dumps(entry)


def test_reason_of_each_outcome_is_shown(chromium, shop_console):
    """What went wrong is first and open: the value that could not be used, and the condition that was false."""
    with tab(chromium, shop_console, Role.EDITOR) as page:
        page.goto("/?q=m-0002")
        cards = page.locator("details.card")
        assert cards.locator("summary b").all_inner_texts()[:2] == ["meta", "crm"]
        meta, crm = cards.nth(0), cards.nth(1)
        expect(meta.locator(".msg.w")).to_contain_text(
            'custom_data.value. The rule cannot use properties.total, which is "149,90"'
        )
        row = meta.locator("tr", has_text="custom_data.value")
        expect(row).to_contain_text("missing")
        expect(row).to_contain_text("preset:")
        expect(crm.locator(".conds").first).to_contain_text("properties.total >= 100")
        expect(crm.locator(".conds").first).to_contain_text('"149,90"')
        expect(crm.get_by_role("heading", name="big order")).to_contain_text("crm.yaml:5")


def test_fields_light_up_together(chromium, shop_console):
    """Hover or focus of a payload's field lights the event's field, and the other way round."""
    with tab(chromium, shop_console, Role.EDITOR) as page:
        page.goto("/?q=m-0002")
        in_event = page.locator("pre [data-f='properties.total']")
        in_table = page.locator("tr[data-f='properties.total']").first
        in_table.hover()
        expect(in_event).to_have_class("f s hit")
        page.mouse.move(0, 0)
        expect(in_event).to_have_class("f s")
        in_table.get_by_role("link").first.focus()
        expect(in_event).to_have_class("f s hit")
        page.mouse.move(0, 0)
        in_event.hover()
        expect(in_table).to_have_class("hit")


def test_several_events_are_listed(chromium, shop_console):
    """A user's events are listed with their outcomes, and each leads to its story."""
    with tab(chromium, shop_console, Role.EDITOR) as page:
        page.goto("/?q=u-810001")
        rows = page.locator("[data-rows] tr")
        expect(rows).to_have_count(3)
        expect(rows.nth(0)).to_contain_text("duplicate")
        rows.filter(has_text="Checkout").get_by_role("link").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Checkout")


def test_explanation_by_todays_rules(chromium, shop_console):
    """An event can be explained with today's rules, beside the recorded outcomes; nothing is sent."""
    with tab(chromium, shop_console, Role.VIEWER) as page:
        page.goto("/?q=m-0002")
        page.get_by_role("link", name="Explain with today").click()
        found = card(page, "webhook")
        expect(found.locator("summary")).to_contain_text("mapped")
        expect(found.locator("summary")).to_contain_text("was delivered")


def test_viewers_see_no_personal_data(chromium, shop_console):
    """Personal data is masked for viewers in pages and in JSON, and replay needs a role; operators see all."""
    secrets = ("u-810002", "lena2@", "84.17.40.9", '"Lena"')
    for path in ("/?q=m-0002", "/find.json?q=m-0002", "/event/explain.json?at={at}", "/event/explain?at={at}"):
        at = shop_console.get("/find.json?q=m-0002", role=Role.EDITOR).json()["events"][0]["at"]
        texts = {role: shop_console.get(path.format(at=at), role=role).text for role in (Role.VIEWER, Role.OPERATOR)}
        assert not [secret for secret in secrets if secret in texts[Role.VIEWER]], path
        assert "lena2@" in texts[Role.OPERATOR] or "explain" in path
        assert "149,90" in texts[Role.VIEWER] or "explain" in path
    with tab(chromium, shop_console, Role.VIEWER) as page:
        page.goto("/?q=m-0002")
        button = page.get_by_role("button", name="Replay to meta")
        expect(button).to_be_disabled()
        expect(page.get_by_text("Replay needs the role operator.").first).to_be_visible()
        expect(page.get_by_text("masked for viewers")).to_be_visible()
    viewer = shop_console.session(Role.VIEWER)
    form = {"csrf": shop_console.csrf(viewer), "at": "turnout.events:0:0", "integration": "meta"}
    assert viewer.post(f"{shop_console.url}/event/replay", form, timeout=60).status_code == 403


def test_replay_needs_the_token_and_names(shop_console):
    """A replay without the CSRF token, of no event, or to no integration, is refused."""
    client = shop_console.session(Role.EDITOR)
    at = shop_console.get("/find.json?q=m-0002", role=Role.EDITOR).json()["events"][0]["at"]
    good = {"csrf": shop_console.csrf(client), "at": at, "integration": "meta"}
    for change, status in (
        ({"csrf": ""}, 403),
        ({"at": "../../etc/passwd"}, 400),
        ({"at": "turnout.events:0:999999"}, 404),
        ({"integration": "../meta"}, 404),
    ):
        answer = client.post(f"{shop_console.url}/event/replay", good | change, timeout=60)
        assert answer.status_code == status, (change, answer.text)


def test_hostile_event_is_harmless(chromium, shop_console):
    """Markup, control characters, direction marks and long texts in every field of an event are shown as text."""
    for sought in ("m-hostile-1", "m-hostile-2", "m-wide"):
        for role in (Role.VIEWER, Role.EDITOR):
            with tab(chromium, shop_console, role) as page:
                page.goto(f"/?q={sought}")
                page.evaluate("document.querySelectorAll('details').forEach(it => { it.open = true; })")
                assert page.locator("main script, main img, main a[href^='javascript']").count() == 0
                text = page.locator("body").inner_text()
                assert not {character for character in "\x1b\u202e" if character in text + page.content()}
                if sought != "m-wide" and role is Role.EDITOR:
                    expect(page.locator("main")).to_contain_text("<script>alert(1)</script>\\u001b[31m\\u202egnp")
                assert "49" not in page.locator("h1").inner_text()
    received = shop_console.get("/find.json?q=m-hostile-1", role=Role.EDITOR).json()["events"][0]["received"]
    assert received["event"] == f"{HOSTILE} 1"


def test_nothing_found_says_what_next(chromium, shop_console):
    """A search without a result lists where it searched and what to check."""
    with tab(chromium, shop_console, Role.VIEWER) as page:
        page.goto("/?q=<b>m-00004</b>")
        expect(page.get_by_role("heading", level=1)).to_contain_text("No event, and no user, named “<b>m-00004</b>”")
        expect(page.get_by_text("Did the sender get a 200?")).to_be_visible()


def test_event_is_copied_as_a_test(chromium, shop_console, tmp_path):
    """An event copied as a test is one that rule files accept."""
    with tab(chromium, shop_console, Role.EDITOR) as page:
        page.goto("/?q=m-0005")
        text = page.locator("#test").input_value()
    (case,) = yaml.safe_load(text)
    assert Case.model_validate(case).event["messageId"] == "m-0005"
