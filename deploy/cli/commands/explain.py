from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deploy.cli.options import (
    broker_errors,
    check_name,
    config_option,
    load,
    read,
    read_event,
)
from deploy.terminal.escaping import echo_json

if TYPE_CHECKING:
    from deploy.config.configuration import Configuration
    from streams.records.format import Headers


@click.command(short_help="Show what happens to an event, step by step, and why.")
@click.argument("integration", required=False)
@click.option("--event", "file", metavar="FILE", help="A file with one event in JSON; - reads standard input.")
@click.option("--source", metavar="NAME", help="The source of the event. Default: the likely "
              "one.")  # fmt: skip
@click.option(
    "--header",
    "headers",
    multiple=True,
    metavar="NAME=VALUE",
    help="A header of the event's Kafka record, such as turnout-version=1. Repeatable.",
)
@click.option("--broker", "ask", is_flag=True, help="Also ask Kafka whether the event's user is suppressed.")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object, for programs.")
@click.pass_context
def explain(
    context: click.Context,
    integration: str | None,
    file: str | None,
    source: str | None,
    headers: tuple[str, ...],
    folder: Path,
    *,
    ask: bool,
    as_json: bool,
) -> None:
    """Show what happens to an event and why, for all integrations or for INTEGRATION.

    Without --source or a turnout-source header, uses the source with the event's write key, the default source or the
    only source, and prints which. Without an event, shows the integration's file with its preset merged in, and the
    origin of each line. Nothing is sent, and secrets are replaced by ***. Exits with 1 if the event is rejected.
    """
    configuration = load(folder) if ask else read(folder)
    if integration is not None:
        check_name("integration", integration, configuration.integrations)
    if source is not None:
        check_name("source", source, configuration.source_files)
    if file is None:
        if integration is None:
            raise click.UsageError("name an integration, or give an --event")
        _show_merged(configuration, integration, as_json)
        return

    if ask:
        from streams.suppression.admin import SuppressedList

        with (
            broker_errors(configuration.settings.broker),
            SuppressedList(configuration.settings.broker, configuration.topics, configuration.suppression.users),
        ):
            pass

    from deploy.dryrun.explanation import explain as explain_event
    from deploy.dryrun.likely_source import find_likely_source
    from streams.routing.decoding import source_of

    event, record_headers = read_event(file), _read_headers(headers)
    is_named = source is not None or source_of(record_headers) is not None
    likely = None if is_named else find_likely_source(configuration, event, integration)
    chosen = [integration] if integration else []
    explanation = explain_event(
        configuration,
        event,
        integrations=chosen,
        source=likely.name if likely else source,
        headers=record_headers,
    )
    if as_json:
        echo_json(explanation.data() | ({"likely_source": likely.data()} if likely else {}))
    else:
        from deploy.dryrun.render import show_explanation

        show_explanation(explanation, whole=integration is not None, likely=likely)
    context.exit(1 if explanation.rejected else 0)


def _read_headers(written: Iterable[str]) -> "Headers":
    headers: Headers = []
    for text in written:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.BadParameter(f"--header {text!r}: write NAME=VALUE")
        headers.append((name, value.encode(errors="surrogateescape")))
    return headers


def _show_merged(configuration: "Configuration", name: str, as_json: bool) -> None:
    from deploy.dryrun.merged import merge
    from deploy.terminal.console import PlainConsole, one_line

    lines = merge(configuration.integrations[name])
    if as_json:
        echo_json([{"text": it.text, "path": it.path, "line": it.line} for it in lines])
        return
    own = configuration.integrations[name].document.path
    width = min(90, max(len(line.text) for line in lines))
    console = PlainConsole(soft_wrap=True)
    for line in lines:
        origin = line.path if line.path == own else f"preset {Path(line.path).stem}"
        console.print(one_line(f"{line.text:{width}}  ", (f"# {origin}:{line.line}", "dim")))
