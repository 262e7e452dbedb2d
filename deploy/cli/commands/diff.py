import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import click

from deploy.cli.options import read
from deploy.terminal.escaping import echo_json
from deploy.terminal.failures import Failed

MAX_EXAMPLES = 20


@click.command(short_help="Compare two versions of the rules on recorded events.")
@click.argument("old", metavar="OLD_DIR", type=click.Path(path_type=Path))
@click.argument("new", metavar="NEW_DIR", type=click.Path(path_type=Path))
@click.option(
    "--events",
    "file",
    metavar="FILE",
    required=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Recorded events, one JSON object per line; may be gzipped.",
)
@click.option("--source", metavar="NAME", help="The source of the events. Default: by their write keys.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object, for programs.")
def diff(old: Path, new: Path, file: Path, source: str | None, as_json: bool) -> None:
    """Show which recorded events have another result with the new rules than with the old ones.

    Prints counts by integration and rule, then each kind of change field by field with an example: first events that
    lose a delivery, then the most frequent changes. Nothing is sent.
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
        show_changes(changes, MAX_EXAMPLES)


def _with_progress(lines: Iterator[tuple[int, bytes]], raw: IO[bytes], size: int) -> Iterator[tuple[int, bytes]]:
    """Yield the lines while a progress bar shows how much of the file is read."""
    from rich.progress import Progress

    from deploy.terminal.console import PlainConsole

    console = PlainConsole(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("events", total=size)
        for number, line in lines:
            if number % 1000 == 0:
                progress.update(task, completed=raw.tell())
            yield number, line
