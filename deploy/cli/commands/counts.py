from pathlib import Path
from typing import Any

import click

from deploy.cli.options import check_name, config_option, load
from deploy.cli.selection import TIME, json_option
from deploy.terminal.escaping import echo, echo_json


@click.command(short_help="Count events by outcome, integration and more.")
@click.option("--since", type=TIME, default="1h", show_default=True, help="Events of this time or later.")
@click.option("--until", type=TIME, help="Events before this time.")
@click.option(
    "--by",
    default="integration,outcome",
    show_default=True,
    metavar="NAMES",
    help="Group by these: source, type, event, integration, rule, outcome, reason.",
)
@config_option
@json_option
def counts(since: float, until: float | None, by: str, folder: Path, *, as_json: bool) -> None:
    """Count the events that came and what happened to them.

    Grouped by source, type or event alone, events are counted. Otherwise outcomes are: one for each event, integration
    and rule. Repeated records count once. Times are those of the events, by minute; beyond the retention of events,
    by hour.
    """
    from deploy.ledger.client import LedgerClient
    from streams.ledger.summary import GROUPS

    groups = [name.strip() for name in by.split(",") if name.strip()]
    if not groups:
        raise click.BadParameter(f"--by: name one or more of {', '.join(GROUPS)}")
    for name in groups:
        check_name("group", name, GROUPS, param_hint="--by")
    configuration = load(folder)
    answer = LedgerClient(configuration.settings.ledger, folder).ask(
        "/counts", {"since": int(since), "until": None if until is None else int(until), "by": ",".join(groups)}
    )
    if as_json:
        echo_json(answer)
    else:
        _show(answer)


def _show(answer: dict[str, Any]) -> None:
    from rich.table import Table

    from deploy.cli.selection import WIDTH
    from deploy.terminal.console import PlainConsole, cells
    from streams.plurals import counted

    rejected = f", {answer['rejected']:,} rejected" if answer["rejected"] else ""
    echo(f"{counted(answer['accepted'], 'event')} since {answer['since']}{rejected}")
    if not answer["rows"]:
        return
    table = Table(*cells(*answer["by"]), box=None)
    table.add_column("count", justify="right")
    for row in answer["rows"]:
        table.add_row(*cells(*(row[name] or "-" for name in answer["by"])), f"{row['count']:,}")
    PlainConsole(width=WIDTH).print(table)
