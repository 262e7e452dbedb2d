"""Flow: its numbers are those of `turnout counts`, and they add up."""

import pytest
from playwright.sync_api import expect

from deploy.console.access.roles import Role
from deploy.console.screens.flow import PERIODS
from tests.deploy.console.browsing import card, tab
from tests.deploy.console.flow_numbers import check_flow, counts

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("period", PERIODS)
def test_numbers_are_those_of_counts(shop, shop_console, period):
    """Each number of the page is that of `turnout counts --json`, whatever the period."""
    page = shop_console.get(f"/flow.json?period={period}", role=Role.VIEWER).json()
    check_flow(page, counts(shop.folder, shop.ledger_port))
    assert page["unbalanced"] == []
    assert {row["sum"] for row in page["integrations"]} == {page["accepted"]}


def test_sources_and_reasons_add_up(shop_console):
    """The sources add up to all, and an integration's reasons to its sum."""
    whole = shop_console.get("/flow.json", role=Role.VIEWER).json()
    parts = [shop_console.get(f"/flow.json?source={it['source']}", role=Role.VIEWER).json() for it in whole["sources"]]
    assert len(parts) > 1
    for name in ("received", "accepted", "rejected"):
        assert sum(part[name] for part in parts) == whole[name]
    detail = shop_console.get("/flow.json?integration=meta", role=Role.VIEWER).json()
    assert sum(row["count"] for row in detail["detail"]) == whole["accepted"]
    assert sum(map(sum, detail["chart"]["lines"].values())) == whole["accepted"]


def test_missing_outcomes_are_red(shop_console, monkeypatch, chromium):
    """If outcomes are missing, the sum is red and leads to the audit."""
    ask = shop_console.backend.ask

    async def ask_with_a_loss(path, **parameters):
        answer = await ask(path, **parameters)
        if parameters.get("by", "").startswith("source,"):
            answer["rows"] = [row for row in answer["rows"] if (row["integration"], row["outcome"]) != ("meta", "dead")]
        return answer

    monkeypatch.setattr(shop_console.backend, "ask", ask_with_a_loss)
    assert shop_console.get("/flow.json", role=Role.VIEWER).json()["unbalanced"] in (["meta"], [])
    with tab(chromium, shop_console, Role.VIEWER) as page:
        page.goto("/flow")
        page.get_by_role("link", name="✗ meta differs").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Audit")
        expect(page.get_by_text("the books balance")).to_be_visible()


def test_number_leads_to_events(chromium, shop_console):
    """A number leads to examples, and an example to its story."""
    with tab(chromium, shop_console, Role.VIEWER) as page:
        page.goto("/flow")
        page.get_by_role("row", name="crm").get_by_role("link").first.click()
        row = page.locator("section", has=page.locator("#detail")).get_by_role("row", name="filtered")
        row.get_by_role("link").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Examples: filtered")
        page.locator("[data-rows] a", has_text="Order Completed").first.click()
        expect(card(page, "crm").locator("summary .o").first).to_have_text("filtered")


def test_chart_is_drawn(chromium, shop_console):
    """The chart draws under the page's policy, and follows the source that is chosen."""
    with tab(chromium, shop_console, Role.VIEWER) as page:
        page.goto("/flow?period=day")
        expect(page.locator(".chart canvas")).to_be_visible()
        page.get_by_label("Source", exact=True).select_option("server")
        expect(page.locator("h1 + p")).to_contain_text("server")


def test_wrong_period_is_refused(shop_console):
    """An unknown period is an error that names the periods."""
    answer = shop_console.get("/flow.json?period=../year", role=Role.VIEWER)
    assert answer.status_code == 400
    assert "hour, day, week, month" in answer.json()["error"]
