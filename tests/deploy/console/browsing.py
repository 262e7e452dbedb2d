"""Run a real browser for tests of pages. Any error that it reports fails the test."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser as Chromium
from playwright.sync_api import Locator, expect, sync_playwright
from playwright.sync_api import Page as Tab

from deploy.console.access.roles import Role
from tests.deploy.console.serving import ServedConsole
from tests.support import npm

CHROMIUM = Path("/usr/bin/chromium")
PACKAGES = Path(__file__).with_name("packages")
WIDTHS = {1280: 900, 390: 844}
THEMES = ("light", "dark")

TIMEOUT_MS = 60_000
expect.set_options(timeout=TIMEOUT_MS)


@contextmanager
def browser() -> Iterator[Chromium]:
    """Run Chromium inside a `with` block."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield running
        running.close()


@contextmanager
def tab(
    chromium: Chromium,
    console: ServedConsole,
    role: Role | None,
    *,
    width: int = 1280,
    theme: str = "light",
    expected: str | None = None,
) -> Iterator[Tab]:
    """Open a tab logged in as a role; fails on script errors, policy violations and dialogs.

    Errors with the text `expected` are ignored, such as for a page with an error status.
    """
    context = chromium.new_context(
        viewport={"width": width, "height": WIDTHS[width]},
        color_scheme=theme,
        base_url=console.url,
        timezone_id="Europe/Berlin",
    )
    context.set_default_timeout(TIMEOUT_MS)
    for cookie in console.session(role).cookies:
        context.add_cookies([{"name": str(cookie.name), "value": str(cookie.value), "url": console.url}])
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("console", lambda it: complaints.append(it.text) if it.type in ("error", "warning") else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("dialog", lambda dialog: (complaints.append(f"dialog {dialog.message}"), dialog.dismiss()))
    try:
        yield opened
    finally:
        context.close()
    left = [text for text in complaints if expected is None or expected not in text]
    assert not left, left


def card(opened: Tab, integration: str) -> Locator:
    """Return the card of an integration."""
    name = opened.locator("summary b", has_text=re.compile(f"^{integration}$"))
    return opened.locator("details.card").filter(has=name).first


def violations(opened: Tab) -> list[str]:
    """Return the accessibility violations that axe-core finds in a page."""
    folder = npm.installed(PACKAGES)
    assert folder is not None, "npm is missing"
    # Evaluated, not added as a script, which the page's policy refuses.
    opened.evaluate((folder / "axe-core" / "axe.min.js").read_text())
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    result: Any = opened.evaluate("tags => axe.run(document, {runOnly: tags})", tags)
    return [
        f"{each['id']}: {each['help']}: {[node['target'] + [node['failureSummary']] for node in each['nodes'][:5]]}"
        for each in result["violations"]
    ]


def overflow(opened: Tab) -> int:
    """Return by how many pixels a page is wider than the window."""
    return int(opened.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def name_of(path: str) -> str:
    """Return a file name for a path."""
    return re.sub(r"\W+", "-", path).strip("-") or "home"
