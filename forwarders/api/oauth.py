"""Access tokens that expire: request them, parse the response, and add them to requests.

A forwarder builds the request for a token in `HttpForwarder.build_token_request`. Delivery sends it, parses the reply
with `parse_token_response`, keeps the token until `renew_at`, and adds it to each request with `authorize`. If the
vendor rejects the grant, the result is `AuthFailed`: nothing is delivered until the credentials are fixed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Final, Literal, NoReturn
from urllib.parse import parse_qsl, quote, urlencode

from pydantic import AfterValidator, Field

from forwarders.api.auth import HeaderSecret, Secret
from forwarders.api.contract import (
    AuthFailed,
    Authorization,
    Request,
    Response,
    Retry,
    Settings,
)
from forwarders.api.extras import extra

ASSERTION_SECONDS: Final = 3600
RENEWAL_MARGIN_SECONDS: Final = 60.0
"""How long before its expiry a token is renewed."""

RENAMED: Final[Mapping[str, str]] = {
    "code_request": "build_code_request",
    "read_token": "parse_token_response",
    "refreshes": "uses_refresh_token",
    "token_request": "build_token_request",
}
"""Old names of this module, and the names that replace them."""


def __getattr__(name: str) -> NoReturn:
    """Refuse an old name of this module with an error that names the new one; see `forwarders.api.contract`."""
    if name in RENAMED:
        raise ImportError(f"{name} was renamed to {RENAMED[name]}", name=__name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class AccessToken(Settings):
    """An access token that is renewed manually."""

    type: Literal["static"]
    access_token: HeaderSecret
    """The access token."""


class RefreshToken(Settings):
    """An app's refresh token, which is exchanged for access tokens (RFC 6749, section 6)."""

    type: Literal["oauth_refresh"]
    client_id: Annotated[str, Field(min_length=1)]
    """The app's client ID."""
    client_secret: Secret
    """The app's client secret."""
    refresh_token: Secret
    """The app's refresh token."""


def _check_key(key: Secret) -> Secret:
    if "PRIVATE KEY-----" not in key.get_secret_value():
        raise ValueError("not a private key in PEM format")
    return key


class ServiceAccount(Settings):
    """A Google service account, which signs its own assertions (RFC 7523). Requires the extra `service-account`."""

    type: Literal["service_account"]
    client_email: Annotated[str, Field(pattern="^[^@ ]+@[^@ ]+$")]
    """`client_email` of the account's key file."""
    private_key: Annotated[Secret, AfterValidator(_check_key)]
    """`private_key` of the key file, with its line breaks."""
    private_key_id: str | None = None
    """`private_key_id` of the key file."""


Grant = RefreshToken | ServiceAccount


@dataclass(frozen=True, slots=True)
class Token:
    """An access token.

    Args:
        value: The token.
        renew_at: When to renew it, as Unix time.

    """

    value: str = field(repr=False)
    renew_at: float


def headers(credentials: AccessToken | Grant) -> dict[str, str]:
    """Return the Authorization header for a token from the settings, or no header if a token must be requested."""
    if isinstance(credentials, AccessToken):
        return {"Authorization": f"Bearer {credentials.access_token.get_secret_value()}"}
    return {}


def build_token_request(credentials: AccessToken | Grant, url: str, now: float, scope: str = "") -> Request | None:
    """Build the request for an access token.

    Args:
        credentials: The setting `auth`.
        url: The vendor's token endpoint.
        now: The current Unix time.
        scope: The requested permissions of a service account, separated by spaces.

    Returns:
        The request, or None if the settings contain the access token.

    Raises:
        ImportError: A service account requires an extra that is not installed; the message has the command.

    """
    match credentials:
        case RefreshToken():
            form = {
                "grant_type": "refresh_token",
                "refresh_token": credentials.refresh_token.get_secret_value(),
                "client_id": credentials.client_id,
                "client_secret": credentials.client_secret.get_secret_value(),
            }
        case ServiceAccount():
            form = {
                "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
                "assertion": _assertion(credentials, url, now, scope),
            }
        case _:
            return None
    form_type = {"Content-Type": "application/x-www-form-urlencoded"}
    return Request("POST", url, form_type, urlencode(form).encode())


def uses_refresh_token(request: Request) -> bool:
    """Return whether a token request uses a refresh token, so that `turnout authorize` can replace the grant."""
    return _form(request).get("grant_type") == "refresh_token"


def authorization_url(authorization: Authorization, grant: Request, redirect: str, state: str) -> str:
    """Return the URL of the vendor's authorization page for a browser.

    Args:
        authorization: The page, from the contract.
        grant: A token request, which contains the app's client ID.
        redirect: The URL that the vendor redirects to, with a code.
        state: A random value that the vendor returns with the code.

    Returns:
        The URL.

    """
    query = {
        **authorization.extra_parameters,
        "response_type": "code",
        "client_id": _form(grant)["client_id"],
        "redirect_uri": redirect,
        "scope": authorization.scope,
        "state": state,
    }
    return f"{authorization.url}?{urlencode(query, quote_via=quote)}"


def build_code_request(grant: Request, code: str, redirect: str) -> Request:
    """Build the request that exchanges an authorization code for a refresh token (RFC 6749, section 4.1.3).

    Args:
        grant: A token request, which contains the app's credentials and the token endpoint.
        code: The code from the authorization page.
        redirect: The URL that the page redirected to.

    Returns:
        The request.

    """
    app = {name: value for name, value in _form(grant).items() if name in ("client_id", "client_secret")}
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect, **app}
    return replace(grant, body=urlencode(form).encode())


def _form(request: Request) -> dict[str, str]:
    return dict(parse_qsl(request.body.decode()))


def _assertion(account: ServiceAccount, audience: str, now: float, scope: str) -> str:
    with extra("service-account"):
        import jwt
    issued = int(now)
    claims = {
        "iss": account.client_email,
        "scope": scope,
        "aud": audience,
        "iat": issued,
        "exp": issued + ASSERTION_SECONDS,
    }
    key_id = {"kid": account.private_key_id} if account.private_key_id else None
    return jwt.encode(claims, account.private_key.get_secret_value(), algorithm="RS256", headers=key_id)


def parse_token_response(response: Response, now: float) -> Token | AuthFailed | Retry:
    """Parse the response of a token endpoint (RFC 6749, sections 5.1 and 5.2).

    Args:
        response: The response.
        now: When the token was requested, as Unix time.

    Returns:
        The token. `AuthFailed` if the vendor rejects the grant, which a status 4xx means; otherwise `Retry`.

    """
    body = response.json if isinstance(response.json, Mapping) else {}
    value, seconds = body.get("access_token"), body.get("expires_in", 3600)
    if response.status == 200 and isinstance(value, str) and value.isascii() and value.isprintable() and value:
        lifetime = float(seconds) if isinstance(seconds, int | float) else 3600.0
        return Token(value, now + max(0.0, lifetime - min(RENEWAL_MARGIN_SECONDS, lifetime / 2)))
    if 400 <= response.status < 500 and response.status not in (408, 425, 429):
        return AuthFailed()
    return Retry(response.retry_after)


def authorize(request: Request, token: Token) -> Request:
    """Return the request with the token in its Authorization header (RFC 6750, section 2.1)."""
    return replace(request, headers={**request.headers, "Authorization": f"Bearer {token.value}"})
