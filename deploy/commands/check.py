from pathlib import Path

import click

from deploy.config.configuration import Configuration, ConfigurationError, read_configuration
from deploy.config.mistakes import render, underline
from deploy.escaping import echo, echo_json
from deploy.rehearsal.casebook import Casebook
from transforms import RuleError


@click.command()
@click.argument("folder", metavar="[DIR]", type=click.Path(path_type=Path), default=Path())
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object, for programs.")
@click.pass_context
def check(context: click.Context, folder: Path, as_json: bool) -> None:
    """Read a configuration folder and print every mistake in it.

    Needs no broker and none of the secrets. Exits with 2 where there are mistakes; warnings change nothing.
    """
    try:
        configuration, mistakes = read_configuration(folder), []
        Casebook(configuration)
    except ConfigurationError as error:
        configuration, mistakes = None, list(error.mistakes)
    if as_json:
        echo_json(_data(configuration, mistakes))
    else:
        echo(_summary(configuration) if configuration else render(mistakes))
    context.exit(2 if mistakes else 0)


def _data(configuration: Configuration | None, mistakes: list[RuleError]) -> dict[str, object]:
    fields = ("path", "line", "column", "message", "hint")
    return {
        "mistakes": [{field: getattr(mistake, field) for field in fields} for mistake in mistakes],
        "warnings": [
            {field: getattr(warning, field) for field in fields}
            for warning in (configuration.warnings if configuration else ())
        ],
        "version": configuration and configuration.version,
        "unset": sorted({unset.variable for unset in configuration.unset}) if configuration else [],
    }


def _summary(configuration: Configuration) -> str:
    rules = sum(len(integration.rules.names) for integration in configuration.integrations.values())
    unset = sorted({unset.variable for unset in configuration.unset})
    line = (
        f"{configuration.folder}: no mistakes in {len(configuration.source_files)} sources, "
        f"{len(configuration.integrations)} integrations, {rules} rules (version {configuration.version})"
    )
    wanted = [f"not set here, and wanted by the workers: {', '.join(unset)}"] if unset else []
    return "\n".join([*(f"warning: {underline(each)}" for each in configuration.warnings), line, *wanted])
