import asyncio
from pathlib import Path

import click

from deploy.commands.options import config_option, load, read_event
from deploy.config.mistakes import hint_at
from deploy.escaping import echo, echo_json


@click.command()
@click.argument("integration")
@click.option("--event", "file", required=True, metavar="FILE", help="A file with one event in JSON; - is the input.")
@click.option("--code", metavar="CODE", help="The code of the vendor's test tool, where it wants one.")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object, for programs.")
@click.pass_context
def verify(context: click.Context, integration: str, file: str, code: str | None, folder: Path, as_json: bool) -> None:
    """Have the vendor check what an integration makes of an event, and name the rules' lines for what it complains of.

    The request goes to the vendor's validation endpoint, or with a code to its test tool: nothing is recorded by the
    first; what the second does is the vendor's to say. Exits with 1 where the vendor does not take it, or where nothing
    is sent.
    """
    from deploy.failures import Failed
    from deploy.rehearsal.verification import UnverifiableError
    from deploy.rehearsal.verification import verify as ask
    from forwarders.contract import Delivered

    configuration = load(folder, f"integrations/{integration}.yaml")
    if integration not in configuration.integrations:
        hint = hint_at(integration, sorted(configuration.integrations))
        raise click.BadParameter(f"no integration is called {integration!r} ({hint})")
    event = read_event(file)
    try:
        verdicts = asyncio.run(ask(configuration, integration, event, code))
    except UnverifiableError as error:
        raise Failed(str(error)) from error
    if as_json:
        echo_json({"deliveries": [verdict.data() for verdict in verdicts]})
    else:
        for verdict in verdicts:
            name = f"rule {verdict.rule}" if verdict.rule else "no rule"
            if verdict.result is None:
                echo(f"{name}: nothing is sent: {verdict.reason}")
            elif isinstance(verdict.result, Delivered):
                echo(f"{name}: taken ({verdict.status})")
            else:
                status = f" ({verdict.status})" if verdict.status else ""
                echo(f"{name}: not taken{status} {verdict.reason}".rstrip())
                if verdict.answer:
                    echo_json(verdict.answer)
                for field, where in verdict.lines:
                    echo(f"{where}: {field}")
    context.exit(0 if verdicts and all(isinstance(it.result, Delivered) for it in verdicts) else 1)
