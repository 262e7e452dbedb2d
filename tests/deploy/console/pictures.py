"""Write the pictures of the documentation: python -m tests.deploy.console.pictures [FOLDER].

Everything is real: `turnout up`, its events, and a browser.
"""

import sys
import tempfile
import time
from pathlib import Path

from deploy.console.access.roles import Role
from tests.deploy.console.browsing import THEMES, WIDTHS, browser, name_of, tab
from tests.deploy.console.conftest import shop_configuration
from tests.deploy.console.serving import serving_console
from tests.deploy.console.shop import Shop, order

DOCS = Path("deploy/docs/console")
PAGES = {"find": "/?q=m-0002", "flow": "/flow?integration=meta", "health": "/health"}
SECONDS = 100.0
"""How long events are sent, so that charts have several minutes."""


def main() -> None:
    """Write each screen: for the documentation light and wide, and with a folder given, in both themes and widths."""
    everywhere = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory() as work:
        shop = Shop(Path(work) / "shop")
        try:
            shop.send_all_kinds()
            begun, number = time.monotonic(), 100
            while time.monotonic() - begun < SECONDS:
                shop.send(*(order(number + each, 40 + (number + each) % 170) for each in range(5)))
                number += 5
                time.sleep(0.5)
            shop.until_settled()
            write(shop, everywhere)
        finally:
            shop.close()


def write(shop: Shop, everywhere: Path | None) -> None:
    """Write the pictures."""
    DOCS.mkdir(exist_ok=True)
    configuration = shop_configuration(shop, int(shop.ledger_port))
    with browser() as chromium, serving_console(configuration) as console:
        for name, path in PAGES.items():
            with tab(chromium, console, Role.OPERATOR) as page:
                page.goto(path, wait_until="networkidle")
                page.screenshot(path=DOCS / f"{name}.png")
        with tab(chromium, console, Role.VIEWER, width=390, theme="dark") as page:
            page.goto(PAGES["find"], wait_until="networkidle")
            page.screenshot(path=DOCS / "find-phone.png")
        if everywhere:
            everywhere.mkdir(exist_ok=True)
            for width in WIDTHS:
                for theme in THEMES:
                    with tab(chromium, console, Role.OPERATOR, width=width, theme=theme) as page:
                        for path in PAGES.values():
                            page.goto(path, wait_until="networkidle")
                            page.screenshot(path=everywhere / f"{name_of(path)}-{width}-{theme}.png", full_page=True)


if __name__ == "__main__":
    main()
