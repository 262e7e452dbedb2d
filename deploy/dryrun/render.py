"""Print explanations and changes on a terminal."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from deploy.config.json_diff import ABSENT, Difference, shown
from deploy.dryrun.diff import ChangeGroup, Changes, Side
from deploy.dryrun.explanation import (
    Account,
    ExplainedDelivery,
    ExplainedStep,
    Explanation,
    PayloadField,
    TriedRule,
)
from deploy.dryrun.likely_source import LikelySource
from deploy.dryrun.preview import request_data
from deploy.terminal.console import PlainConsole, cells, one_line, print_wrapped
from forwarders.api.contract import Request
from streams.plurals import counted
from streams.records.outcomes import FORWARDED
from transforms.model.values import MISSING

MAX_RULES, MAX_FIELDS = 3, 14
"""Rules and fields that are shown per integration if there are several."""

MAX_WIDTH = 100
"""The maximum width of an explanation; 80 if the output is not a terminal."""

_MARKS = {True: ("✓ ", "green"), False: ("✗ ", "red")}


def show_explanation(explanation: Explanation, *, whole: bool, likely: LikelySource | None = None) -> None:
    """Print an explanation, with `whole` in full; `likely` is the source if the user gave no source."""
    page = _Page()
    if likely is not None:
        page.line(0, _about(likely))
        page.blank()
    _show_steps(page, explanation.steps, 0, whole=whole)
    for account in explanation.accounts:
        page.blank()
        _show_account(page, account, whole=whole)


def _about(likely: LikelySource) -> Text:
    if likely.name is None:
        text = f"No --source given, and {likely.reason}: the steps of a source (rules, plan, enrichments) are left out."
    else:
        text = f"No --source given: explained as an event of {likely.name}, since {likely.reason}."
    return one_line((text, "yellow"))


class _Page:
    """Prints indented and wrapped lines, with an optional file and line at the right edge."""

    def __init__(self) -> None:
        self.console = PlainConsole()
        self.console.width = min(self.console.width, MAX_WIDTH)

    def line(self, indent: int, text: Text, where: str = "") -> None:
        """Print a line with `where` at the right edge; long text is wrapped, never truncated."""
        print_wrapped(self.console, text, indent, one_line((_short(where), "dim")) if where else None)

    def fits(self, indent: int, text: Text, where: str) -> bool:
        """Return whether the line needs no wrapping."""
        return indent + text.cell_len + 2 + len(_short(where)) <= self.console.width

    def blank(self) -> None:
        """Print an empty line."""
        self.console.print()


def _show_steps(page: _Page, steps: Sequence[ExplainedStep], indent: int, *, whole: bool) -> None:
    """Print each step with its rules and changes; consecutive steps with the same result share a line."""
    for (passed, detail, shared), group in groupby(steps, _line_of):
        names = ", ".join(dict.fromkeys(step.name for step in group)) if shared is None else shared.name
        mark, style = _MARKS[passed]
        page.line(indent, one_line((f"{mark}{names}", style), f": {detail}"))
        if shared is not None:
            _show_rules(page, [rule for rule in shared.rules if not rule.matched], whole=whole)
            for each in shared.differences:
                page.line(indent + 4, one_line(f"{each.field}: {shown(each.before)} → {shown(each.after)}"))


def _line_of(step: ExplainedStep) -> tuple[bool, str, ExplainedStep | None]:
    """Return the key by which consecutive steps share a line."""
    return step.passed, step.detail, step if step.rules or step.differences else None


def _show_account(page: _Page, account: Account, *, whole: bool) -> None:
    page.line(0, one_line((account.integration, "bold"), (f"  {account.path}", "dim")))
    _show_steps(page, account.steps, 2, whole=whole)
    _show_rules(page, [rule for rule in account.rules if not rule.matched], whole=whole)
    where = {rule.name: rule.where for rule in account.rules}
    for delivery in account.deliveries:
        _show_delivery(page, delivery, where, whole=whole)


def _show_rules(page: _Page, rules: Sequence[TriedRule], *, whole: bool) -> None:
    """Print the rules that did not match; those for another type or event are only counted."""
    relevant = [rule for rule in rules if not any(_tests_type_or_event(test) for test, _ in rule.untrue)]
    shown_rules = rules if whole else relevant[:MAX_RULES]
    for rule in shown_rules:
        untrue = [f"{test} (it is {shown(_absent(found), 40)})" for test, found in rule.untrue]
        page.line(2, one_line(("✗ ", "red"), f"{rule.name}: not {'; not '.join(untrue)}"), rule.where)
    left = len(rules) - len(shown_rules)
    if left:
        number = counted(left, "more rule" if shown_rules else "rule")
        page.line(2, one_line((f"✗ {number} did not match", "dim")))


def _tests_type_or_event(test: str) -> bool:
    return test.startswith(("type ", "event "))


def _show_delivery(page: _Page, delivery: ExplainedDelivery, where: dict[str, str], *, whole: bool) -> None:
    result = delivery.result
    style = "green" if result.outcome == FORWARDED else "yellow" if result.outcome != "dead" else "red"
    by = f" by {result.rule}" if result.rule else ""
    reason = f": {result.reason}" if result.reason else ""
    page.line(2, one_line((f"→ {result.outcome}{by}", f"bold {style}"), reason), where.get(result.rule, ""))
    for note in result.left_out:
        page.line(4, one_line(("left out: ", "yellow"), note))
    _show_fields(page, delivery.fields, whole=whole)
    if result.request:
        _show_request(page, result.request, whole=whole)


def _show_fields(page: _Page, fields: Sequence[PayloadField], *, whole: bool) -> None:
    present = [each for each in fields if each.value is not MISSING or each.failed]
    chosen = present if whole else present[:MAX_FIELDS]
    for each in chosen:
        _show_field(page, each, whole=whole)
    left = len(present) - len(chosen)
    if left:
        page.line(4, one_line((f"{counted(left, 'more field')} (name the integration to see them)", "dim")))
    left_out = [each.name for each in fields if each.value is MISSING and not each.failed]
    if left_out:
        page.line(4, one_line((f"not in the event: {', '.join(left_out)}", "dim")))


def _show_field(page: _Page, each: PayloadField, *, whole: bool) -> None:
    """Print a field with its value and origin, on two lines if one is too short."""
    value = ("left out", "red") if each.value is MISSING else (shown(each.value, 200 if whole else 48), "")
    field = one_line(f"{each.name or 'payload'}: ", value)
    reads = ", ".join(_read(*read, each.value) for read in each.reads[: 6 if whole else 2])
    origin = one_line(
        ("← ", "dim"), (f"{each.directive or 'constant'} ", "cyan"), reads, (" failed" if each.failed else "", "red")
    )
    origin.rstrip()
    both = Text("  ").join((field, origin))
    if page.fits(4, both, each.where):
        page.line(4, both, each.where)
    else:
        page.line(4, field, each.where)
        page.line(6, origin)


def _read(path: str, found: Any, value: Any) -> str:
    """Return a path with the value found there, unless that equals the field's value."""
    return path if found is not MISSING and found == value else f"{path} = {shown(_absent(found), 40)}"


