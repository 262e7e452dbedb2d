"""Output of `turnout dead list` and `turnout rejected list`."""

import json
from typing import Any

import orjson
import pytest
from rich.cells import cell_len

from deploy.cli.commands import dead, rejected
from deploy.cli.selection import confirm_count, show_list
from deploy.replay.parked import ParkedRecord
from streams.records.dead_letter import DeadLetter
from streams.records.delivery import DeliveryRecord
from streams.records.event import Origin
from streams.records.rejected import Rejected

AT = 1795824000.5


def letter(**changes: Any) -> ParkedRecord[DeadLetter]:
    """A dead letter at 3:1417."""
    values = {"event": "Order Completed", "key": b"u-1", "detail": "total: should be a number", "id": "m-1", **changes}
    delivery = DeliveryRecord(
        values["id"], "purchase", "v", "track", values["event"], "t", "r", "web", Origin("e", 0, 1), {}
    )
    dead_letter = DeadLetter("ga4", delivery.data(), "payload", values["detail"], 1, "2026-11-28T00:00:00.000Z")
    return ParkedRecord(3, 1417, AT, values["key"], dead_letter)


def refused(value: bytes | None, key: bytes | None = b"u-1") -> ParkedRecord[Rejected]:
    """A rejected event at 1:2."""
    return ParkedRecord(1, 2, AT, key, Rejected("missing", "event: is missing", "web", None, key, value))


def listed(capsys: pytest.CaptureFixture[str], kept: ParkedRecord[Any], *, as_json: bool = False) -> str:
    row, by = (
        (dead._row, ["integration", "rule", "reason"])
        if isinstance(kept.letter, DeadLetter)
        else (rejected._row, ["source", "reason"])
    )
    show_list(iter([kept]), row, 20, by, as_json=as_json)
    return capsys.readouterr().out


def test_a_dead_letter_has_time_event_user_and_detail(capsys: pytest.CaptureFixture[str]):
    """Place, time, event and user are on one line, and integration, rule, reason and detail below."""
    lines = listed(capsys, letter()).splitlines()
    assert lines[-3:] == [
        "place   time                      event            user or message id",
        "3:1417  2026-11-28T00:00:00.000Z  Order Completed  u-1",
        "    ga4: purchase: payload: total: should be a number",
    ]


def test_a_rejected_event_has_time_event_user_and_detail(capsys: pytest.CaptureFixture[str]):
    """A record that is not a JSON object has place, time and detail only."""
    event = {"type": "track", "event": "Bought", "anonymousId": "a-1", "messageId": "m-1"}
    assert listed(capsys, refused(orjson.dumps(event), None)).splitlines()[-2:] == [
        "1:2    2026-11-28T00:00:00.500Z  Bought  a-1",
        "    web: missing: event: is missing",
    ]
    for value in (b"{", b"[1]", b"3", None, b"\xff"):
        assert listed(capsys, refused(value, None)).splitlines()[-2].split() == [
            "1:2",
            "2026-11-28T00:00:00.500Z",
            "-",
            "-",
        ]


def test_without_a_user_there_is_the_message_id(capsys: pytest.CaptureFixture[str]):
    """A record without a user shows the message ID, and an event without a name its type."""
    assert listed(capsys, letter(key=None, event=None)).splitlines()[-2].split()[2:] == ["track", "m-1"]
    event = {"type": "page", "messageId": "m-2"}
    assert listed(capsys, refused(orjson.dumps(event), None)).splitlines()[-2].split()[2:] == ["page", "m-2"]


@pytest.mark.parametrize("text", ["x" * 300, "名前" * 100, "a b " * 100, "\x1b[31m\n\u202e" * 40, "[bold]" * 50])
def test_every_line_fits_80_columns(capsys: pytest.CaptureFixture[str], text: str):
    """A value too long for its column is cut, the detail wraps, and control characters are escaped."""
    output = listed(capsys, letter(event=text, key=text.encode(), detail=text))
    assert max(map(cell_len, output.splitlines())) <= 80
    assert not set("\x1b\u202e") & set(output)


def test_json_has_everything(capsys: pytest.CaptureFixture[str]):
    """Values are not cut, and each record is one line."""
    text = "x" * 300
    assert json.loads(listed(capsys, letter(event=text, key=text.encode(), detail=text), as_json=True)) == {
        "place": "3:1417", "died": "2026-11-28T00:00:00.000Z", "integration": "ga4", "rule": "purchase",
        "reason": "payload", "detail": text, "event": text, "user": text, "id": "m-1",
    }  # fmt: skip
    assert json.loads(listed(capsys, refused(b"{"), as_json=True)) == {
        "place": "1:2", "time": "2026-11-28T00:00:00.500Z", "source": "web", "reason": "missing",
        "detail": "event: is missing", "event": None, "user": "u-1", "id": None,
    }  # fmt: skip


def test_one_is_singular(monkeypatch: pytest.MonkeyPatch):
    """The question before a replay or drop counts one letter in the singular."""
    asked: list[str] = []
    monkeypatch.setattr("click.confirm", lambda text, **_: asked.append(text))
    for count in (1, 2):
        confirm_count(iter([letter()] * count), "dead letter", "Drop", yes=False)
    assert asked == ["Drop 1 dead letter?", "Drop 2 dead letters?"]
