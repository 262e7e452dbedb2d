"""Make the events of benchmarks: a shop's, about 1.3 KB of JSON each, as sent by a browser SDK.

Names, texts, numbers, times, optional fields and the number of products differ between events as they do in production.
Equal events would compress to almost nothing and hit every cache. The same number always gives the same event.
"""

from random import Random
from string import ascii_lowercase
from typing import Any
from uuid import UUID

import orjson

from streams.parsing.times import rfc3339

NAMES = (
    "Order Completed",
    "Product Viewed",
    "Product Added",
    "Product List Viewed",
    "Products Searched",
    "Checkout Started",
    "Payment Info Entered",
    "Signed Up",
    "Newsletter Subscribed",
    "Order Refunded",
)
"""Event names; a benchmark uses the first of them, or more in turns."""

USERS = 10_000
_FIRST_SECOND = 1_767_323_045
_PER_SECOND = 300
_chance = Random(0)
_WORDS = ["".join(_chance.choices(ascii_lowercase, k=_chance.randint(3, 10))) for _ in range(3_000)]
_SYSTEMS = (
    "Windows NT 10.0; Win64; x64",
    "Macintosh; Intel Mac OS X 10_15_7",
    "X11; Linux x86_64",
    "Linux; Android 10; K",
)
_LOCALES = ("en-GB", "en-US", "de-DE", "fr-FR", "es-ES", "it-IT", "nl-NL", "pl-PL", "sv-SE", "pt-BR")
_TIMEZONES = ("Europe/London", "America/New_York", "Europe/Berlin", "Europe/Paris", "America/Sao_Paulo")
_CURRENCIES = ("EUR", "EUR", "EUR", "USD", "GBP", "SEK")


def make_event(number: int, names: int = 1) -> dict[str, Any]:
    """Return an event with one of the first `names` names."""
    chance = Random(number)
    user = chance.randrange(USERS)
    made = _FIRST_SECOND + number / _PER_SECOND + chance.uniform(-20, 0)
    sent = made + chance.expovariate(2)
    name = NAMES[number % names]
    fields: dict[str, Any] = {
        "type": "track",
        "event": name,
        "userId": f"user-{user}",
        "anonymousId": str(UUID(int=chance.getrandbits(128))),
        "messageId": f"ajs-next-{int(made * 1000)}-{UUID(int=chance.getrandbits(128))}",
        "timestamp": rfc3339(made),
        "sentAt": rfc3339(sent),
        "receivedAt": rfc3339(sent + chance.uniform(0.02, 0.4)),
        "context": _context(chance, user),
        "properties": _properties(chance, name),
        "integrations": {"All": True},
    }
    if chance.random() < 0.2:
        del fields["userId"]
    return fields


def _text(chance: Random, words: int) -> str:
    return " ".join(chance.choices(_WORDS, k=words))


def _context(chance: Random, user: int) -> dict[str, Any]:
    path = "/" + "/".join(chance.choices(_WORDS, k=chance.randint(1, 4)))
    engine = "AppleWebKit/537.36 (KHTML, like Gecko)"
    browser = f"Chrome/{chance.randrange(110, 150)}.0.0.0 Safari/537.36"
    context: dict[str, Any] = {
        "ip": ".".join(str(chance.randrange(1, 255)) for _ in range(4)),
        "locale": chance.choice(_LOCALES),
        "timezone": chance.choice(_TIMEZONES),
        "library": {"name": "analytics.js", "version": f"next-1.{chance.randrange(70, 85)}.0"},
        "userAgent": f"Mozilla/5.0 ({chance.choice(_SYSTEMS)}) {engine} {browser}",
        "page": {"url": f"https://shop.example.com{path}", "path": path, "title": _text(chance, chance.randint(1, 6))},
    }
    if chance.random() < 0.5:
        context["page"]["referrer"] = f"https://{chance.choice(_WORDS)}.example/{chance.choice(_WORDS)}"
    if chance.random() < 0.4:
        context["campaign"] = {key: chance.choice(_WORDS) for key in ("name", "source", "medium")}
    if chance.random() < 0.6:
        context["traits"] = {"email": f"{chance.choice(_WORDS)}.{user}@example.com"}
        if chance.random() < 0.5:
            context["traits"] |= {"firstName": chance.choice(_WORDS).title(), "phone": f"+44 20 7946 {user:04}"}
    return context


def _properties(chance: Random, name: str) -> dict[str, Any]:
    if name == "Products Searched":
        return {"query": _text(chance, 2), "results": chance.randrange(200)}
    if name in {"Signed Up", "Newsletter Subscribed"}:
        return {"method": chance.choice(("email", "phone", "passkey")), "form": _text(chance, 2)}
    if name in {"Product Viewed", "Product Added"}:
        return {**_product(chance, 1), "currency": chance.choice(_CURRENCIES)}
    products = [_product(chance, position) for position in range(1, chance.choice((1, 1, 1, 2, 2, 3, 4, 6)) + 1)]
    if name == "Product List Viewed":
        return {"list_id": chance.choice(_WORDS), "category": chance.choice(_WORDS), "products": products}
    total = round(chance.uniform(1, 500), 2)
    properties: dict[str, Any] = {
        "order_id": f"o-{chance.getrandbits(48):x}",
        "affiliation": chance.choice(_WORDS),
        "total": str(total) if chance.random() < 0.3 else total,
        "tax": round(total * 0.19, 2),
        "shipping": chance.choice((0, 3.9, 4.9, "4.90")),
        "currency": chance.choice(_CURRENCIES),
        "products": products,
    }
    if chance.random() < 0.4:
        properties["coupon"] = chance.choice(_WORDS).upper()
    return properties


def _product(chance: Random, position: int) -> dict[str, Any]:
    price = round(chance.uniform(1, 200), 2)
    product: dict[str, Any] = {
        "product_id": f"p-{chance.randrange(50_000)}",
        "name": _text(chance, chance.randint(1, 4)),
        "brand": chance.choice(_WORDS),
        "category": chance.choice(_WORDS),
        "price": f"{price:.2f}" if chance.random() < 0.3 else price,
        "quantity": chance.choice((1, 1, 1, 2, 5)),
        "position": position,
    }
    if chance.random() < 0.3:
        product["variant"] = chance.choice(_WORDS)
    return product


def make_events(first: int, last: int, names: int = 1) -> list[bytes]:
    """Return the events from `first` up to, not including, `last`, as JSON, cycling through the first `names` names."""
    return [orjson.dumps(make_event(number, names)) for number in range(first, last)]
