import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deploy.cli.options import broker_errors, config_option, load
from deploy.cli.selection import json_option
from deploy.terminal.escaping import echo, echo_json
from streams.plurals import counted

if TYPE_CHECKING:
    from deploy.config.configuration import Configuration


@click.command(short_help="Stop forwarding events of some users.")
@click.argument("users", nargs=-1, metavar="[USER]...")
@click.option("--lift", is_flag=True, help="Forward events of these users again, from the next event on.")
@click.option("--list", "listing", is_flag=True, help="Show all suppressed users, or which of these users are.")
@config_option
@json_option
def suppress(users: tuple[str, ...], folder: Path, *, lift: bool, listing: bool, as_json: bool) -> None:
    """Stop forwarding events with these IDs (userId, anonymousId, previousId), from the next event on.

    If USER is -, reads IDs from standard input, one per line. The list is stored in Kafka, as digests. Deliveries that
    are already in the forward topics are still sent.
    """
    if lift and listing:
        raise click.UsageError("--lift and --list cannot be combined")
    ids = list(_ids(users))
    if not ids and not listing:
        raise click.UsageError("name at least one user")
    configuration = load(folder)
    if listing:
        _show(configuration, ids, as_json=as_json)
        return

    from streams.suppression.admin import change

    with broker_errors(configuration.settings.broker):
        count = change(
            configuration.settings.broker,
            configuration.topics,
            configuration.suppression.users,
            ids,
            lift=lift,
            memory=configuration.memory_cipher,
        )
    if as_json:
        echo_json({"lifted" if lift else "suppressed": count}, indent=None)
    else:
        state = "no longer suppressed" if lift else "suppressed"
        echo(f"{counted(count, 'user is', 'users are')} {state}, from the next event on")


def _ids(users: Sequence[str]) -> Iterator[str]:
    for user in users:
        lines = sys.stdin if user == "-" else [user]
        yield from filter(None, (line.strip() for line in lines))


def _show(configuration: "Configuration", users: Sequence[str], *, as_json: bool) -> None:
    from streams.parsing.times import rfc3339
    from streams.suppression.admin import SuppressedList

    with (
        broker_errors(configuration.settings.broker),
        SuppressedList(configuration.settings.broker, configuration.topics, configuration.suppression.users) as found,
    ):
        since = found.since
    names = {digest: user for user in users for digest in configuration.suppression.users.digests(user)}
    rows = [
        (names.get(digest), digest.decode(), rfc3339(at))
        for digest, at in since.items()
        if digest in names or not names
    ]
    for user, digest, at in rows:
        text = json.dumps({"user": user, "digest": digest, "since": at}) if as_json else f"{at}  {user or digest}"
        echo(text)
    echo(f"{counted(len(rows), 'ID')} suppressed", err=True)
