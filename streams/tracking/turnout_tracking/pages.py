"""Decide which responses are pages that a person saw, and find their titles."""

from __future__ import annotations

import codecs
import html
import re
from collections.abc import Mapping
from functools import lru_cache

from turnout_tracking.page_request import PageRequest

DOCUMENTS = ("text/html", "application/xhtml+xml")

TITLE_SEARCH_BYTES = 16 * 1024
"""Bytes at the start of a page that are searched for its title."""

# The start of every browser's User-Agent, and of hardly any library's.
_BROWSERS = ("Mozilla/", "Opera/")

# Most crawlers give a mail or web address. CUBOT is a brand of phones.
_BOTS = re.compile(
    r"(?<!cu)bot|crawl|spider|slurp|scrap|archiver|https?://|@|headless|phantomjs|lighthouse|pagespeed|prerender|"
    r"externalhit|preview|monitor|pingdom|uptime|healthcheck|check_http|gtmetrix|ptst/|validator|google(?:other|-)|feed",
    re.IGNORECASE,
)

_ASSETS = re.compile(
    r"\.(?:avif|bmp|css|csv|eot|gif|gz|ico|jpe?g|js|json|m?js|map|mp[34]|og[gv]|otf|pdf|png|rss|svg|ttf|txt|wasm|wav|"
    r"webm|webmanifest|webp|woff2?|xml|zip)$",
    re.IGNORECASE,
)

_PREFETCH = ("sec-purpose", "purpose", "x-purpose", "x-moz")


@lru_cache(4096)
def is_bot(user_agent: str) -> bool:
    """Return whether a User-Agent belongs to a crawler, a monitor or a script; an empty one does."""
    return not user_agent.startswith(_BROWSERS) or _BOTS.search(user_agent) is not None


def is_prefetch(request: PageRequest) -> bool:
    """Return whether a browser or a link preview fetches the page before a person opens it."""
    headers = request.headers
    for name in _PREFETCH:
        value = headers.get(name)
        if value and ("prefetch" in value or "preview" in value):
            return True
    return False


def is_asset(request: PageRequest, headers: Mapping[str, str]) -> bool:
    """Return whether the response is anything but a document that a person navigated to."""
    kind = headers.get("content-type")
    if kind is not None and not kind.lower().startswith(DOCUMENTS):
        return True
    # A 304 has no Content-Type.
    if kind is None and ("text/html" not in request.header("accept") or _ASSETS.search(request.path)):
        return True
    purpose = request.headers.get("sec-fetch-dest")
    if purpose is not None:
        if purpose != "document":
            return True
    # Browsers send Sec-Fetch-Dest over https only. Requests for icons and from scripts do not ask for HTML.
    elif "text/html" not in request.headers.get("accept", "text/html"):
        return True
    # Android's web views send the name of their app in this header.
    return request.headers.get("x-requested-with") == "XMLHttpRequest"


def find_title(beginning: bytes, content_type: str) -> str | None:
    """Return the text of the title element, if it is in these first bytes of the page."""
    start = beginning.find(b"<title")
    if start < 0:
        start = beginning.find(b"<TITLE")
    begin = beginning.find(b">", start) + 1
    end = beginning.find(b"</", begin)
    if start < 0 or not begin or end < 0:
        return None
    text = beginning[begin:end].decode(_charset(content_type), "replace")
    return " ".join(html.unescape(text).split()) or None


@lru_cache(64)
def _charset(content_type: str) -> str:
    named = content_type.lower().partition("charset=")[2].partition(";")[0].strip(" \"'")
    try:
        return codecs.lookup(named).name
    except LookupError:
        return "utf-8"
