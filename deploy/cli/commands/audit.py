from pathlib import Path
from typing import Any

import click

from deploy.cli.options import config_option, load
from deploy.cli.selection import TIME, json_option
from deploy.terminal.escaping import echo, echo_json, escape_line


@click.command(short_help="Check that every event has its outcomes.")
@click.option("--since", type=TIME, default="1h", show_default=True, help="Events that came at this time or later.")
@click.option("--until", type=TIME, help="Events that came before this time.")
@config_option
@json_option
@click.pass_context
def audit(context: click.Context, since: float, until: float | None, folder: Path, *, as_json: bool) -> None:
    """Check that every received event has its outcomes, and list events that lack one.

    Compares the ledger with Kafka: each event before the router's committed offset must have been read, and must have
    an outcome for each integration. Events that wait for delivery are counted apart. Exits with 1 if the books do not
    balance.
    """
    from deploy.ledger.client import LedgerClient

    configuration = load(folder)
    client = LedgerClient(configuration.settings.ledger, folder)
    report = client.ask("/audit", {"since": int(since), "until": None if until is None else int(until)})
    if as_json:
        echo_json(report)
    else:
        _show(report)
    context.exit(0 if report["balanced"] else 1)


def _show(report: dict[str, Any]) -> None:
    from rich.table import Table

    from deploy.cli.selection import WIDTH
    from deploy.terminal.console import PlainConsole, cells
    from streams.plurals import counted

    rejected = f", {report['rejected']:,} rejected" if report["rejected"] else ""
    echo(f"{counted(report['events'], 'event')} read by routers{rejected}")
    if report["lines"]:
        table = Table("source", "integration", box=None)
        names = ["accepted", "finished", "in_flight", "missing"]
        # Retention rarely removes anything that was not read.
        names += ["lost"] if any(line["lost"] for line in report["lines"]) else []
        for name in names:
            table.add_column(name.replace("_", " "), justify="right")
        for line in report["lines"]:
            numbers = (f"{line[name]:,}" for name in names)
            table.add_row(*cells(line["source"], line["integration"]), *numbers)
        PlainConsole(width=WIDTH).print(table)
    if report["in_flight"]:
        echo(f"{counted(report['in_flight'], 'delivery', 'deliveries')} in flight, the oldest event is of "
             f"{escape_line(report['oldest_in_flight'])}")  # fmt: skip
    for part in report["not_audited"]:
        echo(f"not audited: {escape_line(part['topic'])}:{part['partition']}, of which the ledger knows no event")
    if report["lost"]:
        echo(f"{counted(report['lost'], 'event')} lost: Kafka's retention removed them before a router read them")
    if report["balanced"]:
        echo("the books balance")
        return
    echo("\nthe books do not balance:")
    listed = 0
    for finding in report["findings"]:
        listed += finding["last"] - finding["first"] + 1
        echo(f"  {_place(finding)}  {escape_line(_what(finding))}")
    if left := sum(report["problems"].values()) - listed:
        echo(f"  and {left:,} more")
    first = next(iter(report["findings"]), None)
    if first:
        echo(f"\nshow one: turnout why --at {escape_line(first['topic'])}:{first['partition']}:{first['first']}")


def _place(finding: dict[str, Any]) -> str:
    last = f"-{finding['last']}" if finding["last"] != finding["first"] else ""
    return f"{escape_line(finding['topic'])}:{finding['partition']}:{finding['first']}{last}"


def _what(finding: dict[str, Any]) -> str:
    """Describe a finding: the problem, the integration and rule, and contradictory outcomes."""
    rule = f" rule {finding['rule']}" if finding["rule"] else ""
    where = f" {finding['integration']}{rule}" if finding["integration"] else ""
    outcomes = f" ({' and '.join(finding['outcomes'])})" if finding["outcomes"] else ""
    return f"{finding['problem']}{':' if where else ''}{where}{outcomes}"
