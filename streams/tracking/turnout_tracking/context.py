"""Read the parts of an event's context that come from the request."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import unquote_plus

CLICK_IDS = frozenset(
    ("gclid", "wbraid", "gbraid", "fbclid", "ttclid", "msclkid", "twclid", "li_fat_id", "ScCid", "epik", "rdt_cid")
)
"""URL parameters with the click IDs of ad networks."""

_COOKIE_IDS = {
    "_fbp": ("meta", "fbp"),
    "_fbc": ("meta", "fbc"),
    "_ttp": ("tiktok", "ttp"),
    "_scid": ("snapchat", "cookie"),
}
"""The fields of the event's `integrations` from which presets read the cookies of vendors' browser tags."""

_CLICK_IDS = {
    "ttclid": ("tiktok", "ttclid"),
    "ScCid": ("snapchat", "click_id"),
    "rdt_cid": ("reddit", "click_id"),
    "epik": ("pinterest", "click_id"),
    "li_fat_id": ("linkedin", "li_fat_id"),
    **{name: ("google_ads", name) for name in ("gclid", "gbraid", "wbraid")},
}
"""The fields of the event's `integrations` from which presets read click IDs."""

MAX_CLICK_ID_CHARACTERS = 512
"""Maximum characters of a click ID; longer values are ignored."""

_CAMPAIGN = {"campaign": "name"}
_BRANDS = re.compile(r'"((?:[^"\\]|\\.)*)";\s*v="([^"]*)"')
_LOCALE = re.compile(r"[A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8})*")
_GA_CLIENT = re.compile(r"GA\d+\.\d+\.(\d+\.\d+)")
_GA_SESSION = re.compile(r"GS1\.\d+\.(\d+)|GS2\.\d+\.s(\d+)")

_HINTS = {
    "sec-ch-ua-platform": "platform",
    "sec-ch-ua-platform-version": "platformVersion",
    "sec-ch-ua-model": "model",
    "sec-ch-ua-arch": "architecture",
    "sec-ch-ua-bitness": "bitness",
    "sec-ch-ua-full-version": "uaFullVersion",
}
_BROWSER_HEADERS = (
    "user-agent",
    "accept-language",
    "sec-ch-ua",
    "sec-ch-ua-mobile",
    "sec-ch-ua-full-version-list",
    *_HINTS,
)


def browser(headers: Mapping[str, str]) -> Mapping[str, Any]:
    """Return `userAgent`, `locale`, and the client hints in the form of `navigator.userAgentData`."""
    return _browser(tuple(map(headers.get, _BROWSER_HEADERS)))


# Many visitors have the same browser, so the result is cached and shared.
@lru_cache(4096)
def _browser(values: tuple[str | None, ...]) -> Mapping[str, Any]:
    user_agent, language, brands, mobile, full_versions, *hints = values
    found: dict[str, Any] = {}
    if user_agent:
        found["userAgent"] = user_agent
    preferred = locale(language) if language else None
    if preferred:
        found["locale"] = preferred
    if brands:
        data = found["userAgentData"] = {"brands": _brands(brands), "mobile": mobile == "?1"}
        data |= {name: hint.strip('"') for name, hint in zip(_HINTS.values(), hints) if hint}
        if full_versions:
            data["fullVersionList"] = _brands(full_versions)
    return found


def _brands(header: str) -> list[dict[str, str]]:
    return [{"brand": brand, "version": version} for brand, version in _BRANDS.findall(header)]


def locale(accept_language: str) -> str | None:
    """Return the preferred language, such as `en-GB`."""
    best, highest = None, 0.0
    for choice in accept_language.split(","):
        tag, _, weight = choice.partition(";")
        try:
            quality = float(weight.strip().removeprefix("q=") or 1)
        except ValueError:
            continue
        if quality > highest and _LOCALE.fullmatch(tag.strip()):
            best, highest = tag.strip(), quality
    return best


def campaign_and_clicks(query: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return the utm parameters as `context.campaign`, and the click IDs by parameter name.

    utm_term becomes `term`, as in browser clients, and `keyword`, as in Segment's guide for servers.
    """
    campaign: dict[str, str] = {}
    clicks: dict[str, str] = {}
    for parameter in query.split("&"):
        name, _, value = parameter.partition("=")
        if not value:
            continue
        if name.startswith("utm_"):
            campaign.setdefault(_CAMPAIGN.get(name[4:], name[4:]), _decoded(value))
        elif name in CLICK_IDS and len(value) <= MAX_CLICK_ID_CHARACTERS:
            clicks.setdefault(name, _decoded(value))
    if "term" in campaign:
        campaign["keyword"] = campaign["term"]
    return campaign, clicks


def _decoded(value: str) -> str:
    return unquote_plus(value) if "%" in value or "+" in value else value


def vendor_ids(cookies: Mapping[str, str], clicks: Mapping[str, str], milliseconds: int) -> dict[str, dict[str, str]]:
    """Return cookies and click IDs by integration, in the form that presets read.

    GA4's client ID and session ID are taken out of its cookies. A Meta click ID without a cookie gets the cookie's
    form, with the time of the request, `milliseconds` since 1970.
    """
    found: dict[str, dict[str, str]] = {}
    for name, value in cookies.items():
        if name.startswith("_ga"):
            pattern, field = (_GA_CLIENT, "client_id") if name == "_ga" else (_GA_SESSION, "session_id")
            match = pattern.match(value)
            if match:
                found.setdefault("ga4", {}).setdefault(field, match[match.lastindex or 0])
        else:
            integration, field = _COOKIE_IDS[name]
            found.setdefault(integration, {})[field] = value
    for name, value in clicks.items():
        if name in _CLICK_IDS:
            integration, field = _CLICK_IDS[name]
            found.setdefault(integration, {})[field] = value
    if "fbclid" in clicks and "_fbc" not in cookies:
        found.setdefault("meta", {})["fbc"] = f"fb.1.{milliseconds}.{clicks['fbclid']}"
    return found
