"""Whose word on the visitor's address is believed: only that of proxies that are trusted."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network

Resolve = Callable[[str, str], tuple[str | None, bool]]
"""From the peer's address and X-Forwarded-For to the visitor's address, and whether the peer is trusted."""

UNIX = "unix"
"""Stands for the peer of a Unix socket among trusted proxies."""


def make_resolve(trusted: Sequence[str]) -> Resolve:
    """A Resolve for these proxies: addresses, networks, or `unix`; raises ValueError where one is none of them."""
    networks = [ip_network(proxy) for proxy in trusted if proxy != UNIX]
    trusts_unix = UNIX in trusted

    def is_trusted(address: str) -> bool:
        parsed = ip_address(address)
        return any(parsed in network for network in networks)

    # The same visitor asks again and again.
    @lru_cache(4096)
    def resolve(peer: str, forwarded: str) -> tuple[str | None, bool]:
        address = _read(peer)
        if not (is_trusted(address) if address else trusts_unix and not peer):
            return address, False
        # Each proxy appends whom it got the request from, so only what stands right of an untrusted address is known.
        for hop in reversed(forwarded.split(",") if forwarded else []):
            found = _read(hop)
            if found is None:
                break
            address = found
            if not is_trusted(address):
                break
        return address, True

    return resolve


def _read(text: str) -> str | None:
    """An address in its shortest form, without port, brackets and zone; None for what is none."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(address)
