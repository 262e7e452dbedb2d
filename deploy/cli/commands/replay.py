import math
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
    from deploy.config.configuration import Configuration
    from deploy.replay.replay_range import Replay, ReplayRange, Report
    from deploy.replay.undelivered import KnownDeliveries


@click.command(short_help="Send past events to an integration again.")
@click.option("--integration", required=True, metavar="NAME", help="The integration to send to.")
@click.option("--from", "--since", "since", required=True, type=TIME, help="Events since this time: 30m, 12h, 7d "
              "(ago), 2026-05-01, 2026-05-01T12:00Z.")  # fmt: skip
@click.option("--to", "--until", "until", type=TIME, help="Events before this time. Only with --undelivered it may be "
              "left out: now.")  # fmt: skip
@click.option("--undelivered", is_flag=True, help="Only events that were not delivered and do not wait in Kafka; needs "
              "a ledger.")  # fmt: skip
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
    until: float | None,
    names: tuple[str, ...],
    rate: float,
    *,
    undelivered: bool,
    dry: bool,
    force: bool,
    again: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Send the events of a period to an integration again, mapped with today's rules.

    Deliveries keep their IDs, so that vendors that deduplicate by ID still do. If the vendor does not deduplicate, or
    no longer remembers the IDs, --force is required. --undelivered leaves out deliveries that the ledger knows to have
    arrived, or that a forwarder still has; after an outage it repeats nothing. Ctrl-C stops the replay, and the command
    that it prints continues it; the position is stored in Kafka. Exits with 1 if it was stopped, or if events cannot be
    mapped.
    """
    from deploy.replay.replay_range import Replay, ReplayRange, find_objections

    configuration = load(folder, "sources")
    check_name("integration", integration, configuration.integrations, param_hint="--integration")
    until = _check(configuration, integration, since, until, undelivered=undelivered)
    replay_range = ReplayRange(integration, since, until, frozenset(names), undelivered)
    echo(f"from {_text(since)} to {_text(until)}", err=True)
    for objection in (
        objections := find_objections(configuration.integrations[integration], replay_range, time.time())
    ):
        echo(f"{integration}: {objection}", err=True)
    if objections and not (force or dry):
        raise click.UsageError("nothing is sent (--force sends anyway, --dry-run shows what would be sent)")
    known = _ask_ledger(configuration, replay_range) if undelivered else None
    with (
        broker_errors(configuration.settings.broker),
        Replay(configuration, replay_range, anew=again or dry, known=known) as run,
    ):
        _show_position(run)
        if run.done < run.total and not (yes or dry):
            which = f" ({', '.join(names)})" if names else ""
            number = counted(run.total - run.done, "event")
            verb = "Replay the undelivered of" if undelivered else "Replay"
            click.confirm(f"{verb} {number}{which} to {integration}?", abort=True, err=True)
        with progress_bar(run.total - run.done) as advance, _stop_on_signals() as stopped:
            report = run.run(rate=rate, advance=advance, stopped=stopped, dry=dry)
    _show(report, as_json=as_json)
    if not report.finished:
        # Times relative to now would mean another period in the next run.
        period = f"--from {_text(since)} --to {_text(until)}{' --undelivered' if undelivered else ''}"
        echo(f"stopped after {run.done:,} of {counted(run.total, 'event')}; to resume: {period}", err=True)
    if report.failed or not report.finished:
        raise click.exceptions.Exit(1)


def _check(
    configuration: "Configuration", integration: str, since: float, until: float | None, *, undelivered: bool
) -> float:
    """Check the period and the integration; returns the end of the period."""
    if configuration.integrations[integration].state == "draining":
        raise click.BadParameter(f"{integration} is draining and accepts no new deliveries", param_hint="--integration")
    if until is None:
        if not undelivered:
            raise click.UsageError("--to is missing; with --undelivered it is now")
        until = time.time()
    if not since < until:
        raise click.BadParameter("--to must be after --from", param_hint="--to")
    if until > time.time():
        raise click.BadParameter("--to must not be in the future", param_hint="--to")
    return until


def _show_position(run: "Replay") -> None:
    if not run.total:
        echo("no events in that period", err=True)
    elif run.done == run.total:
        echo(f"all {counted(run.total, 'event')} of that period have been replayed (--again starts over)", err=True)
    elif run.done:
        echo(f"resuming after {run.done:,} of {counted(run.total, 'event')}", err=True)


def _ask_ledger(configuration: "Configuration", replay_range: "ReplayRange") -> "KnownDeliveries":
    """Return the deliveries that the ledger knows; raises LedgerAwayError if no ledger answers."""
    from deploy.ledger.client import LedgerClient
    from deploy.replay.undelivered import KnownDeliveries

    name = replay_range.integration
    # In whole seconds, so that the ledger's answer covers all events of the period.
    since, until = math.floor(replay_range.since), math.ceil(replay_range.until)
    parameters = {"integration": name, "since": since, "until": until}
    answer = LedgerClient(configuration.settings.ledger, configuration.folder).ask("/deliveries", parameters)
    single = configuration.integrations[name].route(configuration.topics).single
    return KnownDeliveries(answer["partitions"], by_rule=not single)


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
