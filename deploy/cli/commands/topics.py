from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deploy.cli.options import broker_errors, config_option, load
from deploy.terminal.escaping import echo, echo_json
from deploy.terminal.failures import Failed

if TYPE_CHECKING:
    from streams.kafka.settings import Broker
    from streams.topics import Topic

PROCEDURE = """
A topic has another number of partitions than turnout.yaml declares, so workers refuse to start. Kafka cannot remove
partitions, and a user's events move to another partition if some are added. To use the new number in order:
1. Stop the collectors, and wait until `turnout status` shows no lag; then stop the routers and forwarders.
2. Set `partitions` in turnout.yaml to the new number, and add partitions with `turnout topics --grow`.
3. Start everything again when this command reports no difference."""


@click.command(short_help="Compare declared topics with Kafka, and create them.")
@config_option
@click.option("--create", is_flag=True, help="Create the topics that are missing.")
@click.option("--grow", is_flag=True, help="Add partitions to topics that have fewer than declared.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object, for programs.")
@click.pass_context
def topics(context: click.Context, folder: Path, create: bool, grow: bool, as_json: bool) -> None:
    """Compare the declared topics with the topics in Kafka.

    Exits with 1 if a topic is missing or has another number of partitions; workers then refuse to start. They start
    without PREFIX.status and PREFIX.control. External topics that a source reads may have any number of partitions, and
    are not created.

    --grow needs topics without unfinished records, and no running router or forwarder: otherwise a user's events could
    overtake each other. If it adds none, it prints the reasons and exits with 1.
    """
    configuration = load(folder)

    from streams.kafka.admin import compare_topics, create_topics, find_partitions

    broker = configuration.settings.broker
    declared = configuration.declared
    with broker_errors(broker):
        existing = find_partitions(broker, declared)
        if create:
            missing = [topic for topic in declared if topic.name not in existing]
            create_topics(broker, missing, configuration.settings.replication)
            existing = find_partitions(broker, declared)
        if grow:
            _grow(broker, declared, configuration.topics.readers(configuration.integrations))
            existing = find_partitions(broker, declared)
    wrong = {mismatch.topic.name for mismatch in compare_topics(declared, existing)}
    if as_json:
        rows = [{"topic": it.name, "declared": it.partitions, "there": existing.get(it.name)} for it in declared]
        echo_json(rows)
    else:
        _show(declared, existing, wrong)
    context.exit(1 if wrong else 0)


def _grow(broker: "Broker", declared: "Sequence[Topic]", readers: Mapping[str, Sequence[str]]) -> None:
    from streams.kafka.growing import find_obstacles, grow_topics

    if obstacles := find_obstacles(broker, readers):
        raise Failed("no partitions are added:\n" + "\n".join(f"  {line}" for line in obstacles))
    grow_topics(broker, declared)


def _show(declared: "Sequence[Topic]", existing: Mapping[str, int], wrong: Collection[str]) -> None:
    from rich.table import Table

    from deploy.terminal.console import PlainConsole

    table = Table("topic", "declared", "in Kafka", "", box=None)
    for topic in declared:
        verdict = "" if topic.name not in wrong else "differs" if topic.name in existing else "missing"
        expected = "any" if topic.partitions is None else str(topic.partitions)
        table.add_row(topic.name, expected, str(existing.get(topic.name, "-")), verdict)
    PlainConsole().print(table)
    if any(name in existing for name in wrong):
        echo(PROCEDURE, err=True)
