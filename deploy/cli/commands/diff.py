import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import click

from deploy.cli.options import read
from deploy.terminal.escaping import echo_json
from deploy.terminal.failures import Failed

FEW = 20


@click.command(short_help="Compare two versions of the rules on recorded events.")
@click.argument("old", metavar="OLD_DIR", type=click.Path(path_type=Path))
@click.argument("new", metavar="NEW_DIR", type=click.Path(path_type=Path))
@click.option(
    "--events",
    "file",
    metavar="FILE",
    required=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Recorded events, a line of JSON each; may be gzipped.",
)
@click.option("--source", metavar="NAME", help="The source that the events come from; by default by their write keys.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object, for programs.")
def diff(old: Path, new: Path, file: Path, source: str | None, as_json: bool) -> None:
    """Show which recorded events give another result with the new rules than with the old ones.

    Prints counts by integration and rule, then the changed payloads field by field, with an example of each: first
    events that are no longer forwarded, then the most frequent changes. Nothing is sent.
    """
    from deploy.dryrun.diff import find_changes, open_lines
    from deploy.dryrun.render import show_changes

    configurations = read(old), read(new)
    try:
        with open_lines(file) as (lines, raw):
            changes = find_changes(*configurations, _with_progress(lines, raw, file.stat().st_size), source)
    except (OSError, EOFError, zlib.error) as error:
        raise Failed(f"cannot read {file}: {error}") from error
    if as_json:
        data = {
            "events": changes.events,
            "rejected": changes.rejected,
            "rules": [
                {
                    "integration": integration,
                    "rule": rule or None,
                    "same": changes.same[integration, rule],
                    "changed": changes.changed[integration, rule],
                }
                for integration, rule in changes.rules()
            ],
            "changes": [change.data() for change in changes.groups],
        }
        echo_json(data)
    else:
        show_changes(changes, FEW)


def _with_progress(lines: Iterator[tuple[int, bytes]], raw: IO[bytes], size: int) -> Iterator[tuple[int, bytes]]:
    """The lines, with a bar on the terminal of how much of the file is read."""
    from rich.progress import Progress

    from deploy.terminal.console import PlainConsole

    console = PlainConsole(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("events", total=size)
        for number, line in lines:
            if number % 1000 == 0:
                progress.update(task, completed=raw.tell())
            yield number, line
