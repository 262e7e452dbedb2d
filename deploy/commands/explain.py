from collections.abc import Iterable
from pathlib import Path

import click

from deploy.commands.choosing import failing
from deploy.commands.options import config_option, load, read, read_event
from deploy.config.configuration import Configuration
from deploy.config.mistakes import hint_at
from deploy.escaping import echo_json
from streams.topics import Headers


@click.command()
@click.argument("integration", required=False)
@click.option("--event", "file", metavar="FILE", help="A file with one event in JSON; - reads it from the input.")
@click.option("--source", metavar="NAME", help="The source that the event comes from.")
@click.option(
    "--header",
    "headers",
    multiple=True,
    metavar="NAME=VALUE",
    help="A header of the event's Kafka record, such as turnout-version=1; may be given several times.",
)
@click.option("--broker", "ask", is_flag=True, help="Ask Kafka, too, whether the event's user is suppressed.")
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
    """Say what becomes of an event and why: for each integration, or for the one that is named.

    Without an event, show the integration's file with its preset merged in, and where each line comes from. Nothing is
    sent, and *** stands for each secret. Exits with 1 if the event is rejected.
    """
    configuration = load(folder) if ask else read(folder)
    _check(configuration, integration, source)
    if file is None:
        if integration is None:
            raise click.UsageError("name an integration, or give an --event")
        _show_merged(configuration, integration, as_json)
        return

    if ask:
        from deploy.suppressed import SuppressedList

        with failing(), SuppressedList(configuration):
            pass

    from deploy.rehearsal.explanation import explain as explain_event

    chosen = [integration] if integration else []
    explanation = explain_event(
        configuration, read_event(file), integrations=chosen, source=source, headers=_read_headers(headers)
    )
    if as_json:
        echo_json(explanation.data())
    else:
        from deploy.rehearsal.screen import show_explanation

        show_explanation(explanation, whole=integration is not None)
    context.exit(1 if explanation.rejected else 0)


def _read_headers(written: Iterable[str]) -> Headers:
    headers: Headers = []
    for text in written:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.BadParameter(f"--header {text!r}: write NAME=VALUE")
        headers.append((name, value.encode(errors="surrogateescape")))
    return headers


def _check(configuration: Configuration, integration: str | None, source: str | None) -> None:
    for name, known, kind in (
        (integration, configuration.integrations, "integration"),
        (source, configuration.source_files, "source"),
    ):
        if name is not None and name not in known:
            raise click.BadParameter(f"no {kind} is called {name!r} ({hint_at(name, sorted(known))})")


def _show_merged(configuration: Configuration, name: str, as_json: bool) -> None:
    from deploy.console import PlainConsole, one_line
    from deploy.rehearsal.merged import merge

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
