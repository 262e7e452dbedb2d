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
"""Number of refused lines that --json lists."""


@click.command(short_help="Send a file of events to a collector.")
@click.argument("file", metavar="FILE|-", type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True))
@click.option(
    "--url",
    envvar="TURNOUT_URL",
    default="http://127.0.0.1:8080",
    show_default=True,
    help="The collector's URL; also from $TURNOUT_URL.",
)
@click.option(
    "--write-key",
    "variable",
    metavar="NAME",
    default="TURNOUT_WRITE_KEY",
    show_default=True,
    help="The environment variable with the source's write key.",
)
@click.option("--restart", is_flag=True, help="Start at the first line, even if an earlier run was interrupted.")
@click.option(
    "--retry-for",
    metavar="SECONDS",
    type=click.FloatRange(0),
    default=600.0,
    show_default=True,
    help="How long to retry a request while the collector is not available.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object, for programs.")
@click.pass_context
def send(
    context: click.Context, file: Path, url: str, variable: str, restart: bool, retry_for: float, as_json: bool
) -> None:
    """Send a file of events to a collector: one JSON object per line, gzipped or not.

    If the command is interrupted, run it again to resume: FILE.sending stores the position. Events without a messageId
    get one derived from their content and line, so that events that are sent twice are deduplicated. Refused events are
    listed with their line, and the command exits with 1.
    """
    from deploy.cli.file_upload import FilePosition, FileUpload, PositionFile, open_file

    from_file = file != Path("-")
    connection = _collector(url, variable).open()
    bookmark = PositionFile(file.with_name(file.name + ".sending"), url)
    if restart and from_file:
        bookmark.remove()
    refused: list[RefusedLine] = []
    try:
        with open_file(file) as (lines, raw), _show_progress(file, raw, quiet=as_json) as (show, console):
            position = bookmark.find(lines) if from_file else FilePosition(url)
            began = position.line
            if began:
                console.print(f"resuming after line {began:,}")

            def refuse(one: "RefusedLine") -> None:
                if len(refused) < MAX_REPORTED_LINES:
                    refused.append(one)
                if not as_json:
                    console.print(escape_line(f"{file}:{one.line}: {one.message} ({one.code})"))

            def confirmed(position: "FilePosition") -> None:
                if from_file:
                    bookmark.save(position)
                show(position)

            FileUpload(connection, position, refuse, retry_for).send(lines, confirmed)
    except (OSError, EOFError, zlib.error) as error:
        raise Failed(f"cannot read {file}: {error}") from error
    if from_file:
        bookmark.remove()
    if as_json:
        data = {"sent": position.sent, "refused": position.refused, "began_after": began}
        echo_json({**data, "lines": [one._asdict() for one in refused]})
    else:
        echo(f"{position.sent:,} sent, {position.refused:,} refused")
    context.exit(1 if position.refused else 0)


def _collector(url: str, variable: str) -> "Collector":
    from turnout_tracking.destinations import Collector

    try:
        return Collector(url, os.environ.get(variable, ""), timeout=30.0)
    except ValueError as error:
        hint = "" if os.environ.get(variable) else f" (set {variable} in the environment)"
        raise click.UsageError(f"{error}{hint}") from None


@contextmanager
def _show_progress(
    file: Path, raw: BinaryIO, *, quiet: bool
) -> Iterator[tuple["Callable[[FilePosition], None]", "Console"]]:
    """Show a progress bar; yields the function that updates it, and a console for other output."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from deploy.terminal.console import PlainConsole

    console = PlainConsole(stderr=True, soft_wrap=True)
    size = file.stat().st_size if file != Path("-") else None
    columns = (BarColumn(), TextColumn("{task.fields[events]:,} events"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task("", total=size, events=0)

        def show(position: "FilePosition") -> None:
            bar.update(task, completed=raw.tell() if size else 0, events=position.sent)

        yield show, console
