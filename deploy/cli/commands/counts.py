from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from deploy.cli.options import check_name, config_option, load
from deploy.cli.selection import TIME, json_option
from deploy.terminal.escaping import echo, echo_json
from streams.plurals import counted
from streams.records.outcomes import FORWARDED, Outcome, Stage


@click.command(short_help="Count events by outcome, integration and more.")
@click.option("--since", type=TIME, default="1h", show_default=True, help="Events of this time or later.")
@click.option("--until", type=TIME, help="Events before this time.")
@click.option(
    "--by",
    default="integration,outcome",
    show_default=True,
    metavar="NAMES",
    help="Group by these: time, source, type, event, integration, rule, outcome, reason.",
)
@click.option("--step", type=click.Choice(["minute", "hour", "day"]), help="Precision; by default by the length.")
@click.option("--funnel", is_flag=True, help="How far events came: one line for each source and integration.")
@config_option
@json_option
def counts(
    since: float, until: float | None, by: str, step: str | None, folder: Path, *, funnel: bool, as_json: bool
) -> None:
    """Count the events that came and what happened to them.

    Grouped by source, type or event alone, events are counted. Otherwise outcomes are: one for each event, integration
    and rule. Repeated records count once. Times are those of the events. They are rounded to minutes, up to 3 hours; to
    hours, up to 8 days and beyond the retention of events; else to days. Counts by hour and day go back 13 months.
    """
    from deploy.ledger.client import LedgerClient
    from streams.ledger.summary import GROUPS

    groups = [name.strip() for name in by.split(",") if name.strip()]
    if not groups:
        raise click.BadParameter(f"--by: name one or more of {', '.join(GROUPS)}")
    for name in groups:
        check_name("group", name, GROUPS, param_hint="--by")
    if funnel:
        groups = ["source", "integration", "outcome"]
    configuration = load(folder)
    parameters = {"since": int(since), "until": None if until is None else int(until), "step": step}
    answer = LedgerClient(configuration.settings.ledger, folder).ask("/counts", {**parameters, "by": ",".join(groups)})
    if funnel:
        answer["rows"] = funnel_rows(answer["rows"])
        answer["by"] = ["source", "integration"]
    if as_json:
        echo_json(answer)
    elif funnel:
        _show_funnel(answer)
    else:
        _show(answer)


def funnel_rows(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return how far events came, by source and integration, from counts by source, integration and outcome.

    Of the `outcomes` of an integration, `sent` were forwarded to the vendor. Of these, `waiting` are not finished.
    """
    found: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for row in rows:
        if row["integration"]:
            found[row["source"], row["integration"]][row["outcome"]] += row["count"]
    return [
        {
            "source": source,
            "integration": integration,
            "outcomes": outcomes.total(),
            "not_sent": sum(outcomes[outcome] for outcome in _NOT_SENT),
            "waiting": outcomes[FORWARDED],
            "expired": outcomes[Outcome.EXPIRED],
            "dead": outcomes[Outcome.DEAD],
            "delivered": outcomes[Outcome.DELIVERED],
        }
        for (source, integration), outcomes in sorted(found.items())
    ]


_NOT_SENT = [outcome for outcome in Outcome if outcome.stages != (Stage.FORWARDER,) and outcome != Outcome.DEAD]


def _show_funnel(answer: dict[str, Any]) -> None:
    from rich.table import Table

    from deploy.cli.selection import WIDTH
    from deploy.terminal.console import PlainConsole, cells

    _show_total(answer)
    names = ["outcomes", "not_sent", "waiting", "expired", "dead", "delivered"]
    table = Table("source", "integration", box=None)
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    for row in answer["rows"]:
        table.add_row(*cells(row["source"] or "-", row["integration"]), *(f"{row[name]:,}" for name in names))
    if answer["rows"]:
        PlainConsole(width=WIDTH).print(table)


def _show(answer: dict[str, Any]) -> None:
    from rich.table import Table

    from deploy.cli.selection import WIDTH
    from deploy.terminal.console import PlainConsole, cells

    _show_total(answer)
    if not answer["rows"]:
        return
    table = Table(*cells(*answer["by"]), box=None)
    table.add_column("count", justify="right")
    for row in answer["rows"]:
        table.add_row(*cells(*(row[name] or "-" for name in answer["by"])), f"{row['count']:,}")
    PlainConsole(width=WIDTH).print(table)


def _show_total(answer: dict[str, Any]) -> None:
    rejected = f", {answer['rejected']:,} rejected" if answer["rejected"] else ""
    echo(f"{counted(answer['accepted'], 'event')} since {answer['since']}{rejected}")
