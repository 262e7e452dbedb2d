import json
from pathlib import Path

import click

from deploy.commands.options import config_option, load
from deploy.failures import Failed
from streams.topics import Topic


@click.command()
@config_option
@click.option("--create", is_flag=True, help="Create the topics that are missing.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object, for programs.")
@click.pass_context
def topics(context: click.Context, folder: Path, create: bool, as_json: bool) -> None:
    """Show the topics that are declared against what the broker has.

    Exits with 1 where one is missing or has another number of partitions; the workers refuse to run then.
    """
    configuration = load(folder)

    from streams.broker import BrokerError, create_topics, find_mismatches

    broker = configuration.settings.broker
    declared = configuration.topics.declared(configuration.integrations)
    try:
        found = find_mismatches(broker, declared)
        if create:
            create_topics(
                broker, [it.topic for it in found if it.partitions is None], configuration.settings.replication
            )
            found = find_mismatches(broker, declared)
    except BrokerError as error:
        raise Failed(str(error)) from error
    there = {it.topic.name: it.partitions for it in found}
    rows = [(topic, there.get(topic.name, topic.partitions)) for topic in declared]
    if as_json:
        click.echo(
            json.dumps(
                [
                    {"topic": topic.name, "declared": topic.partitions, "there": partitions}
                    for topic, partitions in rows
                ],
                indent=2,
            )
        )
    else:
        _show(rows)
    context.exit(1 if found else 0)


def _show(rows: list[tuple[Topic, int | None]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("topic", "declared", "there", "", box=None)
    for topic, partitions in rows:
        verdict = "missing" if partitions is None else "" if partitions == topic.partitions else "differs"
        table.add_row(topic.name, str(topic.partitions), "-" if partitions is None else str(partitions), verdict)
    Console(highlight=False).print(table)
