"""`turnout verify`: the response of a vendor's validation endpoint, with the lines of the rules."""

import json

import pytest
import requests
from click.testing import CliRunner

from deploy.cli.main import main
from deploy.simulator.server import Simulator
from tests.support.simulating import serving

ORDER = {
    "type": "track",
    "event": "Order Completed",
    "anonymousId": "a-1",
    "messageId": "m-1",
    "properties": {"order_id": "o-1", "revenue": 9.5, "currency": "GBP", "products": [{"sku": "s-1"}]},
}


@pytest.fixture
def vendor():
    """Return the address of a simulator of the vendors."""
    with serving(Simulator()) as address:
        yield address


@pytest.fixture
def folder(tmp_path, vendor, monkeypatch):
    """A configuration whose integrations send to the simulator."""
    monkeypatch.setenv("SECRET", "s3cret")
    (tmp_path / "integrations").mkdir()
    (tmp_path / "turnout.yaml").write_text("{}\n")
    for name, settings in {
        "ga4": "{measurement_id: G-ABC123, api_secret: '${SECRET}', endpoint: URL}",
        "meta": "{pixel_id: '1', access_token: '${SECRET}', endpoint: URL}",
        "webhook": "{url: URL}",
        "google_ads": "{auth: {type: oauth_refresh, client_id: c, client_secret: '${SECRET}', "
        "refresh_token: '${SECRET}'}, customer_id: '1', conversions: {PURCHASE: 7}, "
        "endpoint: URL, token_endpoint: URL/token}",
    }.items():
        text = f"integration: {name}\nforwarder: {name}\npreset: {name}\nsettings: {settings.replace('URL', vendor)}\n"
        (tmp_path / f"integrations/{name}.yaml").write_text(text)
    return tmp_path


def verify(folder, name, *more, event=ORDER):
    arguments = ["verify", name, "--event", "-", "--config", str(folder), *more]
    result = CliRunner().invoke(main, arguments, input=json.dumps(event))
    return result.exit_code, result.output


def script(vendor, **fault):
    assert requests.post(f"{vendor}/_script", json=[fault], timeout=60).status_code == 204


def seen(vendor):
    return requests.get(f"{vendor}/_requests", timeout=60).json()


def test_taken(folder, vendor):
    """An event that the validation endpoint does not complain of is taken; it went there and nowhere else."""
    assert verify(folder, "ga4") == (0, "rule Order Completed: accepted (200)\n")
    assert [each["path"] for each in seen(vendor)] == ["/debug/mp/collect"]


def test_complaint_names_the_line(folder, vendor):
    """For each field that the vendor complains of, there is the line of the rule that makes it."""
    message = {"fieldPath": "events[0].params.currency", "description": "x", "validationCode": "VALUE_INVALID"}
    script(vendor, path="/debug", status=200, body={"validationMessages": [message]})
    code, output = verify(folder, "ga4")
    assert code == 1
    assert "rule Order Completed: refused (200) validation VALUE_INVALID events[0].params.currency" in output
    (line,) = [line for line in output.splitlines() if line.endswith(": params.currency")]
    assert "ga4/ga4.yaml:" in line


def test_code_of_a_test_tool(folder, vendor):
    """A vendor that has a test tool wants its code, and gets it."""
    person = {**ORDER, "context": {"traits": {"email": "ada@example.com"}}}
    assert verify(folder, "meta", event=person)[1] == (
        "turnout: Meta Conversions API needs the code of its test tool: give --code, or set test_event_code\n"
    )
    assert verify(folder, "meta", "--code", "TEST1", event=person)[0] == 0
    assert seen(vendor)[-1]["body"]["test_event_code"] == "TEST1"


def test_access_token_is_got_first(folder, vendor):
    """Where requests need an access token, one is got, and the request is only validated."""
    event = {**ORDER, "integrations": {"google_ads": {"gclid": "g-1"}}}
    assert verify(folder, "google_ads", event=event)[0] == 0
    token, ingest = seen(vendor)
    assert "grant_type=refresh_token" in token["body"]
    assert ingest["headers"]["authorization"] == "Bearer simulated-1"
    assert ingest["body"]["validateOnly"] is True


def test_refused_grant(folder, vendor):
    """A refused refresh token is reported, and nothing is sent."""
    script(vendor, path="/token", status=400, body={"error": "invalid_grant"})
    event = {**ORDER, "integrations": {"google_ads": {"gclid": "g-1"}}}
    code, output = verify(folder, "google_ads", event=event)
    assert code == 1
    assert "the vendor rejected the grant (invalid_grant): run `turnout authorize google_ads`" in output
    assert len(seen(vendor)) == 1


@pytest.mark.parametrize(
    ("name", "event", "code", "says"),
    [
        ("webhook", ORDER, 1, "turnout: Webhook has no validation endpoint; `turnout explain` shows the request"),
        ("ga4", {"type": "trakc"}, 1, "turnout: the event is rejected: "),
        ("google_ads", {**ORDER, "event": "Other"}, 1, "rule nobody: nothing is sent: the rule drops it"),
        ("g4", ORDER, 2, "no integration is called 'g4' (did you mean 'ga4'?)"),
    ],
)
def test_nothing_to_verify(folder, name, event, code, says):
    """What cannot be verified says why."""
    result = verify(folder, name, event=event)
    assert (result[0], says in result[1]) == (code, True), result[1]
