from pathlib import Path

import click

from deploy.cli.options import folder_option, no_folder_argument

EXAMPLE = Path(__file__).parents[2] / "example"


def _find_folder() -> Path:
    return Path() if Path("turnout.yaml").exists() else EXAMPLE


@click.command(short_help="Run everything on this machine and show each event.")
@folder_option(
    default=_find_folder,
    help="The configuration folder. Default: $TURNOUT_CONFIG, else the current folder if it has a turnout.yaml, else "
    "an example.",
)
@no_folder_argument
@click.pass_context
def up(context: click.Context, folder: Path) -> None:
    """Run all processes on this machine, and show what happens to each event.

    If turnout.yaml asks for them, also starts a broker that keeps its data only in memory, and a simulator of the
    vendors. With that broker, unset variables are read from demo.env in the folder.
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
