"""The screen of `turnout status` at 80 columns."""

from io import StringIO

from deploy.cli import status_screen
from deploy.terminal.console import PlainConsole
from streams.operations.overview import make_overview
from streams.parsing.times import rfc3339
from streams.records.control import Control, ControlAction
from streams.records.status import DeliveryState, PipelineStatus, ProcessStatus, VendorStatus

NOW = 1_800_000_000.0


def screen(reports: dict[str, ProcessStatus], paused: dict[str, Control], names: list[str]) -> str:
    console = PlainConsole(width=status_screen.WIDTH, file=StringIO())
    for part in status_screen.render(make_overview(reports, names, paused, NOW), 3):
        console.print(part)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def process(kind: str, *pipelines: PipelineStatus, host: str = "app-1", ago: float = 2) -> ProcessStatus:
    return ProcessStatus(kind, host, 7, "1.0", "0a1b2c3d4e5f", rfc3339(NOW - 900), rfc3339(NOW - ago), pipelines)


def test_it_shows_all_in_80_columns():
    """Long hosts and answers are cut; the vendor's status, answer and next probe are there, and who paused by hand."""
    answer = "no " * 200
    refused = VendorStatus(DeliveryState.REFUSED, rfc3339(NOW), "no", 401, answer, rfc3339(NOW), rfc3339(NOW + 3))
    reports = {
        "a": process("collector", ago=50, host="app-2-" + "x" * 200),
        "b": process("router", PipelineStatus("router", None, {"events": [0]}, 12)),
        "c": process(
            "forwarder",
            PipelineStatus(
                "meta", None, {"f": [0]}, 1204, 0, refused, rfc3339(NOW - 4000), rfc3339(NOW + 500_000), 4.0, 2.0
            ),
            PipelineStatus("crm", None, {"f": [0]}, 88, 0, VendorStatus(DeliveryState.PAUSED)),
        ),
    }
    text = screen(reports, {"crm": Control(ControlAction.PAUSED, "ann@app-1", "2027-01-15T07:50:00Z")}, ["meta", "crm"])
    lines = [line.rstrip() for line in text.splitlines()]
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 24
    for part in (
        "router     app-1:7",
        "silent for 50 s",
        "          lag  oldest  drained in  kept for  state",
        "router     12       -           -         -  routing",
        "meta    1,204   1.1 h        10 m     5.8 d  refused",
        "    next probe in 3 s: 401 no no no no",
        "crm        88       -           -         -  paused",
        "    by ann@app-1 since 2027-01-15 07:50 UTC",
        "dead letters in the last hour: about 3",
        "  no collector reports any more",
        "    start one: turnout collector",
    ):
        assert part in text, text


def test_text_from_vendors_is_not_obeyed_by_the_terminal():
    """Escape sequences and line breaks in an answer stay text."""
    failing = VendorStatus(DeliveryState.FAILING, rfc3339(NOW), "no", 500, "a\x1b[2Jb\nc", rfc3339(NOW))
    text = screen({"c": process("forwarder", PipelineStatus("one", vendor=failing))}, {}, ["one"])
    assert "500 a\\u001b[2Jb c" in text
