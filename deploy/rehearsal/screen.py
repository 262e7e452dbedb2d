"""Explanations and changes for people, on a terminal."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from deploy.console import PlainConsole, cells, one_line
from deploy.rehearsal.changes import Change, Changes, Side
from deploy.rehearsal.comparison import ABSENT, Difference, shown
from deploy.rehearsal.explanation import Account, Delivery, Explanation, PayloadField, Step, TriedRule
from deploy.rehearsal.preview import request_data
from forwarders.contract import Request
from streams.topics import FORWARDED
from transforms.model.values import MISSING

FEW_RULES, FEW_FIELDS = 3, 14
"""How much is shown of an integration where it is not the only one."""

_MARKS = {True: ("✓", "green"), False: ("✗", "red")}


def show_explanation(explanation: Explanation, *, whole: bool) -> None:
    """Print an explanation; `whole` leaves nothing out."""
    console = _console()
    console.print(*_steps(explanation.steps), sep="  ")
    for step in explanation.steps:
        if step.rules or step.differences:
            console.print(one_line((f"{step.name}:", "dim")))
        _show_rules(console, [rule for rule in step.rules if not rule.matched], whole=whole)
        _show_differences(console, step.differences)
    for account in explanation.accounts:
        console.print()
        _show_account(console, account, whole=whole)


def _console() -> PlainConsole:
    console = PlainConsole(soft_wrap=True)
    if not console.is_terminal:
        console.width = 120
    return console


def _steps(steps: Sequence[Step]) -> Iterator[Text]:
    for step in steps:
        mark, style = _MARKS[step.passed]
        yield one_line((f"{mark} {step.name}", style), f": {step.detail}")


def _show_account(console: PlainConsole, account: Account, *, whole: bool) -> None:
    console.print(one_line((account.integration, "bold"), (f"  {account.path}", "dim")))
    if account.steps:
        console.print(one_line("  "), *_steps(account.steps), sep="  ")
    _show_rules(console, [rule for rule in account.rules if not rule.matched], whole=whole)
    where = {rule.name: rule.where for rule in account.rules}
    for delivery in account.deliveries:
        _show_delivery(console, delivery, where, whole=whole)


def _show_rules(console: PlainConsole, rules: Sequence[TriedRule], *, whole: bool) -> None:
    """The rules that did not match; those that ask for another type or event say least, and are counted only."""
    telling = [rule for rule in rules if not any(_asks_for_another(test) for test, _ in rule.untrue)]
    shown_rules = rules if whole else telling[:FEW_RULES]
    for rule in shown_rules:
        untrue = [f"{test} (it is {shown(_absent(found), 40)})" for test, found in rule.untrue]
        console.print(
            one_line(("  ✗ ", "red"), f"{rule.name}: not {'; not '.join(untrue)}", (f"  {_short(rule.where)}", "dim"))
        )
    if len(rules) > len(shown_rules):
        more = "more " if shown_rules else ""
        console.print(one_line((f"  ✗ {len(rules) - len(shown_rules)} {more}rules did not match", "dim")))


def _asks_for_another(test: str) -> bool:
    return test.startswith(("type ", "event "))


def _show_delivery(console: PlainConsole, delivery: Delivery, where: dict[str, str], *, whole: bool) -> None:
    taken = delivery.taken
    style = "green" if taken.outcome == FORWARDED else "yellow" if taken.outcome != "dead" else "red"
    by = f" by {taken.rule}" if taken.rule else ""
    reason = f": {taken.reason}" if taken.reason else ""
    console.print(
        one_line(
            (f"  → {taken.outcome}{by}", f"bold {style}"), reason, (f"  {_short(where.get(taken.rule, ''))}", "dim")
        )
    )
    _show_fields(console, delivery.fields, whole=whole)
    if taken.request:
        _show_request(console, taken.request, whole=whole)


def _show_fields(console: PlainConsole, fields: Sequence[PayloadField], *, whole: bool) -> None:
    there = [each for each in fields if each.value is not MISSING or each.failed]
    chosen = there if whole else there[:FEW_FIELDS]
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False, pad_edge=False)
    names = max((len(each.name or "payload") for each in chosen), default=0)
    places = max((len(_short(each.where)) for each in chosen), default=0)
    for width in (min(names + 4, 44), 8, 20, places):
        table.add_column(no_wrap=True, overflow="ellipsis", min_width=width)
    for each in chosen:
        value = (
            one_line(("left out", "red")) if each.value is MISSING else one_line(shown(each.value, 60 if whole else 36))
        )
        origin = one_line(
            (f"{each.directive or 'constant'} ", "cyan"),
            ", ".join(f"{path} = {shown(_absent(found), 40)}" for path, found in each.reads[: 6 if whole else 2]),
            (" failed" if each.failed else "", "red"),
        )
        table.add_row(one_line(f"    {each.name or 'payload'}"), value, origin, one_line((_short(each.where), "dim")))
    if chosen:
        console.print(table)
    if len(there) > len(chosen):
        console.print(
            one_line((f"    {len(there) - len(chosen)} more fields (name the integration to see them)", "dim"))
        )
    left_out = [each.name for each in fields if each.value is MISSING and not each.failed]
    if left_out:
        console.print(one_line((f"    not in the event: {', '.join(left_out)}", "dim")))


def _show_request(console: PlainConsole, request: Request, *, whole: bool) -> None:
    data = request_data(request)
    console.print(one_line((f"  {data['method']} ", "bold"), data["url"]))
    for name, value in data["headers"].items():
        console.print(one_line((f"    {name}: {value}", "dim")))
    if whole:
        console.print_json(data=data["body"])
    else:
        console.print(one_line(f"    {shown(data['body'], 150)}"))


def _short(where: str) -> str:
    """A file and line without the folders."""
    path = Path(where)
    return f"preset {path.name}" if path.parent.name == "presets" else path.name


def _absent(value: Any) -> Any:
    return ABSENT if value is MISSING else value


def show_changes(changes: Changes, few: int) -> None:
    """Print what differs between two versions of the rules, `few` changes at most."""
    console = _console()
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
    console.print(f"{changes.events:,} events" + (f", {changes.rejected:,} rejected" if changes.rejected else ""))
    groups = changes.groups
    for change in groups[:few]:
        _show_change(console, change)
    if len(groups) > few:
        console.print(f"\n{len(groups) - few} more kinds of change (--json has all)")


def _show_change(console: PlainConsole, change: Change) -> None:
    console.print()
    sides = list(dict.fromkeys(_side(side) for side in (change.before, change.after)))
    console.print(
        one_line(
            (f"{change.integration}: {' → '.join(sides)}", "bold"),
            f"  {change.count:,} event{'' if change.count == 1 else 's'}",
            (f", first in line {change.line}", "dim"),
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
