from pathlib import Path
from typing import TYPE_CHECKING

import click

from deploy.cli.options import config_option, folder_argument, paused_gc
from deploy.terminal.escaping import echo, echo_json
from streams.plurals import counted

if TYPE_CHECKING:
    from deploy.config.configuration import Configuration
    from transforms import RuleError


@click.command(short_help="Find every error in a configuration folder.")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object, for programs.")
@folder_argument
@click.pass_context
def check(context: click.Context, folder: Path, as_json: bool) -> None:
    """Check a configuration folder and print every error with file, line and column.

    Needs neither Kafka nor secrets. Exits with 2 if there are errors; warnings do not change the exit code.
    """
    with paused_gc():
        from deploy.config.configuration import ConfigurationError, read_configuration
        from deploy.config.diagnostics import render
        from deploy.dryrun.rule_test_suite import RuleTestSuite

        try:
            configuration, errors = read_configuration(folder), []
            RuleTestSuite(configuration)
        except ConfigurationError as error:
            configuration, errors = None, list(error.errors)
    if as_json:
        echo_json(_data(configuration, errors))
    else:
        echo(_summary(configuration) if configuration else render(errors))
    context.exit(2 if errors else 0)


def _data(configuration: "Configuration | None", errors: "list[RuleError]") -> dict[str, object]:
    fields = ("path", "line", "column", "message", "hint")
    return {
        "mistakes": [{field: getattr(error, field) for field in fields} for error in errors],
        "warnings": [
            {field: getattr(warning, field) for field in fields}
            for warning in (configuration.warnings if configuration else ())
        ],
        "version": configuration and configuration.version,
        "unset": sorted({unset.variable for unset in configuration.unset}) if configuration else [],
    }


def _summary(configuration: "Configuration") -> str:
    from deploy.config.diagnostics import underline

    rules = sum(len(integration.rules.names) for integration in configuration.integrations.values())
    unset = sorted({unset.variable for unset in configuration.unset})
    line = (
        f"{configuration.folder}: no errors in {counted(len(configuration.source_files), 'source')}, "
        f"{counted(len(configuration.integrations), 'integration')}, {counted(rules, 'rule')} "
        f"(version {configuration.version})"
    )
    needed = [f"not set here, but needed by workers: {', '.join(unset)}"] if unset else []
    return "\n".join([*(f"warning: {underline(each)}" for each in configuration.warnings), line, *needed])
