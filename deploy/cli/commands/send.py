import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from deploy.terminal.escaping import echo, echo_json, escape_line
from deploy.terminal.failures import Failed

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from deploy.cli.file_upload import FilePosition, RefusedLine
    from turnout_tracking.destinations import Collector

MAX_REPORTED_LINES = 1_000
"""Refused lines that --json lists."""


@click.command(short_help="Send a file of events to a collector.")
@click.argument("file", metavar="FILE|-", type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True))
@click.option(
    "--url",
    envvar="TURNOUT_URL",
    default="http://127.0.0.1:8080",
    show_default=True,
    help="The collector; also from $TURNOUT_URL.",
)
@click.option(
    "--write-key",
    "variable",
    metavar="NAME",
    default="TURNOUT_WRITE_KEY",
    show_default=True,
    help="The environment variable that has the source's write key.",
)
@click.option("--restart", is_flag=True, help="Begin at the first line, wherever an earlier run was ended.")
@click.option(
    "--retry-for",
    metavar="SECONDS",
    type=click.FloatRange(0),
    default=600.0,
    show_default=True,
    help="How long a request is tried again that the collector cannot take.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object, for programs.")
@click.pass_context
def send(
    context: click.Context, file: Path, url: str, variable: str, restart: bool, retry_for: float, as_json: bool
) -> None:
    """Send a file of events to a collector: a line of JSON each, gzipped or not.

    A run that is ended goes on where it was when it is called again: FILE.sending beside the file says where. An event
    without a messageId gets one made of its content and line, so that those of a request that was under way are known
    as repeats. What is refused is listed with its line, and the exit code is 1.
    """
    from deploy.cli.file_upload import Bookmark, FilePosition, FileUpload, open_file

    from_file = file != Path("-")
    connection = _collector(url, variable).open()
    bookmark = Bookmark(file.with_name(file.name + ".sending"), url)
    if restart and from_file:
        bookmark.remove()
    refused: list[RefusedLine] = []
    try:
        with open_file(file) as (lines, raw), _showing(file, raw, quiet=as_json) as (show, console):
            place = bookmark.find(lines) if from_file else FilePosition(url)
            began = place.line
            if began:
                console.print(f"going on after line {began:,}")

            def refuse(one: "RefusedLine") -> None:
                if len(refused) < MAX_REPORTED_LINES:
                    refused.append(one)
                if not as_json:
                    console.print(escape_line(f"{file}:{one.line}: {one.message} ({one.code})"))

            def confirmed(place: "FilePosition") -> None:
                if from_file:
                    bookmark.save(place)
                show(place)

            FileUpload(connection, place, refuse, retry_for).send(lines, confirmed)
    except (OSError, EOFError, zlib.error) as error:
        raise Failed(f"cannot read {file}: {error}") from error
    if from_file:
        bookmark.remove()
    if as_json:
        data = {"sent": place.sent, "refused": place.refused, "began_after": began}
        echo_json({**data, "lines": [one._asdict() for one in refused]})
    else:
        echo(f"{place.sent:,} sent, {place.refused:,} refused")
    context.exit(1 if place.refused else 0)


def _collector(url: str, variable: str) -> "Collector":
    from turnout_tracking.destinations import Collector

    try:
        return Collector(url, os.environ.get(variable, ""), timeout=30.0)
    except ValueError as error:
        hint = "" if os.environ.get(variable) else f" (set {variable} in the environment)"
        raise click.UsageError(f"{error}{hint}") from None


@contextmanager
def _showing(file: Path, raw: BinaryIO, *, quiet: bool) -> Iterator[tuple["Callable[[FilePosition], None]", "Console"]]:
    """A bar on the terminal of how much of the file is sent; yields what moves it, and where to print beside it."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from deploy.terminal.console import PlainConsole

    console = PlainConsole(stderr=True, soft_wrap=True)
    size = file.stat().st_size if file != Path("-") else None
    columns = (BarColumn(), TextColumn("{task.fields[events]:,} events"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task("", total=size, events=0)

        def show(place: "FilePosition") -> None:
            bar.update(task, completed=raw.tell() if size else 0, events=place.sent)

        yield show, console
