"""Times of commands and of tests, in any time zone of the machine."""

import time
from dataclasses import replace
from datetime import datetime

import pytest

from deploy.commands.choosing import TIME
from deploy.rehearsal.preview import decide_now, decode_event
from forwarders.contract import Item
from forwarders.customerio import ulid
from streams.ruleset import RuleSet
from streams.sources import Sources

UTC_MIDNIGHT = 1795824000.0  # 2026-11-28


@pytest.fixture(params=["Pacific/Kiritimati", "America/Los_Angeles"], autouse=True)
def local_zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """Have this process live in another time zone."""
    with monkeypatch.context() as patched:
        patched.setenv("TZ", request.param)
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize("text", ["2026-11-28", "2026-11-28T00:00", "2026-11-28 01:00+01:00", "1795824000"])
def test_a_commands_time_without_a_zone_is_utc(text: str):
    """As in --since and --from."""
    assert TIME.convert(text, None, None) == UTC_MIDNIGHT


def test_a_rehearsals_time_without_a_zone_is_utc():
    """An event without a time gets `now`, as that of its record."""
    incoming = decode_event(b'{"type": "page", "userId": "u"}', Sources())
    decision = decide_now(incoming, RuleSet("", Sources()), datetime(2026, 11, 28))  # noqa: DTZ001  # the case
    assert decision.event["timestamp"] == "2026-11-28T00:00:00.000Z"


def test_a_time_of_an_earlier_version_is_utc_in_a_key():
    """Deliveries that wait in Kafka may have a time without a zone."""
    item = Item("m", {}, "track", "e", "2026-11-28T00:00:00")
    assert ulid(item) == ulid(replace(item, time="2026-11-28T00:00:00Z"))


def test_a_rehearsal_notes_what_is_left_out():
    """So that `turnout explain` says what the router would note."""
    incoming = decode_event(b'{"type": "page", "userId": "u", "sentAt": "x"}', Sources())
    assert list(incoming.notes) == [("unreadable", "sentAt")]
    assert incoming.event["messageId"].startswith("turnout-")
