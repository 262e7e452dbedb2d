"""Every page in a real browser: accessible, within the window, and quiet."""

import re

import pytest
import requests
from playwright.sync_api import expect

from deploy.console.access.roles import Role
from tests.deploy.console.browsing import THEMES, WIDTHS, overflow, tab, violations

pytestmark = pytest.mark.browser

PAGES = (
    "/", "/?q=m-0002", "/?q=m-0004", "/?q=m-hostile-1", "/?q=m-hostile-2", "/?q=m-wide", "/?q=u-810001", "/?q=nothing",
    "/flow", "/flow?integration=meta&period=day", "/flow/samples?outcome=delivered",
    "/flow/samples?outcome=rejected", "/flow/audit", "/health",
    "/live", "/live?event=none&user=u-1", "/issues", "/issues?all=1&sort=last", "/issues/{group}",
    "/catalog", "/catalog?type=track&event=Order+Completed", "/catalog/plan?name=seen",
    "/integrations", "/integrations/meta", "/integrations/-/new", "/integrations/-/new?vendor=meta",
    "/privacy", "/privacy?user=u-810001", "/privacy?user=nobody",
    "/rules", "/rules/integrations/crm.yaml", "/rules/sources/web.yaml", "/rules/plans/shop.yaml",
)  # fmt: skip
MAX_FIRST_PAGE_BYTES = 300 * 1024


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_pages_are_accessible(chromium, shop_console, width, theme):
    """No page has a violation of WCAG or scrolls sideways, in both themes and at both widths, with every card open."""
    found = {}
    groups = shop_console.get("/issues.json?all=1", role=Role.EDITOR).json()["groups"]
    with tab(chromium, shop_console, Role.EDITOR, width=width, theme=theme) as page:
        for path in PAGES:
            page.goto(path.format(group=groups[0]["id"]))
            if page.locator("[data-open-all]").count():
                page.evaluate("document.querySelectorAll('details').forEach(it => { it.open = true; })")
            if problems := [*violations(page), *([f"{overflow(page)} px too wide"] if overflow(page) else [])]:
                found[path] = problems
    assert not found


def test_error_pages_are_accessible(chromium, console):
    """The login, and the page of an error, have no violation."""
    for role, path in ((None, "/"), (Role.VIEWER, "/missing")):
        with tab(chromium, console, role, expected="Failed to load resource") as page:
            page.goto(path)
            expect(page.get_by_role("heading", level=1)).to_be_visible()
            assert not violations(page)


def test_link_of_up_opens_the_console(chromium, shop, console):
    """`turnout up` prints the console's link first; it opens the console once."""
    assert shop.output.index(shop.console_link) < shop.output.index("write key")
    url = shop.console_link.partition("/login")[0]
    context = chromium.new_context()
    page = context.new_page()
    page.goto(shop.console_link)
    expect(page.get_by_role("heading", level=1)).to_have_text("Where is my event?")
    assert page.url == f"{url}/"
    context.close()
    assert requests.get(shop.console_link, timeout=60).status_code == 401


def test_first_page_is_small(chromium, shop_console):
    """The first page with all that it loads has less than 300 KB."""
    with tab(chromium, shop_console, Role.VIEWER) as page:
        sizes = []
        page.on("response", lambda response: sizes.append(len(response.body())))
        page.goto("/", wait_until="networkidle")
    assert len(sizes) > 4
    assert sum(sizes) < MAX_FIRST_PAGE_BYTES


def test_keys(chromium, shop_console):
    """`/` focuses the search, j and k move, g and a letter go to a screen, ? lists the keys; they can be turned off."""
    with tab(chromium, shop_console, Role.VIEWER) as page:
        page.goto("/?q=m-0002")
        cards = page.locator("details.card > summary")
        page.keyboard.press("j")
        expect(cards.nth(0)).to_be_focused()
        page.keyboard.press("j")
        expect(cards.nth(1)).to_be_focused()
        page.keyboard.press("k")
        expect(cards.nth(0)).to_be_focused()
        opened = page.locator("details.card[open]")
        page.keyboard.press("o")
        expect(opened).to_have_count(cards.count())
        page.keyboard.press("o")
        expect(opened).to_have_count(0)
        page.keyboard.press("/")
        expect(page.get_by_role("searchbox").first).to_be_focused()
        page.keyboard.type("jk?g")
        expect(page.get_by_role("dialog")).to_have_count(0)
        page.locator("main").click(position={"x": 5, "y": 5})
        page.keyboard.press("?")
        expect(page.get_by_role("dialog")).to_be_visible()
        page.keyboard.press("Escape")
        page.keyboard.press("g")
        page.keyboard.press("h")
        expect(page).to_have_url(re.compile("/health$"))
        page.keyboard.press("?")
        page.get_by_label("Single keys").uncheck()
        page.get_by_role("button", name="Close").click()
        page.keyboard.press("g")
        page.keyboard.press("l")
        page.keyboard.press("?")
        expect(page.get_by_role("dialog")).to_have_count(0)
        expect(page).to_have_url(re.compile("/health$"))


def test_times_are_the_readers(chromium, shop_console):
    """Times are in the reader's zone with UTC on hover, and the button switches all to UTC."""
    with tab(chromium, shop_console, Role.VIEWER) as page:
        page.goto("/?q=m-0002")
        time = page.locator(".steps time").first
        utc = time.get_attribute("title").split()[1]
        zone = page.get_by_role("button", name="Berlin")
        expect(time).not_to_have_text(utc)
        zone.click()
        expect(time).to_have_text(utc)


def test_menu_on_a_phone(chromium, shop_console):
    """On a phone the navigation, the switch of the zone and the logout are behind a button."""
    with tab(chromium, shop_console, Role.VIEWER, width=390) as page:
        page.goto("/?q=m-0002")
        time = page.locator(".steps time").first
        page.get_by_role("button", name="Menu").click()
        page.get_by_role("button", name="Berlin").click()
        expect(time).to_have_text(time.get_attribute("title").split()[1])
        page.get_by_role("button", name="UTC").click()
        page.keyboard.press("Escape")
        page.goto("/")
        link = page.get_by_role("link", name="Health")
        expect(link).to_be_hidden()
        page.get_by_role("button", name="Menu").click()
        link.click()
        expect(page).to_have_url(re.compile("/health$"))
    with tab(chromium, shop_console, Role.VIEWER, width=390, expected="401") as page:
        page.goto("/")
        page.get_by_role("button", name="Menu").click()
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Log in")
