"""What holds for every enrichment and every valid event."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams import events
from streams.steps.enrichment import registry
from streams.steps.enrichment.files import Files
from streams.steps.enrichment.step import EnrichmentStep
from streams.steps.step import Blocked, run_steps

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=9)
    | st.sampled_from(
        (
            "ann@example.com",
            "?a=b%40example.com",
            "4111 1111 1111 1111",
            "https://user:x@shop.example.com:99/p?utm_source=a&gclid=1&fbclid=2#x",
            "http://[::1",
            "https://www.google.de/search?q=x",
            "203.0.113.7",
            "2001:db8::7%1",
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) Mobile/15E148 Safari/604.1",
            "Googlebot/2.1",
            "2026-03-01T12:00:00Z",
            "0001-01-01",
            "9999-12-31T23:59:59.999999-23:59",
            "pro",
            '"null"',
        )
    )
)
VALUES = st.recursive(
    LEAVES, lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(max_size=5), parts, max_size=3)
)


def objects(*keys: str) -> st.SearchStrategy[dict[str, Any]]:
    """Objects that mostly have these keys, with any values."""
    return st.dictionaries(st.sampled_from(keys) | st.text(max_size=5), VALUES, max_size=6)


HINTS = objects("brands", "fullVersionList", "platform", "platformVersion", "mobile", "model")
BRANDS = st.lists(objects("brand", "version") | LEAVES, max_size=3)
CONTEXT = st.fixed_dictionaries(
    {},
    optional={
        "page": objects("url", "referrer", "title", "search") | VALUES,
        "userAgentData": st.fixed_dictionaries({"brands": BRANDS, "mobile": LEAVES, "platform": LEAVES})
        | HINTS
        | VALUES,
        **dict.fromkeys(("ip", "userAgent", "campaign", "clickIds", "referrer", "os", "device", "bot"), VALUES),
    },
)
ID = st.text(min_size=1, max_size=9) | st.sampled_from(("null", '"a"', "%22", " guest ")) | st.integers(0, 2**53)
MOMENT = st.none() | st.datetimes().map(str) | st.sampled_from(("2026-03-01T12:00:00Z", "0001-01-01T00:00:00+23:59"))
EVENTS = st.fixed_dictionaries(
    {"type": st.sampled_from(events.TYPES), "event": st.just("Seen"), "userId": ID, "groupId": ID, "previousId": ID},
    optional={
        "anonymousId": ID | st.none(),
        "messageId": st.none() | st.text(max_size=9),
        "timestamp": MOMENT | st.integers(-(10**12), 10**15),
        "originalTimestamp": MOMENT,
        "sentAt": MOMENT,
        "receivedAt": VALUES | MOMENT,
        "context": st.none() | CONTEXT,
        "integrations": st.none() | objects("All", "meta", "google_ads", "tiktok"),
        "properties": st.none() | objects("url", "referrer", "title", "email"),
        "traits": st.none() | objects("email", "plan"),
    },
)

SETTINGS: dict[str, dict[str, Any]] = {
    "memory": {"consent": []},
    "identity": {"anonymous_id": "user"},
    "geo": {"database": "places.mmdb"},
    "lookup": {"tables": [{"file": "plans.csv", "key": "traits.plan", "into": "traits.details"}]},
}


def make_steps(folder: Path) -> list[EnrichmentStep]:
    files = Files(folder)
    return [
        registry.make_step(each, each.settings.model_validate(SETTINGS.get(each.name, {})), files)
        for each in registry.BUILT_IN
    ]


@pytest.fixture(scope="module")
def steps(folder: Path) -> list[EnrichmentStep]:
    return make_steps(folder)


def no_note(reason: str, detail: str) -> None:
    raise AssertionError(f"{reason}: {detail}")


@given(event=EVENTS)
def test_no_enrichment_fails_or_breaks_an_event(steps, event):
    """Whatever a valid event holds: each enrichment alone, and all in a row, give a valid event, and none fails."""
    try:
        events.normalize(event)
        orjson.dumps(event)
    except (events.EventError, TypeError):
        return
    for each in (*((step,) for step in steps), tuple(steps)):
        taken = run_steps(each, deepcopy(event), no_note)
        assert not isinstance(taken, Blocked)
        orjson.dumps(events.normalize(taken))


@given(event=EVENTS)
def test_what_the_sender_gave_stays(steps, event):
    """Enrichments that fill change nothing that is there."""
    try:
        events.normalize(event)
    except events.EventError:
        return
    for step, enrichment in zip(steps, registry.BUILT_IN, strict=True):
        if not enrichment.replaces:
            taken = run_steps([step], deepcopy(event), no_note)
            assert_kept(event, taken)


def assert_kept(before: Any, after: Any) -> None:
    """Every value of the first but null is in the second."""
    if isinstance(before, dict):
        for key, value in before.items():
            if value is not None:
                assert_kept(value, after[key])
    else:
        assert before == after
