"""Which responses are pages that a person saw, and their titles."""

import codecs
import html
import re
from collections.abc import Mapping
from functools import lru_cache

from streams.tracking.visit import Visit

DOCUMENTS = ("text/html", "application/xhtml+xml")

TITLE_WITHIN = 16 * 1024
"""Bytes of a page, from its beginning, that its title is looked for in."""

# Every browser's User-Agent begins so, and hardly any library's.
_BROWSERS = ("Mozilla/", "Opera/")

# A crawler mostly gives an address to write or browse to. CUBOT makes phones.
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
    """Whether no person browses with it: no browser, a crawler, a monitor. An empty one is a bot's."""
    return not user_agent.startswith(_BROWSERS) or _BOTS.search(user_agent) is not None


def is_prefetch(visit: Visit) -> bool:
    """Whether a browser or a link preview fetches it before anybody asked to see it."""
    headers = visit.headers
    for name in _PREFETCH:
        value = headers.get(name)
        if value and ("prefetch" in value or "preview" in value):
            return True
    return False


def is_asset(visit: Visit, headers: Mapping[str, str]) -> bool:
    """Whether the response is anything but a document that somebody navigated to."""
    kind = headers.get("content-type")
    if kind is not None and not kind.lower().startswith(DOCUMENTS):
        return True
    # A 304 names no type.
    if kind is None and ("text/html" not in visit.header("accept") or _ASSETS.search(visit.path)):
        return True
    purpose = visit.headers.get("sec-fetch-dest")
    if purpose is not None:
        if purpose != "document":
            return True
    # Browsers send Sec-Fetch-Dest over https only. Requests for icons and from scripts do not ask for HTML.
    elif "text/html" not in visit.headers.get("accept", "text/html"):
        return True
    # Android's web views name their app in this header.
    return visit.headers.get("x-requested-with") == "XMLHttpRequest"


def find_title(beginning: bytes, content_type: str) -> str | None:
    """The text of a page's title element, if that is in these first bytes."""
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
