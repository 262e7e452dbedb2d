"""The result of `preview` for an integration and an event."""

from datetime import UTC, datetime

import pytest

from deploy.config.configuration import ConfigurationError
from deploy.dryrun.preview import preview
from streams.events import EventError
from tests.support import golden

TRACK = {"type": "track", "event": "Signed Up", "userId": "u-1", "messageId": "m-1"}
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
HOOK = {
    "integration": "hook",
    "forwarder": "webhook",
    "settings": {"url": "https://hooks.example/in"},
    "rules": [{"name": "all", "map": {"user": "$.userId", "at": "$.timestamp"}}],
}
GOLDEN = [
    pytest.param(name, case.written, case.event, id=f"{name}-{case.name}")
    for name in golden.NAMES
    for case in golden.of(name).cases[::8]
]
"""Every eighth case of each forwarder: the conformance tests run all of them through the same functions."""


@pytest.mark.parametrize(("name", "written", "event"), GOLDEN)
def test_preview_is_what_the_forwarder_sends(name, written, event):
    """Through its preset, each forwarder's golden event gives its golden request."""
    settings = {**golden.of(name).description["settings"], **written.get("settings", {})}
    requests = preview({"integration": name, "forwarder": name, "preset": name, "settings": settings}, event)
    expected = [written["request"]] if "request" in written else []
    assert [
        {
            "method": request.method,
            "url": request.url,
            "headers": dict(request.headers),
            "body": request.body.decode() if isinstance(request.body, bytes) else request.body,
        }
        for request in requests
    ] == expected


def test_an_invalid_optional_value_is_not_in_the_request():
    """`preview` shows the request that delivery would send."""
    data = {
        "integration": "reddit",
        "forwarder": "reddit",
        "settings": {"pixel_id": "t2_a", "access_token": "x"},
        "rules": [
            {
                "map": {
                    "event_at": 1767323045678,
                    "action_source": "OTHER",
                    "click_id": "c",
                    "type": {"tracking_type": "LEAD"},
                    "metadata": {"value": 1, "currency": "$.properties.currency"},
                }
            }
        ],
    }
    (request,) = preview(data, {**TRACK, "properties": {"currency": ""}})
    assert request.body["data"]["events"][0]["metadata"] == {"conversion_id": "m-1", "value": 1}


def test_variables_come_from_the_environment_or_are_stars(monkeypatch):
    """`${NAME}` is replaced if set; otherwise by `***`, even if the settings would reject it."""
    data = {
        "integration": "ga4",
        "forwarder": "ga4",
        "settings": {"measurement_id": "${NO_SUCH_ID}", "api_secret": "${GA4_TEST_SECRET}"},
        "rules": [{"map": {"name": "x", "client_id": "$.userId"}}],
    }
    monkeypatch.delenv("NO_SUCH_ID", raising=False)
    monkeypatch.delenv("GA4_TEST_SECRET", raising=False)
    (request,) = preview(data, TRACK)
    assert request.url.endswith("measurement_id=%2A%2A%2A&api_secret=%2A%2A%2A")
    monkeypatch.setenv("GA4_TEST_SECRET", "s3cret")
    (request,) = preview(data, TRACK)
    assert request.url.endswith("measurement_id=%2A%2A%2A&api_secret=s3cret")


def test_stars_stand_deep_in_settings(monkeypatch):
    """An unset variable is allowed in a part of a setting that has several forms."""
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    data = {
        "integration": "ads",
        "forwarder": "google_ads",
        "settings": {
            "auth": {"type": "service_account", "client_email": "${NO_SUCH_KEY}", "private_key": "${NO_SUCH_KEY}"},
            "customer_id": "${NO_SUCH_KEY}",
            "conversions": {"A": "${NO_SUCH_KEY}"},
        },
        "rules": [{"drop": True}],
    }
    assert preview(data, TRACK) == []


def test_an_event_without_a_time_gets_that_of_now():
    """`now` is the time of the event's record, and the given event is not changed."""
    event = dict(TRACK)
    (request,) = preview(HOOK, event, NOW)
    assert request.body == b'{"user":"u-1","at":"2026-01-02T03:04:05.000Z"}'
    assert event == TRACK


def test_each_rule_that_matches_makes_a_request():
    """With `match: all` there is a request for each rule, with the rule in the delivery's id."""
    rules = [{"name": name, "map": {"rule": name}} for name in ("one", "two")]
    requests = preview({**HOOK, "match": "all", "rules": rules}, TRACK)
    assert [request.headers["Idempotency-Key"] for request in requests] == ["m-1:one", "m-1:two"]


@pytest.mark.parametrize(
    "more",
    [
        {"consent": {"all": ["ads"]}},
        {"sample": {"rate": 0}},
        {"rules": [{"when": 'event = "Other"', "map": {"a": 1}}]},
        {"rules": [{"drop": True}]},
        {"rules": [{"map": {"@path": "$.userId"}}]},
        {
            "forwarder": "ga4",
            "settings": {"measurement_id": "G-1", "api_secret": "x"},
            "rules": [{"map": {"name": "x"}}],
        },
    ],
)
def test_what_is_held_back_or_dead_makes_no_request(more):
    """Consent, sample, rules that drop or do not match, a map that is no object, a payload the vendor would refuse."""
    assert preview({**HOOK, **more}, TRACK) == []


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"forwarder": "gaa4"}, "no forwarder is called 'gaa4' \\(did you mean 'ga4'\\?\\)"),
        ({"settings": {"uri": "x"}}, "unknown key 'settings.uri'"),
        ({"rule": []}, "unknown key 'rule'"),
        ({"preset": "ga4"}, "no preset 'ga4'"),
        ({"rules": [{"map": {"a": "$["}}]}, "is not a JSONPath"),
    ],
)
def test_a_mistake_is_raised_with_its_words(more, message):
    """An integration with mistakes raises them."""
    with pytest.raises(ConfigurationError, match=message):
        preview({**HOOK, **more}, TRACK)


def test_what_is_no_event_is_refused():
    """An event that the router would reject is refused by name."""
    with pytest.raises(EventError, match="type: must be one of"):
        preview(HOOK, {"userId": "u-1"})


def test_any_text_may_stand_in_the_data():
    """Characters that YAML files may not hold are as good as any."""
    text = "\x7f\x85\u2028\ufeff😀\x01"
    (request,) = preview({**HOOK, "rules": [{"map": {"a": {"@literal": text}}}]}, TRACK)
    assert request.body.decode().startswith('{"a":"')


def test_settings_may_refuse_a_payload():
    """What only these settings cannot send is dead, as in delivery."""
    ads = {
        "integration": "ads",
        "forwarder": "linkedin",
        "preset": "linkedin",
        "settings": {"auth": {"type": "static", "access_token": "t"}, "conversions": {"PURCHASE": 1}},
    }
    event = {**TRACK, "context": {"traits": {"email": "ada@example.com"}}}
    assert preview(ads, event) == []
    assert len(preview({**ads, "settings": {**ads["settings"], "conversions": {"SIGN_UP": 1}}}, event)) == 1