def _show_request(page: _Page, request: Request, *, whole: bool) -> None:
    data = request_data(request)
    page.line(2, one_line((f"{data['method']} ", "bold"), data["url"]))
    for name, value in data["headers"].items():
        page.line(4, one_line((f"{name}: {value}", "dim")))
    if whole:
        page.console.print_json(data=data["body"])
    else:
        page.line(4, one_line(shown(data["body"], 150)))


def _short(where: str) -> str:
    """Return a file and line without the folders."""
    path = Path(where)
    return f"preset {path.name}" if path.parent.name in {"presets", path.stem} else path.name


def _absent(value: Any) -> Any:
    return ABSENT if value is MISSING else value


def show_changes(changes: Changes, limit: int) -> None:
    """Print the differences between two versions of the rules, at most `limit` kinds of change."""
    console = PlainConsole(soft_wrap=True)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for title, justify in (("integration", "left"), ("rule", "left"), ("same", "right"), ("changed", "right")):
        table.add_column(title, justify="right" if justify == "right" else "left")
    for integration, rule in changes.rules():
        changed = changes.changed[integration, rule]
        table.add_row(
            *cells(integration, rule or "none", f"{changes.same[integration, rule]:,}"),
            one_line((f"{changed:,}", "red" if changed else "")),
        )
    console.print(table)
    console.print(counted(changes.events, "event") + (f", {changes.rejected:,} rejected" if changes.rejected else ""))
    groups = changes.groups
    for change in groups[:limit]:
        _show_change(console, change)
    if len(groups) > limit:
        more = counted(len(groups) - limit, "more kind of change", "more kinds of change")
        console.print(f"\n{more} (--json has all)")


def _show_change(console: PlainConsole, change: ChangeGroup) -> None:
    console.print()
    sides = list(dict.fromkeys(_side(side) for side in (change.before, change.after)))
    console.print(
        one_line(
            (f"{change.integration}: {' → '.join(sides)}", "bold"),
            f"  {counted(change.count, 'event')}",
            (f", first {'in line' if isinstance(change.place, int) else 'at'} {change.place}", "dim"),
        )
    )
    _show_differences(console, change.differences)


def _show_differences(console: PlainConsole, differences: Sequence[Difference]) -> None:
    for each in differences:
        console.print(one_line(f"  {each.field}"))
        console.print(one_line((f"    - {shown(each.before)}", "red")))
        console.print(one_line((f"    + {shown(each.after)}", "green")))


def _side(side: Side) -> str:
    if not side.outcome:
        return "nothing"
    by = f" by {side.rule}" if side.rule else ""
    return f"{side.outcome}{by}" + (f" ({side.reason})" if side.reason else "")
