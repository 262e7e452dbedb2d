"""The event that benchmarks use: an order of two products, 1.3 KB of JSON, as a browser SDK sends it."""

from typing import Any
from uuid import UUID

import orjson


def purchase(number: int) -> dict[str, Any]:
    """One order; all differ by user, id and total."""
    return {
        "type": "track",
        "event": "Order Completed",
        "userId": f"user-{number % 10_000}",
        "anonymousId": str(UUID(int=number % 10_000)),
        "messageId": f"ajs-next-1767323045678-{UUID(int=number)}",
        "timestamp": "2026-01-02T03:04:05.678Z",
        "sentAt": "2026-01-02T03:04:06.000Z",
        "receivedAt": "2026-01-02T03:04:06.100Z",
        "context": {
            "ip": "203.0.113.7",
            "locale": "en-GB",
            "library": {"name": "analytics.js", "version": "next-1.84.3"},
            "userAgent": "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 Chrome/141.0",
            "page": {"url": "https://shop.example.com/checkout/thanks", "path": "/checkout/thanks", "title": "Thanks"},
            "campaign": {"name": "winter", "source": "newsletter", "medium": "email"},
            "traits": {"email": f"user-{number % 10_000}@example.com"},
        },
        "properties": {
            "order_id": f"o-{number}",
            "affiliation": "Shop",
            "total": f"{number % 500}.95",
            "tax": 3.2,
            "shipping": 4.9,
            "coupon": "WINTER",
            "currency": "EUR",
            "products": [
                {
                    "product_id": "p-1",
                    "name": "Coffee 1 kg",
                    "brand": "Beans",
                    "category": "Food",
                    "price": 18.5,
                    "quantity": 1,
                },
                {
                    "product_id": "p-2",
                    "name": "Filter papers",
                    "brand": "Papers",
                    "category": "Home",
                    "price": "3.95",
                    "quantity": 2,
                },
            ],
        },
        "integrations": {"All": True},
    }


def purchases(first: int, last: int) -> list[bytes]:
    """Orders from `first` up to, and without, `last`, as JSON."""
    return [orjson.dumps(purchase(number)) for number in range(first, last)]
