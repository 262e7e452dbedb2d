"""`turnout authorize`: from the vendor's page to a refresh token."""

import threading
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests
from click.testing import CliRunner

from deploy.cli.main import main
from deploy.simulator.server import Simulator
from tests.support.ports import free_port
from tests.support.simulating import serving

REFRESH = "{type: oauth_refresh, client_id: c-1, client_secret: '${SECRET}', refresh_token: '${REFRESH}'}"


@pytest.fixture
def vendor():
    """Return the address of a simulator of the vendors."""
    with serving(Simulator()) as address:
        yield address


@pytest.fixture
def folder(tmp_path, vendor, monkeypatch):
    """A configuration with an integration whose refresh token is not there yet, and others that want none."""
    monkeypatch.setenv("SECRET", "s3cret")
    monkeypatch.delenv("REFRESH", raising=False)
    (tmp_path / "integrations").mkdir()
    (tmp_path / "turnout.yaml").write_text("{}\n")
    for name, settings in {
        "hubspot": f"{{auth: {REFRESH}, hub_id: 7, token_endpoint: '{vendor}/token'}}",
        "linkedin": "{auth: {type: static, access_token: '${SECRET}'}, conversions: {PURCHASE: 7}}",
        "webhook": f"{{url: '{vendor}'}}",
    }.items():
        text = f"integration: {name}\nforwarder: {name}\npreset: {name}\nsettings: {settings}\n"
        (tmp_path / f"integrations/{name}.yaml").write_text(text)
    return tmp_path


def authorize(folder, name, act=lambda _page: None):
    """What the command prints while `act` is what somebody does with the address of the page."""
    port = free_port()
    results = []
    arguments = ["authorize", name, "--port", str(port), "--config", str(folder)]
    thread = threading.Thread(target=lambda: results.append(CliRunner().invoke(main, arguments)))
    thread.start()
    act(f"http://127.0.0.1:{port}/")
    thread.join(120)
    (result,) = results
    return result


def land(**query):
    """Come back to the command with this query, once it listens; its own state unless another is said."""

    def act(address):
        while True:
            try:
                requests.get(address, timeout=120)
                break
            except requests.ConnectionError:
                continue
        return requests.get(address, params=query, timeout=120)

    return act


@pytest.fixture
def state(monkeypatch):
    """The state that the page is given."""
    monkeypatch.setattr("deploy.cli.authorization.secrets.token_urlsafe", lambda _size: "st4te")
    return "st4te"


def test_refresh_token(folder, vendor, state):
    """The page has all that the vendor wants; the code is exchanged with the app's secret; the token is printed."""
    result = authorize(folder, "hubspot", land(code="c0de", state=state))
    assert (result.exit_code, result.stdout) == (0, "REFRESH=refresh-1\n")
    *_, page = result.stderr.splitlines()
    url = urlsplit(page)
    query = dict(parse_qsl(url.query))
    assert url._replace(query="").geturl() == "https://app.hubspot.com/oauth/authorize"
    redirect = query.pop("redirect_uri")
    assert redirect.startswith("http://localhost:")
    assert query == {
        "response_type": "code",
        "client_id": "c-1",
        "scope": "oauth crm.objects.contacts.write analytics.behavioral_events.send",
        "state": "st4te",
    }
    (seen,) = requests.get(f"{vendor}/_requests", timeout=60).json()
    assert dict(parse_qsl(seen["body"])) == {
        "grant_type": "authorization_code",
        "code": "c0de",
        "redirect_uri": redirect,
        "client_id": "c-1",
        "client_secret": "s3cret",
    }


def test_code_of_somebody_else(folder, vendor, state):
    """A code without the state of our page is not accepted, and the command keeps waiting."""

    def act(address):
        assert land(code="f0reign", state="other")(address).status_code == 404
        assert land(code="c0de", state=state)(address).status_code == 200

    assert authorize(folder, "hubspot", act).exit_code == 0
    assert "code=c0de" in requests.get(f"{vendor}/_requests", timeout=60).json()[0]["body"]


def test_refused_on_the_page(folder, vendor, state):
    """Who says no on the page gets no token."""
    result = authorize(folder, "hubspot", land(error="access_denied", state=state))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.endswith("turnout: the vendor's page responded 'access_denied'\n")
    assert not requests.get(f"{vendor}/_requests", timeout=60).json()


def test_refused_code(folder, vendor, state):
    """The token endpoint's error about the code is printed."""
    script = [{"path": "/token", "status": 400, "body": {"error": "invalid_grant"}}]
    requests.post(f"{vendor}/_script", json=script, timeout=120)
    result = authorize(folder, "hubspot", land(code="c0de", state=state))
    assert result.exit_code == 1
    assert result.stderr.endswith("turnout: the token endpoint responded 400: 'invalid_grant'\n")


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("linkedin", 2, "integrations/linkedin.yaml: `settings.auth` has no `refresh_token` from a variable or file"),
        ("webhook", 2, "integrations/webhook.yaml: `settings.auth` has no `refresh_token` from a variable or file"),
        ("hubspto", 2, "no integration is called 'hubspto' (did you mean 'hubspot'?)"),
    ],
)
def test_nothing_to_authorize(folder, name, code, says):
    """A forwarder without refresh tokens fails at once with a message."""
    result = authorize(folder, name)
    assert (result.exit_code, says in result.stderr) == (code, True), result.stderr
