from pathlib import Path

import click

from deploy.cli.options import folder_option, no_folder_argument

EXAMPLE = Path(__file__).parents[2] / "example"


def _find_folder() -> Path:
    return Path() if Path("turnout.yaml").exists() else EXAMPLE


@click.command(short_help="Run everything on this machine and show each event.")
@folder_option(
    default=_find_folder,
    help="The configuration folder; by default $TURNOUT_CONFIG, else the current one if it has a turnout.yaml, else an "
    "example.",
)
@no_folder_argument
@click.pass_context
def up(context: click.Context, folder: Path) -> None:
    """Run all processes on this machine, and show what happens to each event.

    If turnout.yaml says so, it starts a broker, which keeps its data in memory only, and a simulator of the vendors.
    With that broker, variables that are not set are read from the folder's demo.env.
    """
    import asyncio
    import os

    from dotenv import dotenv_values

    from deploy.cli.options import load
    from deploy.runtime.local import run

    if load(folder).settings.embedded:
        for name, value in dotenv_values(folder / "demo.env").items():
            os.environ.setdefault(name, value or "")
    context.exit(asyncio.run(run(load(folder, "sources", "integrations"))))
