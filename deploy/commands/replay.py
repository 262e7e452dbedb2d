import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deploy.commands.choosing import TIME, failing, json_option, progressing, yes_option
from deploy.commands.options import config_option, load
from deploy.config.mistakes import hint_at
from deploy.escaping import echo, echo_json

if TYPE_CHECKING:
    from deploy.recovery.past import Report


@click.command()
@click.option("--integration", required=True, metavar="NAME", help="The integration that gets them.")
@click.option("--from", "since", required=True, type=TIME, help="Those that came at this time or later.")
@click.option("--to", "until", required=True, type=TIME, help="Those that came before this time.")
@click.option("--event", "names", multiple=True, metavar="NAME", help="Track events of this name, or all calls of this "
              "type (page, identify, …); may be given more than once.")  # fmt: skip
@click.option("--dry-run", "dry", is_flag=True, help="Send nothing; say what would be sent, by rule and outcome.")
@click.option("--force", is_flag=True, help="Send although the vendor would count some twice, or takes some no more.")
@click.option("--again", is_flag=True, help="Begin anew what was stopped or is done.")
@click.option("--rate", default=500.0, show_default=True, type=click.FloatRange(0), help="Deliveries a second; 0: as "
              "fast as it goes.")  # fmt: skip
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
    """Send the events of some time again to an integration, mapped by today's rules.

    They keep their ids, so that a vendor that tells repeats by a key still does; where it has none, or its time for
    that is over, --force is wanted. Ctrl-C stops it, and the same command goes on from there: Kafka remembers how far
    it came. Exits with 1 where it was stopped, or where events cannot be mapped.
    """
    from deploy.recovery.past import Past, Replay, find_objections

    configuration = load(folder, "sources")
    if integration not in configuration.integrations:
        hint = hint_at(integration, sorted(configuration.integrations))
        raise click.BadParameter(f"no integration is called {integration!r} ({hint})", param_hint="--integration")
    if configuration.integrations[integration].state == "draining":
        raise click.BadParameter(f"{integration} is draining, and takes nothing more", param_hint="--integration")
    if not since < until:
        raise click.BadParameter("it does not lie behind --from", param_hint="--to")
    if until > time.time():
        raise click.BadParameter("it has not come yet", param_hint="--to")
    past = Past(integration, since, until, frozenset(names))
    for objection in (objections := find_objections(configuration.integrations[integration], past, time.time())):
        echo(f"{integration}: {objection}", err=True)
    if objections and not (force or dry):
        raise click.UsageError("nothing is sent (--force sends all the same, --dry-run shows what that would be)")
    with failing(), Replay(configuration, past, anew=again or dry) as run:
        if not run.total:
            echo("no events came in that time", err=True)
        elif run.done == run.total:
            echo(f"all {run.total:,} events of that time have been replayed (--again begins anew)", err=True)
        elif run.done:
            echo(f"going on after {run.done:,} of {run.total:,} events", err=True)
        if run.done < run.total and not (yes or dry):
            which = f" ({', '.join(names)})" if names else ""
            click.confirm(f"Replay {run.total - run.done:,} events{which} to {integration}?", abort=True, err=True)
        with progressing(run.total - run.done) as advance, _stopping() as stopped:
            report = run.run(rate=rate, advance=advance, stopped=stopped, dry=dry)
    _show(report, as_json=as_json)
    if not report.finished:
        echo(f"stopped after {run.done:,} of {run.total:,} events: the same command goes on there", err=True)
    if report.failed or not report.finished:
        raise click.exceptions.Exit(1)


@contextmanager
def _stopping() -> Iterator[Callable[[float], bool]]:
    """SIGINT and SIGTERM as a wish to stop, not a break in the middle of something."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda seconds: stop.wait(max(0.0, seconds))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _show(report: "Report", *, as_json: bool) -> None:
    from rich.table import Table

    from deploy.console import PlainConsole, cells

    if as_json:
        echo_json(report.data(), indent=None)
        return
    table = Table("", "outcome", "rule", "why", box=None)
    table.columns[0].justify = "right"
    for row in report.data()["outcomes"]:
        table.add_row(f"{row['count']:,}", *cells(row["outcome"], row["rule"] or "", row["reason"]))
    PlainConsole().print(table)
