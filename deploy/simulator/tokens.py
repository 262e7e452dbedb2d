"""The token endpoint of all vendors: issues access tokens that end, and knows which of them are still good."""

from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from deploy.simulator.vendors import VendorReply
from forwarders.api.contract import Contract

LIFETIME: Final = 3600
GRANTS: Final = {
    "refresh_token": ("client_id", "client_secret", "refresh_token"),
    "authorization_code": ("client_id", "client_secret", "code", "redirect_uri"),
    "urn:ietf:params:oauth:grant-type:jwt-bearer": ("assertion",),
}
"""What each grant has to come with (RFC 6749, sections 4.1.3 and 6; RFC 7523, section 2.1)."""

REFUSED: Final = VendorReply(401, {"error": "invalid_token"}, {"www-authenticate": 'Bearer error="invalid_token"'})


class TokenEndpoint:
    """The access tokens issued so far, each with its end."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._count = 0
        self._ends: dict[str, float] = {}

    def issue(self, body: Any) -> VendorReply:
        """The answer to a token request, whose body is a form."""
        form = dict(parse_qsl(body)) if isinstance(body, str) else {}
        needed = GRANTS.get(form.get("grant_type", ""))
        if needed is None:
            return VendorReply(400, {"error": "unsupported_grant_type"})
        if not all(form.get(name) for name in needed):
            return VendorReply(400, {"error": "invalid_request"})
        now = self._clock()
        self._ends = {token: ends for token, ends in self._ends.items() if ends > now}
        self._count += 1
        token = f"simulated-{self._count}"
        self._ends[token] = now + LIFETIME
        issued = {"access_token": token, "token_type": "Bearer", "expires_in": LIFETIME}
        if "code" in form:
            issued["refresh_token"] = f"refresh-{self._count}"
        return VendorReply(200, issued)

    def refuses(self, contract: Contract, headers: Mapping[str, str]) -> bool:
        """Whether a request must be refused: it has no token, or one that has ended.

        Where a contract allows tokens that somebody renews by hand, any that was not issued here passes as such.
        """
        if "oauth_refresh" not in contract.auth_methods:
            return False
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            return True
        if "static" in contract.auth_methods and not token.startswith("simulated-"):
            return False
        return self._ends.get(token, 0.0) <= self._clock()
