"""Data that GA4 drops silently is never sent, and two users never share a request."""

import re
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from forwarders.api.contract import Delivery
from forwarders.vendors.ga4.forwarder import MAX_LENGTH, Ga4, Ga4Settings, legal

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")
FORWARDER = Ga4(Ga4Settings(measurement_id="G-ABC123", api_secret="s3cret"))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=150),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
PARAMS = st.dictionaries(
    st.text(max_size=50) | st.sampled_from(["items", "ga_id", "firebase_x", "page_title", "_x"]), JSON, max_size=40
)


def events(*payloads: dict[str, Any]) -> list[dict[str, Any]]:
    items = [Delivery(str(n), payload, "track", None, "2026-01-02T03:04:05Z") for n, payload in enumerate(payloads)]
    found: list[dict[str, Any]] = FORWARDER.build_request(items).body["events"]
    return found


@given(st.text(max_size=60))
@example("2nd Visit")
@example("__x__")
@example("注文")
@example("a" * 41)
def test_any_name_is_made_legal(name: str) -> None:
    """A name becomes one that GA4 takes, or nothing; one that is legal already stays."""
    made = legal(name)
    assert made == "" or NAME.fullmatch(made)
    assert legal(made) == made or made.endswith("_")
    if NAME.fullmatch(name) and not name.endswith("_"):
        assert made == name


@given(PARAMS)
def test_any_parameters_keep_the_limits(params: dict[str, Any]) -> None:
    """Whatever properties an event has, GA4 gets 25 at most, with legal names and values that it takes."""
    ((event),) = events({"client_id": "a-1", "name": "x", "params": params})
    assert len(event["params"]) <= 25
    for name, value in event["params"].items():
        assert NAME.fullmatch(name)
        assert not name.startswith(("ga_", "google_", "firebase_"))
        if isinstance(value, str):
            assert len(value) <= MAX_LENGTH.get(name, 100)
        else:
            assert not isinstance(value, bool | dict | None)
            assert name == "items" or not isinstance(value, list)


@given(st.tuples(PARAMS, PARAMS))
def test_group_is_all_but_name_and_params(params: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """Events with another name or other parameters share a request; with anything else different they do not."""
    base = {"client_id": "a-1", "user_id": "u-1", "timestamp_micros": 1, "name": "x", "params": params[0]}
    assert FORWARDER.group_key(base) == FORWARDER.group_key({**base, "name": "y", "params": params[1]})
    for other in (
        {"client_id": "a-2"},
        {"user_id": "u-2"},
        {"timestamp_micros": 2},
        {"user_properties": {"plan": {"value": "gold"}}},
        {"consent": {"ad_user_data": "DENIED"}},
    ):
        assert FORWARDER.group_key(base) != FORWARDER.group_key({**base, **other})


def test_batch_has_the_shared_part_once() -> None:
    """A request holds what its events share, and each event's name and parameters in their order."""
    items = [
        Delivery(str(n), {"client_id": "a-1", "name": f"event_{n}", "params": {"n": n}}, "track", None, "")
        for n in range(25)
    ]
    assert FORWARDER.build_request(items).body == {
        "client_id": "a-1",
        "events": [{"name": f"event_{n}", "params": {"n": n}} for n in range(25)],
    }
