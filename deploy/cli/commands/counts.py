from pathlib import Path

import click

from deploy.cli.options import check_name, config_option, load
from deploy.cli.selection import TIME, json_option
from deploy.terminal.escaping import echo_json


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
    """Count received events and their outcomes.

    Grouped only by source, type or event, it counts events; otherwise it counts outcomes, one per event, integration
    and rule. Repeated records count once. Times are those of the events. They are rounded to minutes, up to 3 hours; to
    hours, up to 8 days and beyond the retention of events; else to days. Counts by hour and day go back 13 months.
    """
    from deploy.cli.count_tables import funnel_rows, show_counts, show_funnel
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
        show_funnel(answer)
    else:
        show_counts(answer)
