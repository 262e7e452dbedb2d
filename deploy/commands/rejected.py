from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deploy.commands import choosing
from deploy.commands.choosing import PLACE, json_option, yes_option
from deploy.commands.options import config_option, load
from deploy.config.configuration import Configuration
from deploy.failures import Misconfigured

if TYPE_CHECKING:
    from deploy.recovery.kept import Keep, Kept
    from streams.topics import Rejected
    from transforms import Rules


@click.group()
def rejected() -> None:
    """List rejected events, show one, or send them again, mended.

    A rejected event was accepted and is none, by the reason that stands with it.
    """


@rejected.command("list")
@choosing.choosing
@click.option("--limit", default=20, show_default=True, help="How many to show one by one.")
@json_option
def list_(folder: Path, places: Any, limit: int, as_json: bool, **options: Any) -> None:
    """Count rejected events by reason and source, and show the last of them."""
    with choosing.failing():
        found = _keep(load(folder)).find(choosing.choice(places, **options))
        choosing.show_list(found, _row, limit, ["reason", "source"], as_json=as_json)


@rejected.command()
@click.argument("place", type=PLACE)
@config_option
def show(folder: Path, place: tuple[int, int]) -> None:
    """Print one rejected event whole, as it came."""
    with choosing.failing():
        choosing.show_one(_keep(load(folder)).find(choosing.choice([place])), _data, place)


@rejected.command()
@choosing.choosing
@click.option(
    "--rules",
    "file",
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A rule file that mends them: what a rule maps to is merged into the event, and null takes a key out.",
)
@click.option("--source", metavar="NAME", help="The source that they are to count as; by default their own.")
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
    """Send rejected events again, under the messageId that they had.

    What is still no event is left. Exits with 1 where some are.
    """
    from deploy.recovery.kept import Again
    from deploy.recovery.replay import replay_rejected

    configuration = load(folder)
    if source is not None and source not in configuration.source_files:
        raise click.BadParameter(f"no source is called {source!r}")
    repair = _read_rules(file) if file else None
    chosen, keep = choosing.choice(places, **options), _keep(configuration)
    with choosing.failing():
        count = choosing.count_first(keep.find(chosen), "rejected events", "Replay", yes=yes)
        with (
            Again(configuration.settings.broker, configuration.topics.rejected) as again,
            choosing.progressing(count) as advance,
        ):
            report = replay_rejected(configuration, again, keep.find(chosen), advance, repair, source)
    if not choosing.show_report(report, as_json=as_json):
        raise click.exceptions.Exit(1)


def _read_rules(file: Path) -> "Rules":
    from transforms import RuleError, read_rules
    from transforms.documents import Document

    try:
        rules, mistakes = read_rules(Document.read(file))
    except RuleError as mistake:
        raise Misconfigured([mistake]) from None
    if rules is None or mistakes:
        raise Misconfigured(mistakes)
    return rules


def _keep(configuration: Configuration) -> "Keep[Rejected]":
    from deploy.recovery.kept import Keep
    from streams.topics import Rejected

    return Keep(
        configuration.settings.broker,
        configuration.topics.rejected,
        lambda record: Rejected.decode(record.key, record.value, record.headers),
    )


def _row(kept: "Kept[Rejected]") -> dict[str, Any]:
    letter = kept.letter
    return {
        "place": f"{kept.partition}:{kept.offset}",
        "reason": letter.reason,
        "source": letter.source,
        "detail": letter.detail,
    }


def _data(kept: "Kept[Rejected]") -> dict[str, Any]:
    value = kept.letter.value
    event = None if value is None else value.decode(errors="replace")
    origin = kept.letter.origin
    return {**_row(kept), "from": origin and list(origin), "event": event}
