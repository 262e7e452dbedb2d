import secrets
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deploy.cli.options import broker_errors, check_name, config_option, load
from deploy.cli.selection import TIME, reading_progress
from deploy.terminal.escaping import echo, escape, escape_line, write_line

if TYPE_CHECKING:
    from deploy.config.configuration import Configuration
    from deploy.dryrun.recorded_events import RecordedEvent, RecordedEvents
    from deploy.live.live_view import LiveFilter

MAX_LAST = 100_000
"""The largest --last, whose events are in memory."""


@click.command(short_help="Print real events from Kafka, for diff, explain and test.")
@click.option("--last", type=click.IntRange(1, MAX_LAST), help="The newest events, oldest first.")
@click.option("--since", type=TIME, help="The events since this time: 30m, 12h, 7d (ago), 2026-05-01, "
              "2026-05-01T12:00Z.")  # fmt: skip
@click.option("--until", type=TIME, help="With --since, the events before this time.")
@click.option("--source", "sources", multiple=True, metavar="NAME", help="Only events of this source. Repeatable, as "
              "the next two.")  # fmt: skip
@click.option("--event", "events", multiple=True, metavar="NAME", help="Only track events, pages and screens of this "
              "name, or all calls of this type (page, identify, …).")  # fmt: skip
@click.option("--user", "users", multiple=True, metavar="ID", help="Only events with this userId or anonymousId.")
@click.option("--mask", is_flag=True, help="Replace personal data; the same value always gets the same replacement.")
@config_option
def record(
    last: int | None,
    since: float | None,
    until: float | None,
    sources: tuple[str, ...],
    events: tuple[str, ...],
    users: tuple[str, ...],
    folder: Path,
    *,
    mask: bool,
) -> None:
    """Print real events from Kafka, one JSON object per line, as they were accepted.

    Use them with `turnout diff --events`, `turnout explain --event` and in tests of rules. With --since they are in
    order within each partition. --mask uses `ledger.user_key`, so that replacements stay the same from run to run;
    without it a new key is made for each run. The number of events per source is printed on standard error. Exits with
    1 if no event matches.
    """
    if (last is None) == (since is None):
        raise click.UsageError("name one of --last and --since")
    if until is not None and since is None:
        raise click.UsageError("--until needs --since")
    if until is not None and since is not None and until <= since:
        raise click.BadParameter("--until must be after --since", param_hint="--until")
    configuration = load(folder)
    for name in sources:
        check_name("source", name, configuration.source_files, param_hint="--source")
    with broker_errors(configuration.settings.broker):
        from deploy.dryrun.recorded_events import open_recorded
        from deploy.live.live_view import LiveFilter

        only = LiveFilter(*map(frozenset, (sources, events, users)))
        with open_recorded(configuration) as recorded:
            number = _print(configuration, _find(recorded, only, last, since, until), mask=mask)
    if not number:
        raise click.exceptions.Exit(1)


def _find(
    recorded: "RecordedEvents", only: "LiveFilter", last: int | None, since: float | None, until: float | None
) -> "Iterator[tuple[RecordedEvent, Any]]":
    """Yield the matching events, with their data."""

    def match(event: "RecordedEvent") -> Any:
        data = event.data()
        return data if data is not None and only.matches_event(data, event.source or "", "") else None

    if last is not None:
        with reading_progress(None) as advance:
            found = recorded.newest(last, lambda event: match(event) is not None, advance)
        yield from ((event, match(event)) for event in found)
    elif since is not None:
        total, read = recorded.period(since, until)
        with reading_progress(total) as advance:
            for event in read(advance):
                if (data := match(event)) is not None:
                    yield event, data


def _print(configuration: "Configuration", found: "Iterator[tuple[RecordedEvent, Any]]", *, mask: bool) -> int:
    """Print events as lines, and on standard error how many they are; returns their number."""
    import orjson

    from deploy.dryrun.personal_data import PersonalDataMask
    from streams.plurals import counted

    masking = None
    if mask:
        key = configuration.settings.ledger.key
        if key is None:
            echo("without ledger.user_key, replacements differ from run to run", err=True)
        masking = PersonalDataMask(key or secrets.token_bytes(32))
    by_source: Counter[str] = Counter()
    for event, data in found:
        by_source[event.source or "(by write key)"] += 1
        text = orjson.dumps(masking.mask(data)) if masking else event.line()
        if not write_line(escape(text.decode(errors="replace"))):
            break
    parts = ", ".join(f"{escape_line(name)} {number:,}" for name, number in by_source.most_common())
    echo(f"{counted(by_source.total(), 'event')}{f' ({parts})' if parts else ''}", err=True)
    return by_source.total()
