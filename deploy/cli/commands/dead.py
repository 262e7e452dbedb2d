from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deploy.cli import selection
from deploy.cli.options import broker_errors, config_option, load
from deploy.cli.selection import GROUP, PLACE, json_option, yes_option

if TYPE_CHECKING:
    from deploy.config.configuration import Configuration
    from deploy.replay.parked import ParkedRecord
    from streams.records.dead_letter import DeadLetter

integration_option = click.option("--integration", metavar="NAME", help="Only those of this integration.")
group_option = click.option("--group", metavar="ID", type=GROUP, help="Only those of this group, see `dead groups`.")
rule_option = click.option("--rule", metavar="NAME", help="Only those of this rule.")
id_option = click.option("--id", metavar="MESSAGE_ID", help="Only those of the event with this messageId.")


@click.group(short_help="List, show, replay or drop dead letters.")
def dead() -> None:
    """List, show, replay or drop dead letters.

    A dead letter is a delivery that the vendor refused for good. It is listed until it is replayed or
    dropped.
    """


@dead.command(short_help="Group dead letters by integration, rule and message.")
@click.option("--integration", metavar="NAME", help="Only the groups of this integration.")
@click.option("--limit", type=click.IntRange(1, 1000), default=7, show_default=True, help="How many groups to show.")
@click.option("--all", "show_all", is_flag=True, help="Also groups whose dead letters were all handled.")
@config_option
@json_option
def groups(folder: Path, integration: str | None, limit: int, *, show_all: bool, as_json: bool) -> None:
    """Group dead letters by integration, rule, reason and the vendor's message, most frequent first.

    Messages are shown without the parts that differ between events. A dead letter that was replayed or dropped, or
    whose event was delivered since, no longer counts. Needs a running ledger.
    """
    from deploy.cli.group_table import show_groups
    from deploy.ledger.client import LedgerClient
    from deploy.terminal.escaping import echo_json

    configuration = load(folder)
    parameters = {"integration": integration, "limit": limit, "all": int(show_all)}
    answer = LedgerClient(configuration.settings.ledger, folder).ask("/dead/groups", parameters)
    for group in answer["groups"]:
        line = _line(configuration, group["integration"], group["rule"], group["message"])
        group["line"] = line and line.removeprefix(f"{configuration.folder}/")
    if as_json:
        echo_json(answer)
    else:
        show_groups(answer)


@dead.command("list", short_help="Count dead letters and show the latest.")
@integration_option
@rule_option
@group_option
@id_option
@selection.selection_options
@click.option("--limit", default=20, show_default=True, help="How many to show individually.")
@json_option
def list_(folder: Path, places: Any, limit: int, as_json: bool, **options: Any) -> None:
    """Count dead letters by integration, rule and reason, and show the latest.

    Each is shown with its place, time, event and user (or message ID), followed by the reason and detail.
    """
    from deploy.replay.dead_letters import dead_letters

    configuration = load(folder)
    with broker_errors(configuration.settings.broker):
        found = dead_letters(configuration).find(selection.make_selection(places, **options))
        selection.show_list(found, _row, limit, ["integration", "rule", "reason"], as_json=as_json)


@dead.command(short_help="Print one dead letter in full.")
@click.argument("place", type=PLACE)
@config_option
def show(folder: Path, place: tuple[int, int]) -> None:
    """Print one dead letter in full: the delivery, the request (secrets masked) and the vendor's response.

    `line` is the rule file and line that sets the refused field today, or the line of the rule.
    """
    from deploy.replay.dead_letters import dead_letters

    configuration = load(folder)
    with broker_errors(configuration.settings.broker):
        found = dead_letters(configuration).find(selection.make_selection([place]))
        selection.show_one(found, lambda parked: _data(configuration, parked), place)


@dead.command(short_help="Send dead letters again, mapped with today's rules.")
@integration_option
@rule_option
@group_option
@id_option
@selection.selection_options
@click.option("--as-was", is_flag=True, help="Send the original payload instead of mapping the event again.")
@yes_option
@json_option
def replay(folder: Path, places: Any, as_was: bool, yes: bool, as_json: bool, **options: Any) -> None:
    """Send dead letters to their integrations again, mapped with today's rules.

    Deliveries keep their IDs. Exits with 1 if some cannot be sent.
    """
    from deploy.replay.dead_letters import dead_letters, replay_dead

    configuration = load(folder, "sources")
    chosen, parked_records = selection.make_selection(places, **options), dead_letters(configuration)
    with broker_errors(configuration.settings.broker):
        count = selection.confirm_count(parked_records.find(chosen), "dead letter", "Replay", yes=yes)
        with selection.progress_bar(count) as advance:
            report = replay_dead(configuration, parked_records.find(chosen), advance, as_was=as_was)
    if not selection.show_report(report, as_json=as_json):
        raise click.exceptions.Exit(1)


@dead.command(short_help="Mark dead letters as handled.")
@integration_option
@rule_option
@group_option
@id_option
@selection.selection_options
@yes_option
@json_option
def drop(folder: Path, places: Any, yes: bool, as_json: bool, **options: Any) -> None:
    """Mark dead letters as handled. The records stay in Kafka until retention removes them."""
    from deploy.replay.dead_letters import dead_letters, drop_dead

    configuration = load(folder)
    chosen, parked_records = selection.make_selection(places, **options), dead_letters(configuration)
    with broker_errors(configuration.settings.broker):
        count = selection.confirm_count(parked_records.find(chosen), "dead letter", "Drop", yes=yes)
        with selection.progress_bar(count) as advance:
            report = drop_dead(configuration, parked_records.find(chosen), advance)
    selection.show_report(report, as_json=as_json)


def _row(parked: "ParkedRecord[DeadLetter]") -> dict[str, Any]:
    letter, delivery = parked.letter, parked.letter.delivery
    return {
        "place": f"{parked.partition}:{parked.offset}",
        "died": letter.died,
        "integration": letter.integration,
        "rule": delivery.get("rule"),
        "reason": letter.reason,
        "detail": letter.detail,
        "event": delivery.get("event") or delivery.get("type"),
        "user": parked.user,
        "id": delivery.get("id"),
    }


def _data(configuration: "Configuration", parked: "ParkedRecord[DeadLetter]") -> dict[str, Any]:
    letter = parked.letter
    line = _line(configuration, letter.integration, letter.delivery["rule"], letter.detail)
    return {"place": f"{parked.partition}:{parked.offset}", "line": line, **letter._asdict()}


def _line(configuration: "Configuration", integration: str, rule: str, detail: str) -> str | None:
    from deploy.replay.rule_location import find_line

    found = configuration.integrations.get(integration)
    return find_line(found, rule, detail) if found else None
