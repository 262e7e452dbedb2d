"""Show groups of dead letters on one screen."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from deploy.cli.selection import WIDTH
from deploy.terminal.console import PlainConsole, one_line, print_wrapped
from deploy.terminal.escaping import echo
from streams.plurals import counted

BARS = "▁▂▃▄▅▆▇█"


def show_groups(answer: Mapping[str, Any]) -> None:
    """Print the ledger's groups: for each its number, place in the rules, times and message."""
    groups = answer["groups"]
    if not groups:
        echo("none")
        return
    console = PlainConsole(width=WIDTH)
    more = f", the {len(groups)} most frequent" if len(groups) < answer["found"] else ""
    echo(f"{counted(answer['open'], 'dead letter')} in {counted(answer['found'], 'group')}{more}")
    for group in groups:
        console.print()
        rule = f", rule {group['rule']}" if group["rule"] else ""
        head = one_line((f"{group['open']:>7,}  ", "bold"), (f"{group['integration']}{rule}", "bold"))
        print_wrapped(console, head, right=Text(group["id"]))
        for text in _lines(group):
            print_wrapped(console, one_line(text), 9)
        print_wrapped(console, one_line((sparkline(group["hours"]), "dim")), 9, right=Text(_times(group)))
    echo("\nshow one: turnout dead show PLACE; after a fix: turnout dead replay --group ID")


def _lines(group: Mapping[str, Any]) -> Sequence[str]:
    message = f"{group['reason']}: {group['message']}" if group["message"] else group["reason"]
    places = ", ".join(f"{place['partition']}:{place['offset']}" for place in group["newest"])
    return [text for text in (message, group.get("line"), f"newest {places}" if places else None) if text]


def _times(group: Mapping[str, Any]) -> str:
    first, last = (group[name][:16].replace("T", " ") for name in ("first", "last"))
    return f"{first} to {last} UTC"


def sparkline(numbers: Sequence[int]) -> str:
    """Draw numbers as bars; an hour without any is a dot."""
    top = max(numbers, default=0)
    return "".join(BARS[(len(BARS) - 1) * number // top] if number else "·" for number in numbers)
