"""Validate URLs in settings: HTTP only, without credentials, and not to a cloud's metadata service.

Private addresses are allowed, because many webhooks are in the same network. Delivery checks what a name resolves to.
"""

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Annotated

from pydantic import AfterValidator, SecretStr
from yarl import URL

METADATA_NAMES = frozenset({"metadata", "metadata.google.internal", "metadata.goog", "instance-data.ec2.internal"})
METADATA_NETWORKS = tuple(
    ip_network(network)
    for network in (
        "169.254.0.0/16",  # link-local: AWS, GCP, Azure, DigitalOcean, Oracle, ECS tasks
        "fe80::/10",  # link-local
        "fd00:ec2::/32",  # AWS over IPv6
        "fd20:ce::/32",  # GCP over IPv6
        "100.100.100.200/32",  # Alibaba Cloud
        "168.63.129.16/32",  # Azure's platform service
        "192.0.0.192/32",  # Oracle Cloud, older
    )
)
NAT64 = ip_network("64:ff9b::/96")


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """Parse a host as an address in any form that resolvers accept (`0xA9FEA9FE`, `::ffff:…`); None if it is a name."""
    try:
        address = ip_address(host)
    except ValueError:
        try:
            return IPv4Address(socket.inet_aton(host))
        except (OSError, UnicodeEncodeError):
            return None
    if isinstance(address, IPv6Address):
        if address in NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
        return address.ipv4_mapped or address.sixtofour or address
    return address


def is_forbidden(host: str) -> bool:
    """Return whether a host name or address is link-local or a cloud's metadata service."""
    host = host.rstrip(".").partition("%")[0].lower()
    address = _address(host)
    if address is None:
        return host in METADATA_NAMES
    return any(address in network for network in METADATA_NETWORKS)


def check_url(text: str) -> str:
    """Return a URL if it is allowed in settings; raises ValueError with the reason."""
    if any(ord(character) <= 32 or ord(character) == 127 for character in text):
        raise ValueError("the URL has white space or a control character in it")
    if "{{" in text:
        raise ValueError("the URL must not be a template; requests always go to the same address")
    try:
        url = URL(text)
        host = url.raw_host or ""
    except ValueError as error:
        raise ValueError(f"invalid URL: {error}") from None
    if url.scheme not in ("http", "https"):
        raise ValueError("the URL must begin with http:// or https://")
    if not host:
        raise ValueError("the URL has no host")
    if "@" in url.raw_authority:
        raise ValueError("the URL must not contain a user or password: use the settings for credentials")
    if "%" in host and ":" not in host:
        raise ValueError("the URL has a percent sign in its host")
    if is_forbidden(host):
        raise ValueError("the URL leads to a link-local or cloud metadata address")
    return text


def _check_secret_url(secret: SecretStr) -> SecretStr:
    check_url(secret.get_secret_value())
    return secret


def _check_endpoint(text: str) -> str:
    url = URL(check_url(text))
    if url.raw_query_string or url.raw_fragment:
        raise ValueError("an endpoint must be only scheme, host and path")
    return text.rstrip("/")


Url = Annotated[str, AfterValidator(check_url)]
"""An HTTP or HTTPS URL in a setting."""

SecretUrl = Annotated[SecretStr, AfterValidator(_check_secret_url)]
"""A URL that is itself a secret, such as Slack's incoming webhooks."""

Endpoint = Annotated[str, AfterValidator(_check_endpoint)]
"""A base URL, without query and trailing slash. The vendor's paths are appended to it."""
