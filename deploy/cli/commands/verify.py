from pathlib import Path

import click

from deploy.cli.options import check_name, config_option, load, read_event
from deploy.terminal.escaping import echo, echo_json


@click.command(short_help="Have a vendor validate the request for an event.")
@click.argument("integration")
@click.option(
    "--event", "file", required=True, metavar="FILE", help="A file with one event in JSON; - reads standard input."
)
@click.option("--code", metavar="CODE", help="The code of the vendor's test tool, if it needs one.")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object, for programs.")
@click.pass_context
def verify(context: click.Context, integration: str, file: str, code: str | None, folder: Path, as_json: bool) -> None:
    """Have a vendor validate the request for an event, and name the rule lines of the fields that it refuses.

    The request goes to the vendor's validation endpoint, which records nothing, or with --code to its test tool. Exits
    with 1 if the vendor refuses the request, or if nothing is sent.
    """
    import asyncio

    from deploy.dryrun.verification import UnverifiableError
    from deploy.dryrun.verification import verify as verify_event
    from deploy.terminal.failures import Failed
    from forwarders.api.contract import Delivered

    configuration = load(folder, f"integrations/{integration}.yaml")
    check_name("integration", integration, configuration.integrations)
    event = read_event(file)
    try:
        verdicts = asyncio.run(verify_event(configuration, integration, event, code))
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
                echo(f"{name}: accepted ({verdict.status})")
            else:
                status = f" ({verdict.status})" if verdict.status else ""
                echo(f"{name}: refused{status} {verdict.reason}".rstrip())
                if verdict.answer:
                    echo_json(verdict.answer)
                for field, where in verdict.lines:
                    echo(f"{where}: {field}")
    context.exit(0 if verdicts and all(isinstance(it.result, Delivered) for it in verdicts) else 1)
