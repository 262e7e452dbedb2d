"""Print what processes report, on one screen of 80 columns."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isinf

from rich.cells import cell_len, set_cell_size
from rich.console import JustifyMethod, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from deploy.terminal.durations import shorten
from deploy.terminal.escaping import escape_line
from streams.operations.overview import ROUTER, Overview, PipelineOverview
from streams.parsing.times import rfc3339, seconds_of
from streams.records.status import DeliveryState, ProcessStatus, VendorStatus

WIDTH = 80

MAX_PLACE = 30
"""Columns of a host and a process id; longer ones are cut."""

MAX_NAME = 24
MAX_ANSWER = 120
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
    yield from _rows(overview)
    yield Text(
        f"\ndead letters in the last hour: {'unknown' if dead is None else f'about {dead:,}' if dead else 'none'}"
    )
    if overview.problems:
        yield Text("\nto do", "bold red")
        for problem in overview.problems:
            yield Padding(Text(escape_line(problem.what)), (0, 0, 0, 2), expand=False)
            yield Padding(Text(escape_line(problem.action), "dim"), (0, 0, 0, 4), expand=False)


def _processes(overview: Overview) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    for name in ("process", "at", "rules", "lag", ""):
        justify: JustifyMethod = "right" if name == "lag" else "left"
        table.add_column(name, justify=justify, no_wrap=name != "", max_width=MAX_PLACE if name == "at" else None)
    for process in _sorted(overview.alive):
        lag = _lag_of(process)
        failing = [pipeline.name for pipeline in process.pipelines if pipeline.failing]
        note = Text(f"failing: {', '.join(failing)}" if failing else "", "red")
        table.add_row(process.kind, _place(process), process.rules, lag, note)
    for process in _sorted(overview.silent):
        ago = overview.at - seconds_of(process.reported)
        table.add_row(process.kind, _place(process), process.rules, "", Text(f"silent for {ago:.0f} s", "yellow"))
    return table


_TITLES = ("", "lag", "oldest", "drained in", "kept for", "state")


def _rows(overview: Overview) -> Iterator[RenderableType]:
    """Yield a line for the router and each integration, with the vendor's response below it."""
    cells: list[tuple[Sequence[str], str, Sequence[str]]] = [(_TITLES, "bold", ())]
    for row in overview.rows:
        state, lines = _state(row, overview.at)
        style = _STYLES.get(row.vendor.state, "") if row.vendor else "" if row is overview.router else "red"
        cells.append(((*_numbers(row, overview.at), state), style, lines))
    widths = [max(cell_len(line[column]) for line, _, _ in cells) for column in range(len(_TITLES) - 1)]
    for line, style, notes in cells:
        numbers = "  ".join(f"{text:>{wide}}" for text, wide in zip(line[1:-1], widths[1:], strict=True))
        yield Text.assemble(
            (f"{set_cell_size(line[0], widths[0])}  {numbers}", "bold" if line is _TITLES else ""),
            "  ",
            (line[-1], style),
        )
        for note in notes:
            yield Padding(Text(escape_line(note), "dim"), (0, 0, 0, 4), expand=False)


def _numbers(row: PipelineOverview, at: float) -> Sequence[str]:
    """Return the name, the lag, its age, the time until it is drained, and the time until retention removes it."""
    drain = row.drain_seconds
    return (
        escape_line(row.name)[:MAX_NAME],
        _number(row.lag),
        "-" if row.oldest is None else shorten(max(0.0, at - row.oldest)),
        "-" if not row.lag or drain is None else "growing" if isinf(drain) else shorten(drain),
        "-" if row.expires is None else shorten(max(0.0, row.expires - at)),
    )


def _state(row: PipelineOverview, now: float) -> tuple[str, Sequence[str]]:
    """Return the state of the router or an integration, and lines that explain it."""
    if row.paused:
        since = row.paused.when.replace("T", " ")[:16]
        return DeliveryState.PAUSED.value, [f"by {row.paused.who} since {since} UTC"]
    if row.name == ROUTER and row.shares and not any(share.pipeline.failing for share in row.shares):
        return "routing", []
    if row.vendor is None:
        failing = any(share.pipeline.failing for share in row.shares)
        return ("restarting" if failing else "unknown"), []
    if row.vendor.state is DeliveryState.DELIVERING:
        return row.vendor.state.value, []
    return row.vendor.state.value, list(_vendor_lines(row.vendor, now))


def _vendor_lines(vendor: VendorStatus, now: float) -> Iterable[str]:
    answer = " ".join(vendor.answer.split())
    answer = answer if len(answer) <= MAX_ANSWER else answer[: MAX_ANSWER - 1] + "…"
    said = f"{vendor.status} {answer}".strip() if vendor.status is not None else answer or vendor.reason
    wait = seconds_of(vendor.probe) - now if vendor.probe else 0.0
    probe = f"next probe {f'in {wait:.0f} s' if wait > 0 else 'now'}: " if vendor.probe else ""
    yield f"{probe}{said}"


def _lag_of(process: ProcessStatus) -> str:
    lags = [pipeline.lag for pipeline in process.pipelines if pipeline.lag is not None]
    return _number(sum(lags) if lags or not process.pipelines else None) if process.pipelines else ""


def _number(lag: int | None) -> str:
    return "?" if lag is None else f"{lag:,}"


def _place(process: ProcessStatus) -> str:
    return escape_line(f"{process.host}:{process.pid}")


def _sorted(processes: Mapping[str, ProcessStatus]) -> list[ProcessStatus]:
    return sorted(processes.values(), key=lambda it: (it.kind, it.host, it.pid))
