"""No text from an event, a vendor or a file makes a terminal do anything."""

import ast
import io
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.table import Table
from rich.text import Text

import deploy
from deploy.cli.selection import show_list
from deploy.runtime.up_output import Terminal
from deploy.terminal.console import PlainConsole, cells, one_line
from deploy.terminal.escaping import echo, echo_json, escape, escape_line
from streams.records.rejected import Rejected

HOSTILE = "\x1b[2J\x1b]52;c;eA==\x07\x9b31m\x7f\x00\r\u202eabc\u2066\u200f\ufeff\ud800\U000e0041[/oops][red]:bomb:"
OBEYED = set(HOSTILE[: HOSTILE.index("[/oops]")]) - set("[2J]52;c;eA==31mabc")


def test_everything_is_printed_in_one_place():
    """Only one module prints by click or to standard output, only `PlainConsole` by Rich, and none calls print."""
    root = Path(deploy.__file__).parents[1]
    found = set()
    for path in sorted((root / "deploy").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                if name in {"click.echo", "click.secho", "click.style", "print", "Console", "sys.stdout.write"}:
                    found.add((str(path.relative_to(root)), name))
    assert found == {("deploy/terminal/escaping.py", name) for name in ("click.echo", "sys.stdout.write")}


@pytest.mark.parametrize("character", sorted(OBEYED))
def test_what_a_terminal_obeys_is_shown_as_an_escape(character):
    """Such a character becomes printable, and stays the same in JSON."""
    shown = escape(f"a{character}b")
    assert shown.isprintable()
    assert json.loads(f'"{shown}"') == f"a{character}b"


@pytest.mark.parametrize("text", ["größe 数 e\u0301 👩\u200d👧", "\u0645\u06cc\u200c\u062e", "a\tb\nc", "[red]x[/red]"])
def test_other_text_stays(text):
    """Letters of any script, joiners, tabs and line breaks are printed as they are."""
    assert escape(text) == text


def test_a_line_stays_one():
    """Within a line, breaks and tabs are shown too."""
    assert escape_line("a\nb\tc\rd") == "a\\nb\\tc\\rd"


def test_json_output_stays_the_same_data(capsys):
    """JSON that is printed has nothing for a terminal to obey and parses to the same data."""
    echo_json({HOSTILE: [HOSTILE]}, indent=None)
    printed = capsys.readouterr().out
    assert printed.removesuffix("\n").isprintable()
    assert json.loads(printed) == {HOSTILE: [HOSTILE]}


def test_echo(capsys):
    """Text that is printed keeps its lines only."""
    echo(f"a\n{HOSTILE}")
    assert all(line.isprintable() for line in capsys.readouterr().out.splitlines())


def test_a_console_interprets_nothing():
    """Strings, texts, tables and JSON on a console come out printable, with their markup as text."""
    file = io.StringIO()
    console = PlainConsole(file=file, width=300, force_terminal=True, color_system=None)
    table = Table(*cells(HOSTILE))
    table.add_row(*cells(HOSTILE))
    for each in (HOSTILE, Text(HOSTILE), one_line((HOSTILE, "bold")), table):
        console.print(each)
    console.print_json(data=[HOSTILE])
    output = file.getvalue().replace("\x1b[1m", "").replace("\x1b[0m", "")
    assert all(line.isprintable() for line in output.splitlines())
    assert output.count("[/oops][red]:bomb:") == 6


def _printable(text):
    return all(line.isprintable() for line in text.splitlines())


def test_rejected_list_shows_a_source_with_markup(capsys):
    """A record's header that looks like markup is printed unchanged."""
    kept = SimpleNamespace()
    row = {"place": "0:1", "reason": "no_source", "source": "[/oops]", "detail": HOSTILE}
    show_list(iter([kept]), lambda _: row, 20, ["reason", "source"], as_json=False)
    printed = capsys.readouterr().out
    assert printed.count("[/oops]") >= 2
    assert _printable(printed)


def test_the_live_view_shows_escape_codes(capsys):
    """`turnout up` escapes the names of events and rejected texts."""
    terminal = Terminal(SimpleNamespace(integrations={}, source_files={}))
    event = {"type": "track", "event": HOSTILE, "userId": HOSTILE}
    seen = SimpleNamespace(event=event, source=HOSTILE, notes=[f"x: {HOSTILE}"], is_reported=False)
    fate = SimpleNamespace(integration="a", outcome="dead", rule="r", reason=HOSTILE, payload=None)
    terminal.show_update((seen, [fate], ["b"]))
    terminal.show_rejected(Rejected("json", HOSTILE, "web", None, None, HOSTILE.encode("utf-8", "surrogatepass")))
    terminal.report("router", HOSTILE)
    printed = capsys.readouterr().out
    assert "\\u001b[2J" in printed
    assert _printable(printed)
