"""Access tokens that end: how they are asked for, and what the answer means.

A forwarder gives the request for a token (`HttpForwarder.token_request`); whoever sends it reads the answer with
`read_token`, keeps the token until it `ends`, and puts it into each request with `authorize`. A refused grant is
`Auth`: nothing passes until somebody mends the settings.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Final, Literal
from urllib.parse import parse_qsl, quote, urlencode

from pydantic import AfterValidator, Field

from forwarders.auth import HeaderSecret, Secret
from forwarders.contract import AuthFailed, Authorization, Request, Response, Retry, Settings
from forwarders.extras import extra

ASSERTION_SECONDS: Final = 3600
MARGIN: Final = 60.0
"""How many seconds before its end a token is renewed."""


class AccessToken(Settings):
    """A token that somebody renews by hand."""

    type: Literal["static"]
    access_token: HeaderSecret
    """The access token."""


class RefreshToken(Settings):
    """A refresh token of an app, by which access tokens are got (RFC 6749, section 6)."""

    type: Literal["oauth_refresh"]
    client_id: Annotated[str, Field(min_length=1)]
    """The app's client id."""
    client_secret: Secret
    """The app's client secret."""
    refresh_token: Secret
    """The refresh token that the app was given."""


def _check_key(key: Secret) -> Secret:
    if "PRIVATE KEY-----" not in key.get_secret_value():
        raise ValueError("this is no private key in PEM form")
    return key


class ServiceAccount(Settings):
    """A Google service account, which signs for itself (RFC 7523). Needs the extra `service-account`."""

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
    """An access token, and when it has to be renewed (Unix time)."""

    value: str = field(repr=False)
    ends: float


def headers(credentials: AccessToken | Grant) -> dict[str, str]:
    """The Authorization header of a token that stands in the settings; none for one that has to be got."""
    if isinstance(credentials, AccessToken):
        return {"Authorization": f"Bearer {credentials.access_token.get_secret_value()}"}
    return {}


def build_token_request(credentials: AccessToken | Grant, url: str, now: float, scope: str = "") -> Request | None:
    """What asks the vendor's token endpoint for an access token; None for a token that stands in the settings."""
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
    """Whether a token request is by a refresh token, which somebody can get anew on the vendor's page."""
    return _form(request).get("grant_type") == "refresh_token"


def authorization_url(authorization: Authorization, grant: Request, redirect: str, state: str) -> str:
    """The page to open in a browser; `grant` is a token request, which has the app's id."""
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
    """What asks for a refresh token with the code that the page gave (RFC 6749, section 4.1.3), instead of `grant`."""
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
    """What a token endpoint answered (RFC 6749, sections 5.1 and 5.2): 4xx is a grant that is refused."""
    body = response.json if isinstance(response.json, Mapping) else {}
    value, seconds = body.get("access_token"), body.get("expires_in", 3600)
    if response.status == 200 and isinstance(value, str) and value.isascii() and value.isprintable() and value:
        lifetime = float(seconds) if isinstance(seconds, int | float) else 3600.0
        return Token(value, now + max(0.0, lifetime - min(MARGIN, lifetime / 2)))
    if 400 <= response.status < 500 and response.status not in (408, 425, 429):
        return AuthFailed()
    return Retry(response.retry_after)


def authorize(request: Request, token: Token) -> Request:
    """The request with the token in its Authorization header (RFC 6750, section 2.1)."""
    return replace(request, headers={**request.headers, "Authorization": f"Bearer {token.value}"})
