"""Show counts of events and the funnel."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table

from deploy.cli.selection import WIDTH
from deploy.terminal.console import PlainConsole, cells
from deploy.terminal.escaping import echo
from streams.plurals import counted
from streams.records.outcomes import FORWARDED, Outcome, Stage


def funnel_rows(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of the funnel by source and integration, from counts by source, integration and outcome.

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
            "lost": outcomes[Outcome.LOST],
            "delivered": outcomes[Outcome.DELIVERED],
        }
        for (source, integration), outcomes in sorted(found.items())
    ]


_NOT_SENT = [
    outcome
    for outcome in Outcome
    if outcome.stages != (Stage.FORWARDER,) and outcome not in (Outcome.DEAD, Outcome.LOST)
]


def show_funnel(answer: Mapping[str, Any]) -> None:
    """Print the funnel, one line per source and integration."""
    _show_total(answer)
    names = ["outcomes", "not_sent", "waiting", "expired", "dead", "delivered"]
    if any(row["lost"] for row in answer["rows"]):
        names.insert(-1, "lost")
    table = Table("source", "integration", box=None)
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    for row in answer["rows"]:
        table.add_row(*cells(row["source"] or "-", row["integration"]), *(f"{row[name]:,}" for name in names))
    if answer["rows"]:
        PlainConsole(width=WIDTH).print(table)


def show_counts(answer: Mapping[str, Any]) -> None:
    """Print the counts of the groups."""
    _show_total(answer)
    if not answer["rows"]:
        return
    table = Table(*cells(*answer["by"]), box=None)
    table.add_column("count", justify="right")
    for row in answer["rows"]:
        table.add_row(*cells(*(row[name] or "-" for name in answer["by"])), f"{row['count']:,}")
    PlainConsole(width=WIDTH).print(table)


def _show_total(answer: Mapping[str, Any]) -> None:
    rejected = f", {answer['rejected']:,} rejected" if answer["rejected"] else ""
    lost = f", {answer['lost']:,} lost before a router read them" if answer["lost"] else ""
    echo(f"{counted(answer['accepted'], 'event')} since {answer['since']}{rejected}{lost}")
