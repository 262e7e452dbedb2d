"""Select, list and count dead letters and rejected records."""

import re
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from deploy.cli.options import config_option
from deploy.terminal.escaping import echo, echo_json, escape_line
from deploy.terminal.failures import Failed
from streams.plurals import counted

if TYPE_CHECKING:
    from deploy.replay.parked import ParkedRecord, Selection

F = TypeVar("F", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
yes_option = click.option("--yes", is_flag=True, help="Do not ask for confirmation.")


class _Place(click.ParamType):
    name = "PARTITION:OFFSET"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        found = re.fullmatch(r"(\d+):(\d+)", str(value))
        if not found:
            self.fail(f"{value!r} is not a place: write PARTITION:OFFSET as in `list`, for example 3:1417", param, ctx)
        return int(found[1]), int(found[2])


SECONDS_OF_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class _Time(click.ParamType):
    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        from streams.parsing.times import read_time, seconds_of

        if ago := re.fullmatch(r"(\d{1,9}) ?([smhdw])", str(value), re.ASCII):
            return float(max(0, int(time.time()) - int(ago[1]) * SECONDS_OF_UNITS[ago[2]]))
        try:
            return seconds_of(read_time(str(value)) or "")
        except ValueError:
            self.fail(
                f"{value!r} is not a time: write 30m, 12h or 7d (ago), 2026-05-01, or 2026-05-01T12:00Z (UTC if it has "
                "no zone)",
                param,
                ctx,
            )


class _Group(click.ParamType):
    name = "ID"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not re.fullmatch("[0-9a-f]{12}", str(value)):
            self.fail(f"{value!r} is not a group: write an id of `dead groups`, such as 2f9c01ab34de", param, ctx)
        return str(value)


GROUP = _Group()
PLACE = _Place()

TIME = _Time()
"""A time ago (30m), a day, or a time, in UTC if it has no zone; converted to seconds since 1970."""


def selection_options(command: F) -> F:
    """Add the options that select parked records; `make_selection` takes their values."""
    for option in reversed(
        (
            click.argument("places", nargs=-1, type=PLACE),
            click.option("--reason", metavar="CODE", help="Only those with this reason."),
            click.option(
                "--user", metavar="ID", help="Only those of this userId, or of this anonymousId without a userId."
            ),
            click.option("--since", type=TIME, help="Only those since this time: 30m, 12h, 7d, 2026-05-01."),
            click.option("--until", type=TIME, help="Only those before this time."),
            config_option,
        )
    ):
        command = option(command)
    return command


def make_selection(places: Sequence[tuple[int, int]], **options: Any) -> "Selection":
    """Return the selection that the options describe."""
    from deploy.replay.parked import Selection

    return replace(Selection(places=frozenset(places)), **options)


WIDTH = 80
"""Columns of a list on any terminal; `--json` prints values in full."""


class Column(NamedTuple):
    """A column of a list; shows the first of the row's `keys` that has a value, truncated to `width`."""

    title: str
    keys: Sequence[str]
    width: int


COLUMNS = (
    Column("place", ["place"], 12),
    Column("time", ["died", "time"], 24),
    Column("event", ["event"], 20),
    Column("user or message id", ["user", "id"], 18),
)


def show_list(
    found: Iterator["ParkedRecord[Any]"],
    row: Callable[["ParkedRecord[Any]"], dict[str, Any]],
    limit: int,
    by: Sequence[str],
    *,
    as_json: bool,
) -> None:
    """Print the count per group and the last `limit` records; as JSON all records, one per line."""
    from collections import deque

    if as_json:
        for parked in found:
            echo_json(row(parked), indent=None)
        return
    groups: Counter[tuple[str, ...]] = Counter()
    last: deque[dict[str, Any]] = deque(maxlen=limit)
    for parked in found:
        each = row(parked)
        groups[tuple(str(each[name]) for name in by)] += 1
        last.append(each)
    if not groups:
        echo("none")
        return
    _show_groups(groups, by)
    echo(f"\nthe last {len(last):,} of {groups.total():,}:\n" if groups.total() > limit else "")
    if last:
        _show_rows(last, [*by, "detail"])


def _show_groups(groups: Counter[tuple[str, ...]], by: Sequence[str]) -> None:
    from rich.table import Table

    from deploy.terminal.console import PlainConsole, cells

    table = Table("", *by, box=None)
    table.columns[0].justify = "right"
    for group, count in groups.most_common():
        table.add_row(f"{count:,}", *cells(*group))
    PlainConsole(width=WIDTH).print(table)


def _show_rows(rows: Collection[dict[str, Any]], below: Sequence[str]) -> None:
    """Print each row as a line of columns, with the values of the keys `below` under it."""
    from rich.cells import cell_len, set_cell_size

    from deploy.terminal.console import PlainConsole, one_line, print_wrapped

    lines = [[column.title for column in COLUMNS], *([_cell(row, column) for column in COLUMNS] for row in rows)]
    widths = [max(map(cell_len, cells)) for cells in zip(*lines, strict=True)]
    title, *texts = ("  ".join(map(set_cell_size, cells, widths)).rstrip() for cells in lines)
    console = PlainConsole(width=WIDTH)
    console.print(one_line((title, "bold")))
    for row, text in zip(rows, texts, strict=True):
        console.print(one_line(text))
        detail = ": ".join(str(row[key]) for key in below if row[key])
        print_wrapped(console, one_line((detail, "dim")), 4)


def _cell(row: Mapping[str, Any], column: Column) -> str:
    from rich.cells import cell_len, set_cell_size

    text = escape_line(next((row[key] for key in column.keys if row.get(key)), "-"))
    return text if cell_len(text) <= column.width else f"{set_cell_size(text, column.width - 1)}…"


def confirm_count(found: Iterator["ParkedRecord[Any]"], noun: str, verb: str, *, yes: bool) -> int:
    """Count the records and ask for confirmation; ends the command if the count is 0."""
    count = sum(1 for _ in found)
    if not count:
        echo(f"no matching {noun}s", err=True)
        raise click.exceptions.Exit(0)
    if not yes:
        click.confirm(f"{verb} {counted(count, noun)}?", abort=True, err=True)
    return count


@contextmanager
def progress_bar(count: int) -> Iterator[Callable[[int], object]]:
    """Show a progress bar; yields the function that advances it."""
    from rich.progress import Progress

    from deploy.terminal.console import PlainConsole

    with Progress(console=PlainConsole(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=count)
        yield lambda number: bar.advance(task, number)


@contextmanager
def reading_progress(total: int | None) -> Iterator[Callable[[int], object]]:
    """Show on standard error how many events are read, if it is a terminal; yields the function that counts them."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from deploy.terminal.console import PlainConsole

    console = PlainConsole(stderr=True)
    columns = (TextColumn("events"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total)
        yield lambda number: progress.advance(task, number)


def show_report(report: Counter[str], *, as_json: bool) -> bool:
    """Print the counts by result; returns whether every record was replayed or dropped."""
    if as_json:
        echo_json(report, indent=None)
    else:
        for reason, count in report.most_common():
            echo(f"{count:>9,}  {escape_line(reason)}")
    return not any(reason != "replayed" and not reason.startswith("dropped") for reason in report)


def show_one(
    found: Iterator["ParkedRecord[Any]"], data: Callable[["ParkedRecord[Any]"], dict[str, Any]], place: tuple[int, int]
) -> None:
    """Print one record in full, as JSON."""
    for parked in found:
        echo_json(data(parked))
        return
    raise Failed(f"no record at {place[0]}:{place[1]}, or it has been handled")
