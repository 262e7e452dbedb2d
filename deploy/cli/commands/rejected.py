from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deploy.cli import selection
from deploy.cli.options import broker_errors, check_name, config_option, load
from deploy.cli.selection import PLACE, json_option, yes_option
from deploy.terminal.failures import Misconfigured

if TYPE_CHECKING:
    from deploy.config.configuration import Configuration
    from deploy.replay.parked import ParkedRecord, ParkedRecords
    from streams.records.rejected import Rejected
    from transforms import Rules


@click.group(short_help="List, show or replay rejected events.")
def rejected() -> None:
    """List rejected events, show one, or send them again after repair by rules.

    A rejected event was accepted by the collector or read from Kafka, but is invalid. Its reason and detail say why.
    """


@rejected.command("list", short_help="Count rejected events and show the latest.")
@selection.selection_options
@click.option("--limit", default=20, show_default=True, help="How many to show individually.")
@json_option
def list_(folder: Path, places: Any, limit: int, as_json: bool, **options: Any) -> None:
    """Count rejected events by source and reason, and show the latest.

    Each is shown with its place, time, event and user (or message ID), followed by the reason and detail.
    """
    configuration = load(folder)
    with broker_errors(configuration.settings.broker):
        found = _parked(configuration).find(selection.make_selection(places, **options))
        selection.show_list(found, _row, limit, ["source", "reason"], as_json=as_json)


@rejected.command(short_help="Print one rejected event in full.")
@click.argument("place", type=PLACE)
@config_option
def show(folder: Path, place: tuple[int, int]) -> None:
    """Print one rejected event in full, as it arrived."""
    configuration = load(folder)
    with broker_errors(configuration.settings.broker):
        selection.show_one(_parked(configuration).find(selection.make_selection([place])), _data, place)


@rejected.command(short_help="Send rejected events again, repaired by rules.")
@selection.selection_options
@click.option(
    "--rules",
    "file",
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A rule file to repair events: a rule's result is merged into the event, and null removes a key.",
)
@click.option("--source", metavar="NAME", help="The source to send them as. Default: their own.")
@yes_option
@json_option
def replay(
    folder: Path,
    places: Any,
    file: Path | None,
    source: str | None,
    yes: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Send rejected events again, with their original messageId.

    Events that are still invalid are not sent, and the command exits with 1.
    """
    from deploy.replay.parked import ReplayProducer
    from deploy.replay.replay import replay_rejected

    configuration = load(folder)
    if source is not None:
        check_name("source", source, configuration.source_files)
    repair = _read_rules(file) if file else None
    chosen, parked_records = selection.make_selection(places, **options), _parked(configuration)
    with broker_errors(configuration.settings.broker):
        count = selection.confirm_count(parked_records.find(chosen), "rejected event", "Replay", yes=yes)
        with (
            ReplayProducer(configuration.settings.broker, configuration.topics.rejected) as producer,
            selection.progress_bar(count) as advance,
        ):
            report = replay_rejected(configuration, producer, parked_records.find(chosen), advance, repair, source)
    if not selection.show_report(report, as_json=as_json):
        raise click.exceptions.Exit(1)


def _read_rules(file: Path) -> "Rules":
    from transforms import RuleError, read_rules
    from transforms.documents import Document

    try:
        rules, errors = read_rules(Document.read(file))
    except RuleError as error:
        raise Misconfigured([error]) from None
    if rules is None or errors:
        raise Misconfigured(errors)
    return rules


def _parked(configuration: "Configuration") -> "ParkedRecords[Rejected]":
    from deploy.replay.parked import ParkedRecords
    from streams.records.rejected import Rejected

    return ParkedRecords(
        configuration.settings.broker,
        configuration.topics.rejected,
        lambda record: Rejected.decode(record.key, record.value, record.headers),
    )


def _row(parked: "ParkedRecord[Rejected]") -> dict[str, Any]:
    from streams.parsing.times import rfc3339

    letter = parked.letter
    event = _event(letter.value)
    return {
        "place": f"{parked.partition}:{parked.offset}",
        "reason": letter.reason,
        "source": letter.source,
        "detail": letter.detail,
        "time": rfc3339(parked.at),
        "event": event.get("event") or event.get("type"),
        "user": parked.user or event.get("userId") or event.get("anonymousId"),
        "id": event.get("messageId"),
    }


def _event(value: bytes | None) -> dict[str, Any]:
    """Return a rejected event's data; empty if it is not a JSON object."""
    from streams.parsing.lenient_json import read_object

    return read_object(value) or {}


def _data(parked: "ParkedRecord[Rejected]") -> dict[str, Any]:
    value = parked.letter.value
    event = None if value is None else value.decode(errors="replace")
    origin = parked.letter.origin
    return {**_row(parked), "from": origin and list(origin), "event": event}
