import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deploy.cli.options import broker_errors, check_name, config_option, load
from deploy.cli.selection import TIME, json_option, progress_bar, yes_option
from deploy.terminal.escaping import echo, echo_json
from streams.plurals import counted

if TYPE_CHECKING:
    from deploy.replay.replay_range import Report


@click.command(short_help="Send past events to an integration again.")
@click.option("--integration", required=True, metavar="NAME", help="The integration to send to.")
@click.option("--from", "since", required=True, type=TIME, help="Events since this time: 30m, 12h, 7d (ago), "
              "2026-05-01, 2026-05-01T12:00Z.")  # fmt: skip
@click.option("--to", "until", required=True, type=TIME, help="Events before this time.")
@click.option("--event", "names", multiple=True, metavar="NAME", help="Track events of this name, or all calls of this "
              "type (page, identify, …). Repeatable.")  # fmt: skip
@click.option("--dry-run", "dry", is_flag=True, help="Send nothing; count what would be sent, by rule and outcome.")
@click.option(
    "--force", is_flag=True, help="Send even if the vendor may count events twice, or no longer accepts some."
)
@click.option("--again", is_flag=True, help="Start over a replay that was stopped or is finished.")
@click.option("--rate", default=500.0, show_default=True, type=click.FloatRange(0), help="Deliveries per second; 0 for "
              "no limit.")  # fmt: skip
@yes_option
@config_option
@json_option
def replay(
    folder: Path,
    integration: str,
    since: float,
    until: float,
    names: tuple[str, ...],
    rate: float,
    *,
    dry: bool,
    force: bool,
    again: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Send the events of a period to an integration again, mapped with today's rules.

    Deliveries keep their IDs, so that vendors that deduplicate by ID still do. If the vendor does not deduplicate, or
    no longer remembers the IDs, --force is required. Ctrl-C stops the replay, and the command that it prints continues
    it; the position is stored in Kafka. Exits with 1 if it was stopped, or if events cannot be mapped.
    """
    from deploy.replay.replay_range import Replay, ReplayRange, find_objections

    configuration = load(folder, "sources")
    check_name("integration", integration, configuration.integrations, param_hint="--integration")
    if configuration.integrations[integration].state == "draining":
        raise click.BadParameter(f"{integration} is draining and accepts no new deliveries", param_hint="--integration")
    if not since < until:
        raise click.BadParameter("--to must be after --from", param_hint="--to")
    if until > time.time():
        raise click.BadParameter("--to must not be in the future", param_hint="--to")
    replay_range = ReplayRange(integration, since, until, frozenset(names))
    echo(f"from {_text(since)} to {_text(until)}", err=True)
    for objection in (
        objections := find_objections(configuration.integrations[integration], replay_range, time.time())
    ):
        echo(f"{integration}: {objection}", err=True)
    if objections and not (force or dry):
        raise click.UsageError("nothing is sent (--force sends anyway, --dry-run shows what would be sent)")
    with broker_errors(configuration.settings.broker), Replay(configuration, replay_range, anew=again or dry) as run:
        if not run.total:
            echo("no events in that period", err=True)
        elif run.done == run.total:
            echo(f"all {counted(run.total, 'event')} of that period have been replayed (--again starts over)", err=True)
        elif run.done:
            echo(f"resuming after {run.done:,} of {counted(run.total, 'event')}", err=True)
        if run.done < run.total and not (yes or dry):
            which = f" ({', '.join(names)})" if names else ""
            number = counted(run.total - run.done, "event")
            click.confirm(f"Replay {number}{which} to {integration}?", abort=True, err=True)
        with progress_bar(run.total - run.done) as advance, _stop_on_signals() as stopped:
            report = run.run(rate=rate, advance=advance, stopped=stopped, dry=dry)
    _show(report, as_json=as_json)
    if not report.finished:
        # Times relative to now would mean another period in the next run.
        period = f"--from {_text(since)} --to {_text(until)}"
        echo(f"stopped after {run.done:,} of {counted(run.total, 'event')}; to resume: {period}", err=True)
    if report.failed or not report.finished:
        raise click.exceptions.Exit(1)


@contextmanager
def _stop_on_signals() -> Iterator[Callable[[float], bool]]:
    """Yield a wait function that SIGINT and SIGTERM end, instead of interrupting the work."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda seconds: stop.wait(max(0.0, seconds))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _show(report: "Report", *, as_json: bool) -> None:
    from rich.table import Table

    from deploy.terminal.console import PlainConsole, cells

    if as_json:
        echo_json(report.data(), indent=None)
        return
    table = Table("", "outcome", "rule", "why", box=None)
    table.columns[0].justify = "right"
    for row in report.data()["outcomes"]:
        table.add_row(f"{row['count']:,}", *cells(row["outcome"], row["rule"] or "", row["reason"]))
    PlainConsole().print(table)
