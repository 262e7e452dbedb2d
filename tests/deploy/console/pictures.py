"""Take the documentation's screenshots: python -m tests.deploy.console.pictures [FOLDER].

Everything is real: `turnout up`, its events, and a browser.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Page as Tab
from playwright.sync_api import expect

from deploy.console.access.roles import Role
from tests.deploy.console.browsing import THEMES, WIDTHS, browser, name_of, tab
from tests.deploy.console.busy_shop import FILES, BusyShop
from tests.deploy.console.conftest import shop_configuration
from tests.deploy.console.serving import ServedConsole, serving_console
from tests.deploy.console.shop import Shop, order

DOCS = Path("deploy/docs/console")
PAGES = {
    "find": "/?q=m-0004",
    "flow": "/flow?integration=meta",
    "health": "/health",
    "live": "/live",
    "issue": "/issues/{}",
    "integrations": "/integrations",
    "catalog": "/catalog?type=track&event=Order+Completed",
    "privacy": "/privacy?user=u-810001",
    "rules": "/rules/integrations/crm.yaml",
}
MISTAKES = 12
"""Purchases of a new version of the app, whose total is a text."""

LIVE_EVENTS = 40
SECONDS = 100.0
"""How long events are sent, so that charts have several minutes."""


def main() -> None:
    """Take each screen: light and wide for the documentation; with a folder, in both themes and widths."""
    everywhere = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory() as work:
        shop = BusyShop(Path(work) / "nordlicht", FILES)
        try:
            shop.send_all_kinds()
            shop.send(*(mistaken(900 + each) for each in range(MISTAKES)))
            shop.be_busy(SECONDS)
            write(shop, everywhere)
        finally:
            shop.close()


def mistaken(number: int) -> dict[str, Any]:
    """Return a purchase that cannot be mapped for Meta."""
    event = order(number, f"{number - 751},90")
    event["context"]["app"] = {"version": "2026.48.0"}
    return event


def visit(page: Tab, shop: Shop, console: ServedConsole, path: str) -> None:
    """Open a page; on Live, wait for events, and on Rules, change a rule by the form."""
    if path == PAGES["rules"]:
        change_rule(page, path)
        return
    if path != PAGES["live"]:
        groups = console.get("/issues.json", role=Role.OPERATOR).json()["groups"]
        page.goto(path.format(groups[0]["id"]), wait_until="networkidle")
        return
    page.goto(path)
    expect(page.locator("#live-state")).to_contain_text("events/s")
    for first in range(0, LIVE_EVENTS, 4):
        number = int(time.monotonic() * 1000) % 100_000 + first
        no_consent = {**order(1)["context"], "consent": {"categoryPreferences": {"advertising": False}}}
        viewed = {"type": "page", "name": "Checkout", "messageId": f"p-{number}", "userId": f"u-81{number}"}
        shop.send(order(number), order(number + 1, 30.0, context=no_consent), viewed, mistaken(number + 2))
        page.wait_for_timeout(400)
    expect(page.locator("#rows tr").nth(LIVE_EVENTS - 1)).to_be_attached()


def change_rule(page: Tab, path: str) -> None:
    """Change a condition in the form, and wait for the comparison."""
    page.goto(path)
    page.get_by_role("button", name="Paste…").click()
    page.get_by_label("The event as JSON").fill(json.dumps(order(812)))
    page.get_by_role("button", name="Use this event").click()
    page.get_by_role("tab", name="Form").click()
    value = page.get_by_role("region", name="Rule big order").get_by_label("Value", exact=True).nth(2)
    value.fill("80")
    value.press("Tab")
    expect(page.locator("#recent-result")).to_be_visible()


def write(shop: Shop, everywhere: Path | None) -> None:
    """Write the pictures."""
    DOCS.mkdir(exist_ok=True)
    configuration = shop_configuration(shop, int(shop.ledger_port))
    with browser() as chromium, serving_console(configuration) as console:
        for name, path in PAGES.items():
            with tab(chromium, console, Role.EDITOR) as page:
                visit(page, shop, console, path)
                page.screenshot(path=DOCS / f"{name}.png", full_page=name == "rules")
        with tab(chromium, console, Role.VIEWER, width=390, theme="dark") as page:
            page.goto(PAGES["find"], wait_until="networkidle")
            page.screenshot(path=DOCS / "find-phone.png")
        if everywhere:
            everywhere.mkdir(exist_ok=True)
            for width in WIDTHS:
                for theme in THEMES:
                    with tab(chromium, console, Role.EDITOR, width=width, theme=theme) as page:
                        for path in PAGES.values():
                            visit(page, shop, console, path)
                            page.screenshot(path=everywhere / f"{name_of(path)}-{width}-{theme}.png", full_page=True)


if __name__ == "__main__":
    main()
