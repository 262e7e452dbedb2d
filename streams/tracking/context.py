"""The parts of an event's context that a request tells of."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl

from streams.tracking.visit import Visit

CLICK_IDS = frozenset(
    ("gclid", "wbraid", "gbraid", "fbclid", "ttclid", "msclkid", "twclid", "li_fat_id", "ScCid", "epik", "rdt_cid")
)
"""Parameters by which ad networks know the click that led here."""

VENDOR_COOKIES = {
    "_fbp": ("meta", "fbp"),
    "_fbc": ("meta", "fbc"),
    "_ttp": ("tiktok", "ttp"),
    "_scid": ("snapchat", "cookie"),
    "_ga": ("ga4", "client_id"),
}
"""Cookies of vendors' browser tags, and where the presets look for them in the event's `integrations`."""

VENDOR_CLICK_IDS = {
    "ttclid": ("tiktok", "ttclid"),
    "ScCid": ("snapchat", "click_id"),
    "rdt_cid": ("reddit", "click_id"),
    "epik": ("pinterest", "click_id"),
}
"""The click ids that presets look for in the event's `integrations`."""

LONGEST_VALUE = 512
"""Characters of a cookie or click id that are believed to be one."""

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


def client_hints(visit: Visit) -> dict[str, Any] | None:
    """The client hints as `navigator.userAgentData` has them; None where the browser sends none."""
    brands = visit.header("sec-ch-ua")
    if not brands:
        return None
    found: dict[str, Any] = {"brands": _brands(brands), "mobile": visit.header("sec-ch-ua-mobile") == "?1"}
    full = visit.header("sec-ch-ua-full-version-list")
    if full:
        found["fullVersionList"] = _brands(full)
    for header, name in _HINTS.items():
        value = visit.header(header).strip('"')
        if value:
            found[name] = value
    return found


@lru_cache(1024)
def _brands(header: str) -> list[dict[str, str]]:
    return [{"brand": brand, "version": version} for brand, version in _BRANDS.findall(header)]


@lru_cache(1024)
def locale(accept_language: str) -> str | None:
    """The language that a visitor wants most, `en-GB`."""
    best, most = None, 0.0
    for choice in accept_language.split(","):
        tag, _, weight = choice.partition(";")
        try:
            wanted = float(weight.strip().removeprefix("q=") or 1)
        except ValueError:
            continue
        if wanted > most and _LOCALE.fullmatch(tag.strip()):
            best, most = tag.strip(), wanted
    return best


def campaign_and_clicks(query: str) -> tuple[dict[str, str], dict[str, str]]:
    """The utm parameters as `context.campaign`, and the click ids by their parameters' names.

    utm_term is both `term`, as browsers' clients have it, and `keyword`, as Segment's guide for servers has it.
    """
    campaign: dict[str, str] = {}
    clicks: dict[str, str] = {}
    if "=" not in query:
        return campaign, clicks
    try:
        parameters = parse_qsl(query, max_num_fields=256)
    except ValueError:
        return campaign, clicks
    for name, value in parameters:
        if name.startswith("utm_"):
            campaign.setdefault(_CAMPAIGN.get(name[4:], name[4:]), value)
        elif name in CLICK_IDS and len(value) <= LONGEST_VALUE:
            clicks.setdefault(name, value)
    if "term" in campaign:
        campaign["keyword"] = campaign["term"]
    return campaign, clicks


def vendor_cookies(visit: Visit) -> dict[str, str]:
    """The cookies of vendors' browser tags as they came; of two with a name the first."""
    found: dict[str, str] = {}
    for name, value in visit.cookies:
        if (name in VENDOR_COOKIES or name.startswith("_ga_")) and 0 < len(value) <= LONGEST_VALUE:
            found.setdefault(name, value)
    return found


def vendor_ids(cookies: Mapping[str, str], clicks: Mapping[str, str], milliseconds: int) -> dict[str, dict[str, str]]:
    """Cookies and click ids as the presets want them, by integration.

    GA4's client id and session id without what its cookies put around them; a click from Meta that has no cookie yet
    in the cookie's form, with the time that it was seen, since 1970.
    """
    found: dict[str, dict[str, str]] = {}
    for name, value in cookies.items():
        if name.startswith("_ga"):
            pattern, field = (_GA_CLIENT, "client_id") if name == "_ga" else (_GA_SESSION, "session_id")
            match = pattern.match(value)
            if match:
                found.setdefault("ga4", {}).setdefault(field, match[match.lastindex or 0])
        else:
            integration, field = VENDOR_COOKIES[name]
            found.setdefault(integration, {})[field] = value
    for name, value in clicks.items():
        if name in VENDOR_CLICK_IDS:
            integration, field = VENDOR_CLICK_IDS[name]
            found.setdefault(integration, {})[field] = value
    if "fbclid" in clicks and "_fbc" not in cookies:
        found.setdefault("meta", {})["fbc"] = f"fb.1.{milliseconds}.{clicks['fbclid']}"
    return found
