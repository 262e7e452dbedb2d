"""Run a shop with varied events, failing vendors and a history, for screenshots."""

import random
import subprocess
import time
from typing import Any

from tests.deploy.console.shop import FILES as SHOP_FILES
from tests.deploy.console.shop import POISON, PRODUCTS, Shop, order

FILES = SHOP_FILES | {
    "integrations/amplitude.yaml": """integration: amplitude
forwarder: amplitude
preset: amplitude
consent: {all: [analytics]}
settings: {api_key: '${AMPLITUDE_API_KEY}', endpoint: 'http://127.0.0.1:8099'}
""",
    "integrations/klaviyo.yaml": """integration: klaviyo
forwarder: klaviyo
preset: klaviyo
settings: {api_key: '${KLAVIYO_API_KEY}', endpoint: 'http://127.0.0.1:8099'}
rules:
  - {name: heartbeat, when: 'event = "Heartbeat"', drop: true}
""",
    ".gitignore": "/log\n/out\n",
    "demo.env": SHOP_FILES["demo.env"] + "AMPLITUDE_API_KEY=demo-amplitude\nKLAVIYO_API_KEY=demo-klaviyo\n",
}

COMMITS = (
    (
        "Mira Vogt",
        "Send orders to Meta and Google Analytics",
        ("turnout.yaml", "sources", "plans", "integrations/ga4.yaml"),
    ),
    ("Mira Vogt", "Require advertising consent for Meta", ("integrations/meta.yaml",)),
    ("Jonas Kern", "Add Amplitude and Klaviyo", ("integrations/amplitude.yaml", "integrations/klaviyo.yaml")),
    ("Jonas Kern", "Send big orders to the CRM", ()),
)
"""Authors, subjects and files of the folder's history; none is all that is left."""

NAMES = ("Product Viewed", "Product Viewed", "Product Added", "Order Completed", "Signed Up", "Heartbeat", "Checkout")
BATCH = 8


class BusyShop(Shop):
    """A shop for screenshots."""

    def prepare(self) -> None:
        """Make the folder a repository with a history."""
        self._git("init", "-q")
        for author, subject, files in COMMITS:
            self._git("add", "--", *(files or ["."]))
            self._git("-c", f"user.name={author}", "commit", "-q", "-m", subject)

    def be_busy(self, seconds: float) -> None:
        """Send events for a while; one vendor refuses some, and another one fails near the end."""
        chance, begun, number = random.Random(7), time.monotonic(), 100
        self.simulate({"path": "/2/httpapi", "poison": "B-13", "times": None})
        failing = False
        while (spent := time.monotonic() - begun) < seconds:
            if spent > seconds * 0.6 and not failing:
                failing = True
                self.simulate({"path": "/api/events", "status": 503, "times": None})
            self.send(*(make_event(chance, number + each) for each in range(chance.randrange(2, BATCH))))
            if chance.random() < 0.15:
                self.send({"type": "track", "event": "Stock Changed", "userId": "erp"}, key="demo-server")
            number += BATCH
            time.sleep(0.3)

    def _git(self, *arguments: str) -> None:
        subprocess.run(
            ["git", "-C", self.folder, "-c", "user.email=shop@nordlicht.example", "-c", "user.name=x", *arguments],
            check=True,
            capture_output=True,
        )


def make_event(chance: random.Random, number: int) -> dict[str, Any]:
    """Make an event of a customer, possibly without consent, with an order to be refused, or with an error."""
    event = order(number, round(chance.uniform(15, 320), 2))
    agreed = chance.random()
    event["context"]["consent"] = {
        "categoryPreferences": {
            "advertising": agreed > 0.3,
            "analytics": agreed > 0.15,
            "personalization": agreed > 0.5,
        }
    }
    name = chance.choice(NAMES)
    if name == "Checkout":
        return event | {"type": "page", "name": name, "event": None, "properties": {"title": "Checkout"}}
    event["event"] = name
    if name.startswith("Product"):
        event["properties"] = {**PRODUCTS[0], "product_id": f"B-{chance.randrange(1, 40)}", "currency": "EUR"}
    elif name == "Order Completed":
        odd = chance.random()
        if odd < 0.06:
            event["properties"]["total"] = f"{event['properties']['total']:.2f}".replace(".", ",")
        elif odd < 0.1:
            event["properties"]["order_id"] = f"A-{POISON}-{number}"
        elif odd < 0.13:
            del event["userId"]
    elif name == "Signed Up":
        event["properties"] = {"plan": chance.choice(["free", "paid", "trial"])}
    return event
