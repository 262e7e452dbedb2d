"""Addresses that tell no person.

Costs 1 µs, and 8 more for an address that is not in the cache.
"""

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Literal

from streams.events import Event
from streams.steps.enrichment.caching import cached
from streams.steps.enrichment.contract import NOTHING, Enrich, Enrichment, Settings
from streams.steps.enrichment.files import Files
from streams.steps.enrichment.patches import Patch

ZEROES = {4: 8, 6: 80}
"""How many of an address's last bits become 0, by IP version."""


class IpSettings(Settings):
    """What stays of an address."""

    keep: Literal["network", "nothing"] = "network"
    """`network`: of IPv4 the first 24 bits, of IPv6 48, the others 0. `nothing`: the address is taken out."""


@cached
def network_of(address: str) -> str | None:
    """The address with its last bits 0; None where it is no address. IPv4 in IPv6 is IPv4."""
    try:
        found = ip_address(address.strip())
    except ValueError:
        return None
    if isinstance(found, IPv6Address) and found.ipv4_mapped:
        found = found.ipv4_mapped
    zeroes = ZEROES[found.version]
    kind = IPv6Address if found.version == 6 else IPv4Address
    return str(kind(int(found) >> zeroes << zeroes))


def make(settings: IpSettings, _files: Files) -> Enrich:
    """Anonymise `context.ip`, or take it out; what is no address is taken out too."""
    keeps = settings.keep == "network"

    def anonymize(event: Event) -> Patch | None:
        address = (event.get("context") or NOTHING).get("ip")
        if address is None:
            return None
        kept = network_of(address) if keeps and type(address) is str else None
        return {"context": {"ip": kept}}

    return anonymize


IP = Enrichment("ip", IpSettings, make, replaces=True)
