"""The token endpoint of all vendors: issues access tokens that expire, and checks them."""

from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from deploy.simulator.vendors import VendorReply
from forwarders.api.contract import Contract

LIFETIME_SECONDS: Final = 3600
GRANTS: Final = {
    "refresh_token": ("client_id", "client_secret", "refresh_token"),
    "authorization_code": ("client_id", "client_secret", "code", "redirect_uri"),
    "urn:ietf:params:oauth:grant-type:jwt-bearer": ("assertion",),
}
"""The parameters that each grant needs (RFC 6749, sections 4.1.3 and 6; RFC 7523, section 2.1)."""

REFUSED: Final = VendorReply(401, {"error": "invalid_token"}, {"www-authenticate": 'Bearer error="invalid_token"'})


class TokenEndpoint:
    """Issues access tokens and stores when they expire."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._count = 0
        self._expiry: dict[str, float] = {}

    def issue(self, body: Any) -> VendorReply:
        """Return the reply to a token request, whose body is a form."""
        form = dict(parse_qsl(body)) if isinstance(body, str) else {}
        needed = GRANTS.get(form.get("grant_type", ""))
        if needed is None:
            return VendorReply(400, {"error": "unsupported_grant_type"})
        if not all(form.get(name) for name in needed):
            return VendorReply(400, {"error": "invalid_request"})
        now = self._clock()
        self._expiry = {token: expiry for token, expiry in self._expiry.items() if expiry > now}
        self._count += 1
        token = f"simulated-{self._count}"
        self._expiry[token] = now + LIFETIME_SECONDS
        issued = {"access_token": token, "token_type": "Bearer", "expires_in": LIFETIME_SECONDS}
        if "code" in form:
            issued["refresh_token"] = f"refresh-{self._count}"
        return VendorReply(200, issued)

    def refuses(self, contract: Contract, headers: Mapping[str, str]) -> bool:
        """Return whether a request must be refused because its token is missing or expired.

        If the contract allows static tokens, any token that was not issued here is accepted as one.
        """
        if "oauth_refresh" not in contract.auth_methods:
            return False
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            return True
        if "static" in contract.auth_methods and not token.startswith("simulated-"):
            return False
        return self._expiry.get(token, 0.0) <= self._clock()
