"""Access tokens: requests to a token endpoint, and its responses."""

import builtins
from typing import Any
from urllib.parse import parse_qs

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import SecretStr

from forwarders.api import oauth
from forwarders.api.contract import AuthFailed, HttpForwarder, Request, Response, Retry
from forwarders.api.oauth import AccessToken, RefreshToken, ServiceAccount, Token
from forwarders.vendors.google_ads.forwarder import GoogleAds, GoogleAdsSettings

NOW = 1767323045.5
REFRESH = RefreshToken(
    type="oauth_refresh", client_id="c-1", client_secret=SecretStr("s3cret&"), refresh_token=SecretStr("r3fresh")
)


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture(scope="module")
def account(key: rsa.RSAPrivateKey) -> ServiceAccount:
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    return ServiceAccount(
        type="service_account", client_email="a@b.example", private_key=SecretStr(pem), private_key_id="k-1"
    )


def form(request: Request | None) -> dict[str, str]:
    assert request is not None
    assert request.method == "POST"
    assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"
    return {name: value for name, (value,) in parse_qs(request.body.decode()).items()}


def test_static() -> None:
    """A token in the settings is used in the header, and no token is requested."""
    static = AccessToken(type="static", access_token=SecretStr("t0ken"))
    assert oauth.headers(static) == {"Authorization": "Bearer t0ken"}
    assert oauth.build_token_request(static, "https://x.example/token", NOW) is None


def test_refresh() -> None:
    """A refresh token is sent with the app's credentials, in the body and not in the URL."""
    request = oauth.build_token_request(REFRESH, "https://x.example/token", NOW)
    assert form(request) == {
        "grant_type": "refresh_token",
        "refresh_token": "r3fresh",
        "client_id": "c-1",
        "client_secret": "s3cret&",
    }
    assert request is not None
    assert request.url == "https://x.example/token"
    assert oauth.headers(REFRESH) == {}


def test_service_account(key: rsa.RSAPrivateKey, account: ServiceAccount) -> None:
    """A service account's assertion is signed with its key, for the endpoint and the scope, for an hour."""
    sent = form(oauth.build_token_request(account, "https://x.example/token", NOW, "scope-1"))
    assert sent["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    assert jwt.get_unverified_header(sent["assertion"])["kid"] == "k-1"
    options: Any = {"verify_exp": False, "verify_iat": False}
    claims = jwt.decode(
        sent["assertion"], key.public_key(), ["RS256"], audience="https://x.example/token", options=options
    )
    assert claims == {
        "iss": "a@b.example",
        "scope": "scope-1",
        "aud": "https://x.example/token",
        "iat": 1767323045,
        "exp": 1767326645,
    }


def test_missing_extra(account: ServiceAccount, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the library, the error says how to install it."""
    real = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name == "jwt":
            raise ImportError("No module named 'jwt'", name="jwt")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=r"jwt is not installed: pip install 'turnout\[service-account\]'"):
        oauth.build_token_request(account, "https://x.example/token", NOW)


@pytest.mark.parametrize(
    ("status", "headers", "body", "read"),
    [
        (200, {}, b'{"access_token": "t0ken", "expires_in": 3599}', Token("t0ken", NOW + 3539)),
        (200, {}, b'{"access_token": "t0ken"}', Token("t0ken", NOW + 3540)),
        (200, {}, b'{"access_token": "t0ken", "expires_in": 30}', Token("t0ken", NOW + 15)),
        (200, {}, b'{"access_token": "t0ken", "expires_in": "soon"}', Token("t0ken", NOW + 3540)),
        (200, {}, b'{"access_token": "t\\r\\n0ken"}', Retry()),
        (200, {}, b"<html>", Retry()),
        (400, {}, b'{"error": "invalid_grant"}', AuthFailed()),
        (400, {}, b'{"status": "BAD_REFRESH_TOKEN"}', AuthFailed()),
        (401, {}, b'{"error": "invalid_client"}', AuthFailed()),
        (429, {"retry-after": "7"}, b"", Retry(7.0)),
        (503, {}, b"", Retry()),
    ],
)
def test_answer(status: int, headers: dict[str, str], body: bytes, read: Token | AuthFailed | Retry) -> None:
    """A token is renewed a minute before it expires; a rejected grant is AuthFailed; other responses are retried."""
    assert oauth.parse_token_response(Response(status, headers, body), NOW) == read


def test_authorize() -> None:
    """A token goes into the header, the rest of the request stays, and the token is in no repr."""
    token = Token("t0ken", NOW)
    request = oauth.authorize(Request("POST", "https://x.example", {"X-A": "1"}, {"n": 1}), token)
    assert request == Request("POST", "https://x.example", {"X-A": "1", "Authorization": "Bearer t0ken"}, {"n": 1})
    assert "t0ken" not in repr(token)


def test_settings_say_what_conversions_there_are() -> None:
    """A payload whose conversion the settings do not have is refused before it is sent."""
    settings = GoogleAdsSettings(auth=REFRESH, customer_id="1", conversions={"PURCHASE": 7})
    forwarder: HttpForwarder[Any] = GoogleAds(settings)
    payload = {"eventTimestamp": "2026-01-02T03:04:05Z", "adIdentifiers": {"gclid": "g"}}
    assert forwarder.validate({**payload, "conversion": "PURCHASE"}) is None
    assert forwarder.validate({**payload, "conversion": "LEAD"}) == (
        "conversion: the setting `conversions` has none of the names 'LEAD'"
    )
