"""Log in with an OpenID Connect provider: authorization code with PKCE, and an ID token that is verified."""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

from deploy.config.models.console import OidcSettings
from deploy.console.access.roles import Role, role_of

if TYPE_CHECKING:
    from authlib.integrations.requests_client import OAuth2Session

LOGIN_SECONDS = 600.0
"""Seconds that a user may take to log in at the provider."""

MAX_LOGINS = 10_000
"""Logins that may be under way; a new one ends the oldest. Anybody can begin one, so there is room for many."""

MAX_PATH = 2_000
"""Characters of the path to continue at; a login with a longer one continues at the first page."""

TIMEOUT_SECONDS = 10.0
ALGORITHMS = ["RS256", "ES256", "PS256", "EdDSA"]
"""Signatures that are accepted; none that is made with a shared secret."""


class OidcError(Exception):
    """A login that failed; the message is for the user."""


@dataclass(frozen=True, slots=True)
class PendingLogin:
    """A login in progress. `state` is also in the browser's cookie, so that only this browser can finish it."""

    state: str
    nonce: str
    verifier: str
    path: str
    ends: float


class OidcProvider:
    """Sends users to the provider and reads their names and groups. Blocking.

    Args:
        settings: The key `console.oidc`.
        redirect_uri: The URL to which the provider sends the user back.
        clock: A monotonic clock, in seconds.

    """

    def __init__(self, settings: OidcSettings, redirect_uri: str, clock: Callable[[], float] = monotonic) -> None:
        self._settings, self._redirect_uri, self._clock = settings, redirect_uri, clock
        self._logins: dict[str, PendingLogin] = {}
        self._metadata: Mapping[str, Any] | None = None

    def begin(self, path: str) -> tuple[str, PendingLogin]:
        """Return the address of the provider's page, and the login, which continues at `path`; raises OidcError."""
        state, nonce, verifier = (secrets.token_urlsafe(48) for _ in range(3))
        path = path if len(path) <= MAX_PATH else "/"
        login = PendingLogin(state, nonce, verifier, path, self._clock() + LOGIN_SECONDS)
        with self._client() as client:
            url, _ = client.create_authorization_url(
                self._discover()["authorization_endpoint"],
                state=login.state,
                nonce=login.nonce,
                code_verifier=login.verifier,
            )
        self._logins[login.state] = login
        while len(self._logins) > MAX_LOGINS:
            del self._logins[next(iter(self._logins))]
        return str(url), login

    def finish(self, parameters: Mapping[str, str], cookie: str) -> tuple[str, Role, str]:
        """Return the user's name, role, and the path to continue at; raises OidcError.

        Args:
            parameters: The query parameters of the redirect from the provider.
            cookie: The state that the browser kept.

        """
        login = self._logins.pop(parameters.get("state", ""), None)
        if login is None or not secrets.compare_digest(login.state.encode(), cookie.encode()):
            raise OidcError("This login was started in another browser, or was already used.")
        if self._clock() >= login.ends:
            raise OidcError("This login took longer than 10 minutes.")
        if "code" not in parameters:
            raise OidcError(f"The provider refused: {parameters.get('error_description') or parameters.get('error')}")
        claims = self._claims(parameters["code"], login)
        groups = claims.get(self._settings.groups_claim) or ()
        role = role_of([groups] if isinstance(groups, str) else [str(each) for each in groups], self._settings)
        name = str(claims.get("preferred_username") or claims.get("email") or claims["sub"])
        if role is None:
            raise OidcError(f"{name} is in none of the groups of console.oidc.viewers, operators and editors.")
        return name, role, login.path

    def _claims(self, code: str, login: PendingLogin) -> Mapping[str, Any]:
        from joserfc import jwt
        from joserfc.errors import JoseError
        from joserfc.jwk import KeySet
        from requests import RequestException

        metadata = self._discover()
        try:
            with self._client() as client:
                token = client.fetch_token(
                    metadata["token_endpoint"], code=code, code_verifier=login.verifier, timeout=TIMEOUT_SECONDS
                )
                answer = client.request("GET", metadata["jwks_uri"], withhold_token=True, timeout=TIMEOUT_SECONDS)
                keys = KeySet.import_key_set(answer.json())
            claims = jwt.decode(str(token["id_token"]), keys, algorithms=ALGORITHMS).claims
            jwt.JWTClaimsRegistry(
                leeway=60,
                iss={"essential": True, "value": self._settings.issuer},
                aud={"essential": True, "value": self._settings.client_id},
                nonce={"essential": True, "value": login.nonce},
                exp={"essential": True},
                sub={"essential": True},
            ).validate(claims)
        except (JoseError, RequestException, ValueError, LookupError) as error:
            raise OidcError(f"The provider's answer is not valid ({type(error).__name__}).") from error
        except Exception as error:  # authlib's errors have no common class with joserfc's
            raise OidcError(f"The provider did not give a token ({type(error).__name__}).") from error
        return claims

    def _client(self) -> "OAuth2Session":
        from authlib.integrations.requests_client import OAuth2Session

        return OAuth2Session(
            self._settings.client_id,
            self._settings.client_secret.get_secret_value(),
            scope=" ".join(self._settings.scopes),
            redirect_uri=self._redirect_uri,
            code_challenge_method="S256",
        )

    def _discover(self) -> Mapping[str, Any]:
        """Return the provider's metadata; it is fetched once."""
        import requests

        if self._metadata is None:
            url = f"{self._settings.issuer.rstrip('/')}/.well-known/openid-configuration"
            try:
                answer = requests.get(url, timeout=TIMEOUT_SECONDS)
                answer.raise_for_status()
                metadata = answer.json()
            except (requests.RequestException, ValueError) as error:
                raise OidcError(f"The provider at {self._settings.issuer} does not answer.") from error
            if metadata.get("issuer") != self._settings.issuer:
                raise OidcError(f"The provider calls itself {metadata.get('issuer')}; set console.oidc.issuer to that.")
            self._metadata = metadata
        return self._metadata
