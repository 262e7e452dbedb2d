"""Times of commands and of tests, in any time zone of the machine."""

import time
from dataclasses import replace
from datetime import datetime

import click
import pytest

from deploy.cli.main import main
from deploy.cli.selection import TIME
from deploy.dryrun.preview import decide_now, decode_event
from forwarders.api.contract import Delivery
from forwarders.vendors.customerio.forwarder import ulid
from streams.routing.ruleset import RuleSet
from streams.sources.source import Sources

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


@pytest.mark.parametrize(
    ("text", "seconds"), [("0s", 0), ("90s", 90), ("30m", 1800), ("12h", 43200), ("7d", 604800), ("2w", 1209600)]
)
def test_a_commands_time_may_be_relative(monkeypatch: pytest.MonkeyPatch, text: str, seconds: int):
    """A number with a unit is that time before now, to the second."""
    monkeypatch.setattr(time, "time", lambda: UTC_MIDNIGHT + 0.7)
    assert TIME.convert(text, None, None) == UTC_MIDNIGHT - seconds


@pytest.mark.parametrize("text", ["1", "h", "-1h", "1.5h", "1y", "1h30m", "yesterday", "٣h", ""])
def test_what_is_no_time_is_refused(text: str):
    """The error says how to write a time."""
    with pytest.raises(click.BadParameter, match="write 30m, 12h or 7d"):
        TIME.convert(text, None, None)


@pytest.mark.parametrize(
    "words", ["dead list", "dead replay", "dead drop", "rejected list", "rejected replay", "replay"]
)
def test_every_command_reads_times_alike(words: str):
    """Both times of each command have the one shared type."""
    command: click.Command = main
    for word in words.split():
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), word)
        assert found
        command = found
    times = [it for it in command.params if it.name in {"since", "until"}]
    assert len(times) == 2
    assert all(it.type is TIME for it in times)


def test_a_rehearsals_time_without_a_zone_is_utc():
    """An event without a time gets `now`, as that of its record."""
    incoming = decode_event(b'{"type": "page", "userId": "u"}', Sources())
    decision = decide_now(incoming, RuleSet("", Sources()), datetime(2026, 11, 28))  # noqa: DTZ001  # the case
    assert decision.event["timestamp"] == "2026-11-28T00:00:00.000Z"


def test_a_time_of_an_earlier_version_is_utc_in_a_key():
    """Deliveries that wait in Kafka may have a time without a zone."""
    item = Delivery("m", {}, "track", "e", "2026-11-28T00:00:00")
    assert ulid(item) == ulid(replace(item, time="2026-11-28T00:00:00Z"))


def test_a_rehearsal_notes_what_is_left_out():
    """An unreadable time is noted, so that `turnout explain` shows the same notes as the router."""
    incoming = decode_event(b'{"type": "page", "userId": "u", "sentAt": "x"}', Sources())
    assert list(incoming.notes) == [("unreadable", "sentAt")]
    assert incoming.event["messageId"].startswith("turnout-")
