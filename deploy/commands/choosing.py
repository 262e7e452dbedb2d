"""What `turnout dead` and `turnout rejected` share: which of them, how they are listed, and the count before."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from deploy.commands.options import config_option
from deploy.escaping import echo, echo_json, escape_line
from deploy.failures import Failed

if TYPE_CHECKING:
    from deploy.recovery.kept import Choice, Kept

F = TypeVar("F", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


class _Place(click.ParamType):
    name = "PARTITION:OFFSET"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        found = re.fullmatch(r"(\d+):(\d+)", str(value))
        if not found:
            self.fail(f"{value!r} is no place (write it as `list` shows it, such as 3:1417)", param, ctx)
        return int(found[1]), int(found[2])


class _Time(click.ParamType):
    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        from streams.times import read_time, seconds_of

        try:
            return seconds_of(read_time(str(value)) or "")
        except ValueError:
            self.fail(
                f"{value!r} is not a time (write 2026-05-01 or 2026-05-01T12:00Z; without a zone it is UTC)",
                param,
                ctx,
            )


PLACE = _Place()
TIME = _Time()
"""A day or a time, in UTC if it has no zone, as seconds since 1970."""


def choosing(command: F) -> F:
    """Options that say which of them, and the places of some; the command gets them as `chosen`, a mapping."""
    for option in reversed(
        (
            click.argument("places", nargs=-1, type=PLACE),
            click.option("--reason", metavar="CODE", help="Those with this reason."),
            click.option("--user", metavar="ID", help="Those of this userId, or anonymousId where there is none."),
            click.option("--since", type=TIME, help="Those that came at this time or later."),
            click.option("--until", type=TIME, help="Those that came before this time."),
            config_option,
        )
    ):
        command = option(command)
    return command


def choice(places: Sequence[tuple[int, int]], **options: Any) -> "Choice":
    """The choice that the options make."""
    from deploy.recovery.kept import Choice

    return replace(Choice(places=frozenset(places)), **options)


@contextmanager
def failing() -> Iterator[None]:
    """A broker that does not answer as the command's failure."""
    from streams.broker import BrokerError

    try:
        yield
    except BrokerError as error:
        raise Failed(str(error)) from error


def show_list(found: Iterator["Kept[Any]"], row: Callable[["Kept[Any]"], dict[str, Any]], few: int, by: Sequence[str],
              *, as_json: bool) -> None:  # fmt: skip
    """Print the count by group, and the last `few` of them; as JSON all of them, a line each."""
    from collections import deque

    from rich.table import Table

    from deploy.console import PlainConsole, cells

    groups: Counter[tuple[str, ...]] = Counter()
    last: deque[dict[str, Any]] = deque(maxlen=few)
    for kept in found:
        each = row(kept)
        if as_json:
            echo_json(each, indent=None)
            continue
        groups[tuple(str(each[name]) for name in by)] += 1
        last.append(each)
    if as_json:
        return
    console = PlainConsole()
    if not groups:
        console.print("none")
        return
    table = Table("", *by, box=None)
    table.columns[0].justify = "right"
    for group, count in groups.most_common():
        table.add_row(f"{count:,}", *cells(*group))
    console.print(table)
    console.print(f"\nthe last {len(last):,} of {groups.total():,}:\n" if groups.total() > few else "")
    table = Table(*next(iter(last)), box=None)
    for each in last:
        table.add_row(*cells(*each.values()))
    console.print(table)


def count_first(found: Iterator["Kept[Any]"], what: str, verb: str, *, yes: bool) -> int:
    """Say how many it will be, and ask; ends the command where there are none."""
    count = sum(1 for _ in found)
    if not count:
        echo(f"there are no such {what}", err=True)
        raise click.exceptions.Exit(0)
    if not yes:
        click.confirm(f"{verb} {count:,} {what}?", abort=True, err=True)
    return count


@contextmanager
def progressing(count: int) -> Iterator[Callable[[int], object]]:
    """A bar on the terminal; yields what moves it."""
    from rich.progress import Progress

    from deploy.console import PlainConsole

    with Progress(console=PlainConsole(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=count)
        yield lambda number: bar.advance(task, number)


def show_report(report: Counter[str], *, as_json: bool) -> bool:
    """Print how many were replayed and how many left, and why; whether none was left."""
    if as_json:
        echo_json(report, indent=None)
    else:
        for reason, count in report.most_common():
            echo(f"{count:>9,}  {escape_line(reason)}")
    return not any(reason != "replayed" and not reason.startswith("dropped") for reason in report)


def show_one(
    found: Iterator["Kept[Any]"], data: Callable[["Kept[Any]"], dict[str, Any]], where: tuple[int, int]
) -> None:
    """Print one of them whole, as JSON."""
    for kept in found:
        echo_json(data(kept))
        return
    raise Failed(f"there is none at {where[0]}:{where[1]}, or it has been handled")
