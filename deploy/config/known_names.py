"""Collect the names in the event spec and in tracking plans, to suggest corrections of misspelled names."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from streams.steps.plan import Plan

# https://segment.com/docs/connections/spec/: e-commerce, mobile, B2B SaaS, email, live chat, video, and lead events.
_EVENTS = """
Products Searched, Product List Viewed, Product List Filtered, Promotion Viewed, Promotion Clicked, Product
Clicked, Product Viewed, Product Added, Product Removed, Cart Viewed, Checkout Started, Checkout Step Viewed,
Checkout Step Completed, Payment Info Entered, Order Updated, Order Completed, Order Refunded, Order Cancelled,
Coupon Entered, Coupon Applied, Coupon Denied, Coupon Removed, Product Added to Wishlist, Product Removed from
Wishlist, Wishlist Product Added to Cart, Product Shared, Cart Shared, Product Reviewed, Application Installed,
Application Opened, Application Updated, Application Backgrounded, Application Foregrounded, Application
Crashed, Application Uninstalled, Push Notification Received, Push Notification Tapped, Push Notification
Bounced, Install Attributed, Deep Link Opened, Deep Link Clicked, Account Created, Account Deleted, Signed Up,
Signed In, Signed Out, Invite Sent, Account Added User, Account Removed User, Trial Started, Trial Ended, Email
Bounced, Email Delivered, Email Link Clicked, Email Marked as Spam, Email Opened, Unsubscribed, Live Chat
Conversation Started, Live Chat Conversation Ended, Live Chat Message Sent, Live Chat Message Received, Video
Playback Started, Video Playback Paused, Video Playback Interrupted, Video Playback Buffer Started, Video
Playback Buffer Completed, Video Playback Seek Started, Video Playback Seek Completed, Video Playback Resumed,
Video Playback Completed, Video Content Started, Video Content Playing, Video Content Completed, Video Ad
Started, Video Ad Playing, Video Ad Completed, Experiment Viewed, Lead, Lead Generated, Lead Captured
"""
_PROPERTIES = """
affiliation brand cart_id category checkout_id coupon coupon_id coupon_name creative currency discount email filters
form_name image_url keywords list_id method name order_id path payment_method phone plan position price product_id
products promotion_id quantity query rating reason referrer revenue review_body review_id search share_message share_via
shipping shipping_method sku sorts step subtotal tax title total url value variant wishlist_id wishlist_name
"""
_TRAITS = """
address age avatar birthday company createdAt created_at description email employees firstName first_name gender id
industry lastName last_name name phone plan title username website
"""
_CONTEXT = """
active app campaign channel consent device groupId ip library locale location network os page referrer screen sessionId
timezone traits userAgent userAgentData
"""
_MIN_LENGTH, _LONG_LENGTH = 4, 8
"""Shorter names are not checked; names from the second length on may differ in two characters, others in one."""


@dataclass(frozen=True, slots=True)
class KnownNames:
    """Names of track events, and the keys that events have in `properties`, `traits` and `context`."""

    events: frozenset[str]
    keys: Mapping[str, frozenset[str]]

    @classmethod
    def of(cls, plans: Iterable[Plan] = ()) -> Self:
        """Return the names in the spec and in tracking plans."""
        events = {" ".join(name.split()) for name in _EVENTS.split(",")}
        keys = {
            "properties": set(_PROPERTIES.split()),
            "traits": set(_TRAITS.split()),
            "context": set(_CONTEXT.split()),
        }
        for plan in plans:
            for planned in plan.events:
                events |= {planned.event} if planned.event else set()
                for part, schema in planned.schemas.items():
                    keys[part] |= set(_keys(schema, plan))
        return cls(frozenset(events), {part: frozenset(names) for part, names in keys.items()})

    def event_near(self, name: str) -> str | None:
        """Return the event name that was probably meant; None for a known name or one that resembles no other."""
        return _near(name, self.events)

    def key_near(self, part: str, name: str) -> str | None:
        """Return the key of `properties`, `traits` or `context` that was probably meant."""
        return _near(name, self.keys.get(part, frozenset()))


def _keys(schema: Any, plan: Plan) -> Iterable[str]:
    if isinstance(schema, dict) and isinstance(reference := schema.get("$ref"), str):
        schema = plan.definitions.get(reference.removeprefix("#/definitions/"))
    properties = schema.get("properties") if isinstance(schema, dict) else None
    return properties if isinstance(properties, dict) else ()


def _near(name: str, names: frozenset[str]) -> str | None:
    if name in names or len(name) < _MIN_LENGTH:
        return None
    plain = _plain(name)
    distances = ((_distance(plain, _plain(known)), known) for known in sorted(names) if len(known) >= _MIN_LENGTH)
    distance, nearest = min(distances, default=(len(name), None))
    return nearest if distance <= (2 if len(plain) >= _LONG_LENGTH else 1) else None


def _plain(name: str) -> str:
    return "".join(character for character in name.lower() if character not in " _-")


def _distance(one: str, other: str) -> int:
    """Count the characters to insert, drop, change or swap with their neighbour."""
    if abs(len(one) - len(other)) > 2:
        return 3
    rows = [list(range(len(other) + 1))]
    for i, left in enumerate(one, 1):
        row = [i]
        for j, right in enumerate(other, 1):
            cost = min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (left != right))
            if i > 1 and j > 1 and left == other[j - 2] and one[i - 2] == right:
                cost = min(cost, rows[-2][j - 2] + 1)
            row.append(cost)
        rows.append(row)
    return rows[-1][-1]
