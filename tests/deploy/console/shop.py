"""Run `turnout up` for a shop, with events of every outcome."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests

from tests.support.running_up import Up

FILES = {
    "integrations/meta.yaml": """integration: meta
forwarder: meta
preset: meta
settings:
  pixel_id: '1048'
  access_token: '${META_TOKEN}'
  endpoint: http://127.0.0.1:8099
consent: {all: [advertising]}
""",
    "integrations/crm.yaml": """integration: crm
forwarder: webhook
settings: {url: 'http://127.0.0.1:8099/hooks/crm'}
rules:
  - name: big order
    when: 'type = "track" and event = "Order Completed" and properties.total >= 100'
    map:
      order: $.properties.order_id
      contact: $.context.traits.email
      total: {"@number": $.properties.total}
  - name: sign-up
    when: 'event = "Signed Up"'
    map: {user: $.userId}
""",
    "demo.env": Path("deploy/example/demo.env").read_text() + "META_TOKEN=demo-meta\n",
}

POISON = "refuse-me"
"""A text that the simulated Meta refuses."""

HOSTILE = "<script>alert(1)</script>\x1b[31m\u202egnp.exe'\"><img src=x onerror=alert(2)>{{7*7}}${7*7}"
"""A text that would do harm in a page or a terminal that does not escape it."""

PRODUCTS = [{"product_id": "B-7", "sku": "LMP-204", "name": "Desk lamp Elbe", "price": 89.9, "quantity": 1}]


def order(number: int, total: Any = 149.9, **changes: Any) -> dict[str, Any]:
    """Return an order of a customer with full consent."""
    event = {
        "type": "track",
        "event": "Order Completed",
        "messageId": f"m-{number:04}",
        "userId": f"u-81{number:04}",
        "properties": {
            "order_id": f"A-{20_000 + number}",
            "total": total,
            "currency": "EUR",
            "coupon": None,
            "products": PRODUCTS,
        },
        "context": {
            "ip": "84.17.40.9",
            "userAgent": "Mozilla/5.0 (iPhone; CPU iPhone OS 19_1 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148",
            "page": {"url": "https://nordlicht.example/checkout/thanks"},
            "traits": {"email": f"lena{number}@nordlicht.example", "firstName": "Lena"},
            "consent": {"categoryPreferences": {"advertising": True, "analytics": True}},
        },
    }
    return event | changes


def hostile(number: int, size: int = 20_000) -> dict[str, Any]:
    """Return an event with a hostile text in every field, and very long texts."""
    text = f"{HOSTILE} {number}"
    return {
        "type": "track", "event": text, "messageId": f"m-hostile-{number}", "userId": text, "anonymousId": text,
        "properties": {
            "order_id": text, "total": text, "long": "x" * size, text: text, "list": [text, {text: [text]}],
            "__proto__": text, "a.b": text, "constructor": text,
        },
        "context": {"page": {"url": f"javascript:{text}", "title": text}, "userAgent": text, "ip": text,
                    "traits": {"email": text, "name": text}, "locale": text, "campaign": {"name": text}},
    }  # fmt: skip


class Shop(Up):
    """A running shop."""

    def __init__(self, folder: Path, files: Mapping[str, str] = FILES) -> None:
        super().__init__(folder, files)
        self.prepare()
        self.begun()
        self.sent = 0
        self.simulate({"path": "/v", "poison": POISON, "times": None})

    def prepare(self) -> None:
        """Prepare the folder before the processes start."""

    def simulate(self, fault: dict[str, Any]) -> None:
        """Make the simulator of the vendors fail."""
        requests.post(f"http://127.0.0.1:{self.ports['8099']}/_script", json=[fault], timeout=60).raise_for_status()

    def forgive(self) -> None:
        """Remove the simulator's faults."""
        requests.delete(f"http://127.0.0.1:{self.ports['8099']}/_script", timeout=60).raise_for_status()

    def send(self, *events: Any, key: str = "demo-web") -> None:
        """Send events to the collector."""
        url = f"http://127.0.0.1:{self.ports['8080']}/v1/batch"
        answer = requests.post(url, json={"batch": events}, auth=(key, ""), timeout=60)
        assert answer.status_code == 200, answer.text
        self.sent += len(events)

    def send_all_kinds(self) -> None:
        """Send events of every outcome that a test checks."""
        no_consent = {**order(3)["context"], "consent": {"categoryPreferences": {"advertising": False}}}
        bad_total = order(2, "149,90")
        refused = order(4, 250.0)
        refused["properties"]["order_id"] = f"A-{POISON}"
        self.send(
            order(1),
            bad_total,
            order(3, context=no_consent),
            refused,
            {"type": "track", "event": "Signed Up", "messageId": "m-0005", "userId": "u-810005"},
            {"type": "page", "name": "Checkout", "messageId": "m-0006", "userId": "u-810001"},
            {"type": "track", "event": "Heartbeat", "messageId": "m-0007", "anonymousId": "anonymous-7"},
            {"type": "track", "messageId": "m-0009", "userId": "u-810009"},
            hostile(1),
            hostile(2, 32_000),
            {
                "type": "track",
                "event": "Wide",
                "messageId": "m-wide",
                "userId": "u-9",
                "properties": {f"p{n}": n for n in range(2_000)},
            },
        )
        stock = {"type": "track", "event": "Stock Changed", "messageId": "m-0008", "userId": "u-810002"}
        self.send(stock, key="demo-server")
        self.send(order(1))

    def until_settled(self) -> None:
        """Wait until the ledger has a final outcome of every event for every integration."""
        self.until(self._is_settled)

    def _is_settled(self) -> bool:
        try:
            answer = requests.get(f"http://127.0.0.1:{self.ledger_port}/counts?by=outcome", timeout=60).json()
        except requests.ConnectionError:
            return False
        waiting = any(row["outcome"] == "forwarded" for row in answer["rows"])
        return answer["accepted"] + answer["rejected"] >= self.sent and not waiting


def main() -> None:
    """Run a shop until Ctrl-C, to look at the console: python -m tests.deploy.console.shop FOLDER."""
    import sys

    shop = Shop(Path(sys.argv[1]))
    try:
        shop.send_all_kinds()
        print(shop.console_link, flush=True)
        for number in range(100, 400):
            shop.send(order(number, 40 + number % 170))
            time.sleep(0.2)
        shop.process.wait()
    finally:
        shop.close()


if __name__ == "__main__":
    main()
