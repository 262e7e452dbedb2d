import click

from deploy.terminal.escaping import echo_json

KINDS = ("integration", "source", "plan", "turnout")


@click.command(short_help="Print the JSON Schema of a configuration file.")
@click.argument("kind", type=click.Choice(KINDS), default="integration")
def schema(kind: str) -> None:
    """Print the JSON Schema of a kind of configuration file, by default for integrations and their rules.

    Editors use it to complete and check YAML. `turnout new integration` writes the schema and refers to it in the first
    line of each new file.
    """
    from deploy.config.schema import SCHEMAS
    from deploy.terminal.failures import Failed
    from forwarders.registry import UnknownForwarderError

    try:
        echo_json(SCHEMAS[kind]())
    except UnknownForwarderError as error:
        raise Failed(str(error)) from error
