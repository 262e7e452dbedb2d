"""Log in with an OpenID Connect provider: that of the package oidc-provider-mock."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from oidc_provider_mock import User, run_server_in_thread

from deploy.console.access.oidc import LOGIN_SECONDS, OidcError, OidcProvider
from tests.deploy.console.serving import ServedConsole, example, serving_console

pytestmark = pytest.mark.filterwarnings("ignore")

USERS = [
    User(sub="vera", claims={"groups": ["staff"]}),
    User(sub="otto", claims={"groups": ["staff", "on-call"]}),
    User(sub="eda", claims={"groups": ["data"]}),
    User(sub="nobody", claims={"groups": ["guests"]}),
]


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    with run_server_in_thread(require_nonce=True, user_claims=USERS) as server:
        yield f"http://localhost:{server.server_port}"


@contextmanager
def serving(issuer: str) -> Iterator[ServedConsole]:
    oidc = {
        "issuer": issuer, "client_id": "turnout", "client_secret": "s",
        "viewers": ["staff"], "operators": ["on-call"], "editors": ["data"],
    }  # fmt: skip
    with serving_console(example(oidc=oidc)) as served:
        yield served


@pytest.fixture(scope="module")
def console(issuer) -> Iterator[ServedConsole]:
    with serving(issuer) as served:
        yield served


def back_from_provider(console: ServedConsole, client: requests.Session, user: str, path: str = "/") -> str:
    """Let a user log in at the provider; returns the address that it sends the browser to."""
    begun = client.get(f"{console.url}{path}", timeout=60, allow_redirects=False)
    assert begun.status_code == 303
    begun = client.get(f"{console.url}{begun.headers['location']}", timeout=60, allow_redirects=False)
    answer = requests.post(begun.headers["location"], {"sub": user}, timeout=60, allow_redirects=False)
    return answer.headers["location"]


def log_in(console: ServedConsole, user: str, path: str = "/") -> tuple[requests.Session, requests.Response]:
    client = requests.Session()
    address = back_from_provider(console, client, user, path)
    return client, client.get(address, timeout=60, allow_redirects=False)


@pytest.mark.parametrize(("user", "role"), [("vera", "viewer"), ("otto", "operator"), ("eda", "editor")])
def test_groups_give_the_role(console, user, role):
    """A user logs in at the provider, and has the role of their groups."""
    client, answer = log_in(console, user)
    assert answer.status_code == 303, answer.text
    page = client.get(console.url, timeout=60).text
    assert re.search(rf"{user}</bdi></b> {role}<", page)


def test_login_continues_at_the_page(console):
    """After the login the user is on the page that they wanted."""
    _, answer = log_in(console, "vera", "/?q=m-1")
    assert answer.headers["location"] == "/?q=m-1"


def test_user_without_a_group_is_refused(console):
    """A user in none of the groups gets 403 and no session."""
    client, answer = log_in(console, "nobody")
    assert answer.status_code == 403
    assert "nobody is in none of the groups" in answer.text
    assert client.get(f"{console.url}/find.json", timeout=60).status_code == 401


def test_login_of_another_browser_is_refused(console):
    """The address that the provider sends a user to works in the browser that began, and once."""
    client = requests.Session()
    address = back_from_provider(console, client, "eda")
    other = requests.Session()
    back_from_provider(console, other, "vera")
    assert other.get(address, timeout=60, allow_redirects=False).status_code == 403
    assert client.get(address, timeout=60, allow_redirects=False).status_code == 403


@pytest.mark.parametrize("query", ["", "?state=x&code=y", "?error=access_denied"])
def test_callback_without_a_login_is_refused(console, query):
    """The callback alone starts no session."""
    answer = console.get(f"/login/callback{query}")
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


def test_code_does_not_log_in(console):
    """With a provider, no link with a code works, and none is printed."""
    assert (
        console.get(f"/login?{console.app.login.link().partition('?')[2]}")
        .headers["location"]
        .startswith("http://localhost")
    )
    assert requests.post(f"{console.url}/login/link", timeout=60).status_code == 404
    assert not console.links


def test_token_for_another_login_is_refused(issuer, console):
    """An ID token with another nonce or for another client is not accepted."""
    settings = console.backend.configuration.settings.console.oidc
    provider = OidcProvider(settings, "http://127.0.0.1/login/callback")
    for change in ({"nonce": "other"}, {"client": "other"}):
        url, login = provider.begin("/")
        answer = requests.post(url, {"sub": "eda"}, timeout=60, allow_redirects=False)
        parameters = {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["location"]).query).items()}
        if "nonce" in change:
            provider._logins[login.state] = login.__class__(login.state, "other", login.verifier, "/", login.ends)
        else:
            provider._settings = settings.model_copy(update={"client_id": "other"})
        with pytest.raises(OidcError, match="provider"):
            provider.finish(parameters, login.state)


def test_slow_login_is_refused(issuer, console):
    """A login that takes longer than 10 minutes has to be begun again."""
    now = [0.0]
    settings = console.backend.configuration.settings.console.oidc
    provider = OidcProvider(settings, "http://127.0.0.1/login/callback", lambda: now[0])
    _, login = provider.begin("/")
    now[0] = LOGIN_SECONDS
    with pytest.raises(OidcError, match="10 minutes"):
        provider.finish({"state": login.state, "code": "x"}, login.state)


def test_provider_that_is_away_is_said():
    """If the provider does not answer, the login page says so."""
    with serving("http://127.0.0.1:1") as served:
        answer = served.get("/login")
    assert answer.status_code == 503
    assert "does not answer" in answer.text
