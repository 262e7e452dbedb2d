import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from deploy.cli.options import broker_errors, check_name, load, read
from deploy.cli.selection import TIME, reading_progress
from deploy.terminal.escaping import echo_json
from deploy.terminal.failures import Failed

if TYPE_CHECKING:
    from deploy.dryrun.diff import Changes

MAX_EXAMPLES = 20


@click.command(short_help="Compare two versions of the rules on recorded events.")
@click.argument("old", metavar="OLD_DIR", type=click.Path(path_type=Path))
@click.argument("new", metavar="NEW_DIR", type=click.Path(path_type=Path))
@click.option(
    "--events",
    "file",
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Recorded events, one JSON object per line, as of `turnout record`; may be gzipped.",
)
@click.option("--since", type=TIME, help="Compare on the events in the Kafka of OLD_DIR since this time: 30m, 12h, 7d "
              "(ago), 2026-05-01.")  # fmt: skip
@click.option("--until", type=TIME, help="With --since, the events before this time.")
@click.option("--source", metavar="NAME", help="The source of the events. Default: by their records, or write keys.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object, for programs.")
def diff(
    old: Path,
    new: Path,
    file: Path | None,
    since: float | None,
    until: float | None,
    source: str | None,
    *,
    as_json: bool,
) -> None:
    """Show which recorded events get a different result from the new rules.

    Prints counts by integration and rule, then each kind of change field by field with an example: first events that
    lose a delivery, then the most frequent changes. Nothing is sent.
    """
    from deploy.dryrun.render import show_changes

    if (file is None) == (since is None):
        raise click.UsageError("name one of --events and --since")
    if file is not None:
        changes = _compare_file(old, new, file, source)
    else:
        changes = _compare_traffic(old, new, since or 0.0, until, source)
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


def _compare_file(old: Path, new: Path, file: Path, source: str | None) -> "Changes":
    from deploy.dryrun.diff import find_changes, open_lines

    configurations = read(old), read(new)
    try:
        with open_lines(file) as (lines, raw):
            return find_changes(*configurations, _with_progress(lines, raw, file.stat().st_size), source)
    except (OSError, EOFError, zlib.error) as error:
        raise Failed(f"cannot read {file}: {error}") from error


def _compare_traffic(old: Path, new: Path, since: float, until: float | None, source: str | None) -> "Changes":
    """Compare on events in Kafka; with a source only on its events."""
    deployed = load(old)
    if source is not None:
        check_name("source", source, deployed.source_files, param_hint="--source")
    with broker_errors(deployed.settings.broker):
        from deploy.dryrun.diff import RulesComparison
        from deploy.dryrun.recorded_events import open_recorded

        comparison = RulesComparison(deployed, read(new))
        with open_recorded(deployed) as recorded:
            total, events = recorded.period(since, until)
            with reading_progress(total) as advance:
                for event in events(advance):
                    if source is None or event.source == source:
                        comparison.add(event.place, event.value, event.source)
    return comparison.changes


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
