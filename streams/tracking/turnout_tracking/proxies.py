"""Find the visitor's address behind trusted proxies, from X-Forwarded-For and Forwarded (RFC 7239)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Optional

Resolve = Callable[[str, Optional[str], Optional[str]], tuple[Optional[str], bool]]
"""Returns the visitor's address, and whether the peer is trusted, for a peer's address, X-Forwarded-For and Forwarded.

Repeated headers are joined by commas; None without the header.
"""

UNIX = "unix"
"""The entry in a list of trusted proxies that means the peer of a Unix socket."""

_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# Unquoted addresses are invalid but common: a token has no colons or brackets. No two neighbouring repetitions share a
# character, so matching takes linear time without possessive quantifiers, which need Python 3.11.
_PAIR = re.compile(rf'[ \t]*({_NAME})=("(?:[^"\\]|\\.)*"|[^\s;,"]*)[ \t]*(?=[;,]|$)')
_GAP = re.compile(r"[ \t]*([;,]|$)")
_PORT = re.compile(r":(?:\d{1,5}|_[A-Za-z0-9._-]+)")


def make_resolve(trusted: Sequence[str]) -> Resolve:
    """Return a Resolve for these proxies: addresses, networks, or `unix`; raises ValueError for anything else."""
    networks = [ip_network(proxy) for proxy in trusted if proxy != UNIX]
    trusts_unix = UNIX in trusted

    def is_trusted(address: str) -> bool:
        parsed = ip_address(address)
        return any(parsed in network for network in networks)

    def find_visitor(hops: Sequence[str]) -> str | None:
        # Each proxy appends the address of its peer, so nothing left of an untrusted address can be trusted.
        address = None
        for hop in reversed(hops):
            address = _read(hop)
            if address is None or not is_trusted(address):
                break
        return address

    # The same visitor sends many requests.
    @lru_cache(4096)
    def resolve(peer: str, forwarded_for: str | None, forwarded: str | None) -> tuple[str | None, bool]:
        address = _read(peer)
        if not (is_trusted(address) if address else trusts_unix and not peer):
            return address, False
        lists = [hops for hops in (_split(forwarded_for), _parse(forwarded)) if hops is not None]
        if not lists:
            return address if forwarded_for is None and forwarded is None else None, True
        found = {find_visitor(hops) for hops in lists}
        return found.pop() if len(found) == 1 else None, True

    return resolve


def _split(forwarded_for: str | None) -> list[str] | None:
    """Return the hops of X-Forwarded-For; None without the header."""
    if forwarded_for is None:
        return None
    return [hop for part in forwarded_for.split(",") if (hop := part.strip())]


def _parse(forwarded: str | None) -> list[str] | None:
    """Return the `for` of each element of Forwarded, "" for one without it; [] if the header is malformed.

    None without the header, or without `for` in it.
    """
    if forwarded is None:
        return None
    hops: list[str] = []
    hop: str | None = None
    is_empty, is_named = True, False
    at = 0
    while True:
        if pair := _PAIR.match(forwarded, at):
            is_empty = False
            if pair[1].lower() == "for":
                if hop is not None:
                    return []
                hop, is_named = pair[2], True
            at = pair.end()
        gap = _GAP.match(forwarded, at)
        if gap is None:
            return []
        at = gap.end()
        if gap[1] == ";":
            continue
        if not is_empty:
            hops.append(hop or "")
        hop, is_empty = None, True
        if not gap[1]:
            return hops if is_named or not hops else None


def _read(text: str) -> str | None:
    """Return an address in its shortest form, without quotes, brackets, port and zone; None if it is not an address."""
    text = text.strip()
    if text.startswith('"') and text.endswith('"'):
        text = re.sub(r"\\(.)", r"\1", text[1:-1])
    if text.startswith("["):
        text, closed, port = text[1:].partition("]")
        if not closed or ":" not in text or (port and not _PORT.fullmatch(port)):
            return None
    elif text.count(":") == 1:
        text, _, port = text.partition(":")
        if not _PORT.fullmatch(f":{port}"):
            return None
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(address)
