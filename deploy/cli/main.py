"""The command `turnout`. Each command is a module of deploy/cli/commands."""

from importlib import import_module

import click

COMMANDS = (
    *("init", "check", "test", "explain", "record", "diff", "schema", "new", "conformance", "verify", "authorize"),
    *("topics", "collector", "router", "forwarder", "ledger", "console", "simulate", "up"),
    *("status", "tail", "monitoring", "pause", "resume", "probe"),
    *("why", "audit", "counts"),
    *("dead", "rejected", "replay", "send", "suppress"),
)


class _Commands(click.Group):
    """A group that imports the module of a command when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"deploy.cli.commands.{cmd_name}"), cmd_name)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="turnout")
def main() -> None:
    """Route analytics events: HTTP or Kafka in, rules in YAML, every vendor out, nothing lost.

    Exit codes: 0 done, 1 the work failed, 2 usage or configuration error.
    """


if __name__ == "__main__":
    main()
