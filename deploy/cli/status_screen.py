"""Print what processes report, on one screen of 80 columns."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from deploy.terminal.escaping import escape_line
from streams.operations.overview import IntegrationOverview, Overview
from streams.parsing.times import rfc3339, seconds_of
from streams.records.status import DeliveryState, ProcessStatus, VendorStatus

WIDTH = 80

MAX_PLACE = 30
"""Columns of a host and a process id; longer ones are cut."""

MAX_ANSWER = 90
"""Characters of a vendor's answer."""

_STYLES = {
    DeliveryState.DELIVERING: "green",
    DeliveryState.FAILING: "yellow",
    DeliveryState.REFUSED: "red",
    DeliveryState.PAUSED: "yellow",
}


def render(overview: Overview, dead: int | None) -> Iterator[RenderableType]:
    """Yield the parts of the screen."""
    time = rfc3339(overview.at).replace("T", " ")[:19]
    releases = sorted({process.release for process in overview.alive.values()})
    yield Text.assemble(("turnout", "bold"), f" {', '.join(releases)}   {time} UTC\n")
    yield _processes(overview) if overview.alive or overview.silent else Text("no process reports")
    yield Text()
    yield _integrations(overview)
    yield Text(
        f"\ndead letters in the last hour: {'unknown' if dead is None else f'about {dead:,}' if dead else 'none'}"
    )
    if overview.problems:
        yield Text("\nto do", "bold red")
        for problem in overview.problems:
            yield Text(f"  {escape_line(problem)}")


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    for name in columns:
        table.add_column(
            name,
            justify="right" if name == "lag" else "left",
            no_wrap=name != "",
            max_width=MAX_PLACE if name == "at" else None,
        )
    return table


def _processes(overview: Overview) -> Table:
    table = _table("process", "at", "rules", "lag", "")
    for process in _sorted(overview.alive):
        lag = _lag_of(process)
        failing = [pipeline.name for pipeline in process.pipelines if pipeline.failing]
        note = Text(f"failing: {', '.join(failing)}" if failing else "", "red")
        table.add_row(process.kind, _place(process), process.rules, lag, note)
    for process in _sorted(overview.silent):
        ago = overview.at - seconds_of(process.reported)
        table.add_row(process.kind, _place(process), process.rules, "", Text(f"silent for {ago:.0f} s", "yellow"))
    return table


def _integrations(overview: Overview) -> Table:
    table = _table("integration", "lag", "state", "")
    for row in overview.integrations:
        state, lines = _state(row, overview.at)
        style = _STYLES.get(row.vendor.state, "") if row.vendor else "red"
        table.add_row(row.name, _number(row.lag), Text(state, style), Text("\n".join(map(escape_line, lines))))
    return table


def _state(row: IntegrationOverview, now: float) -> tuple[str, Sequence[str]]:
    """Return the state of an integration, and lines that explain it."""
    if row.paused:
        since = row.paused.when.replace("T", " ")[:16]
        return DeliveryState.PAUSED.value, [f"by {row.paused.who}", f"since {since} UTC"]
    if row.vendor is None:
        failing = any(share.pipeline.failing for share in row.shares)
        return ("restarting" if failing else "unknown"), []
    if row.vendor.state is DeliveryState.DELIVERING:
        return row.vendor.state.value, []
    return row.vendor.state.value, list(_vendor_lines(row.vendor, now))


def _vendor_lines(vendor: VendorStatus, now: float) -> Iterable[str]:
    answer = " ".join(vendor.answer.split())
    answer = answer if len(answer) <= MAX_ANSWER else answer[: MAX_ANSWER - 1] + "…"
    yield f"{vendor.status} {answer}".strip() if vendor.status is not None else answer or vendor.reason
    if vendor.probe:
        wait = seconds_of(vendor.probe) - now
        yield f"next probe in {wait:.0f} s" if wait > 0 else "next probe now"


def _lag_of(process: ProcessStatus) -> str:
    lags = [pipeline.lag for pipeline in process.pipelines if pipeline.lag is not None]
    return _number(sum(lags) if lags or not process.pipelines else None) if process.pipelines else ""


def _number(lag: int | None) -> str:
    return "?" if lag is None else f"{lag:,}"


def _place(process: ProcessStatus) -> str:
    return escape_line(f"{process.host}:{process.pid}")


def _sorted(processes: Mapping[str, ProcessStatus]) -> list[ProcessStatus]:
    return sorted(processes.values(), key=lambda it: (it.kind, it.host, it.pid))
