from pathlib import Path
from typing import TYPE_CHECKING

import click

from deploy.cli.options import broker_errors, config_option, load
from deploy.cli.selection import json_option
from deploy.terminal.escaping import echo, echo_json, escape_line

if TYPE_CHECKING:
    from deploy.config.configuration import Configuration
    from streams.records.event import Origin


@click.command(short_help="Show what happened to an event, and why.")
@click.argument("message_id", required=False)
@click.option("--user", metavar="ID", help="The events of this userId, or of this anonymousId and no userId.")
@click.option(
    "--at", "place", metavar="TOPIC:PARTITION:OFFSET", help="The event at this place in Kafka; needs no ledger."
)
@click.option(
    "--limit", default=20, show_default=True, type=click.IntRange(1, 500), help="How many to show; the newest."
)
@config_option
@json_option
@click.pass_context
def why(
    context: click.Context,
    message_id: str | None,
    user: str | None,
    place: str | None,
    limit: int,
    folder: Path,
    *,
    as_json: bool,
) -> None:
    """Show what happened to an event: for each integration the outcome, its time, the rule and the reason.

    Name the event by its MESSAGE_ID, its user, or its place in Kafka. The ledger finds it, and the event itself is read
    from Kafka. The lines of rules, and the reasons why none matched, are those of the rules that routed the event; the
    output says so if Kafka does not have them. JSON has payloads, requests and answers. Exits with 1 if nothing is
    found.
    """
    if sum(value is not None for value in (message_id, user, place)) != 1:
        raise click.UsageError("name one of MESSAGE_ID, --user and --at")
    configuration = load(folder)
    with broker_errors(configuration.settings.broker):
        from deploy.ledger.event_story import StoryTeller
        from deploy.ledger.kafka_facts import open_kafka
        from deploy.ledger.search import EventQuery, confirm, find_candidates

        query = EventQuery(message_id, user, _read_place(configuration, place) if place else None)
        candidates = find_candidates(configuration, query, limit)
        if candidates.ledger_away:
            echo(f"{escape_line(candidates.ledger_away)}; this story is from Kafka alone", err=True)
        with open_kafka(configuration.settings.broker, configuration.topics) as kafka:
            teller = StoryTeller(configuration, kafka, payloads=as_json)
            heads = confirm(teller, candidates, query)
            # A list of a user's events needs no more than the ledger has.
            whole = as_json or user is None or len(heads) == 1
            stories = [teller.tell(*head) if whole else head[0] for head in heads]
    if as_json:
        echo_json({"found": len(stories), "events": [story.data() for story in stories]})
    elif stories:
        from deploy.ledger.render_story import show_list, show_stories

        if whole:
            show_stories(stories)
        else:
            show_list(stories, candidates.found)
    else:
        sought = f"messageId {message_id}" if message_id else f"user {user}" if user else f"place {place}"
        echo(f"nothing is known about an event with the {escape_line(sought)}", err=True)
    context.exit(0 if stories else 1)


def _read_place(configuration: "Configuration", text: str) -> "Origin":
    from deploy.ledger.search import find_place

    place = find_place(configuration, text)
    if place is None:
        raise click.BadParameter(f"--at {text!r}: write TOPIC:PARTITION:OFFSET, such as turnout.events:3:1842")
    return place
