from pathlib import Path

import click

EXAMPLE = Path(__file__).parents[1] / "example"


@click.command()
@click.argument("folder", metavar="[DIR]", type=click.Path(path_type=Path), default=EXAMPLE)
@click.pass_context
def up(context: click.Context, folder: Path) -> None:
    """Run all on this machine, and show what becomes of each event.

    Where turnout.yaml says so, it brings a broker along, which keeps its data in memory only, and a simulator of the
    vendors. With that broker, variables that are not set come from the folder's demo.env. Without DIR, an example.
    """
    import asyncio
    import os

    from dotenv import dotenv_values

    from deploy.commands.options import load
    from deploy.processes.local import run

    if load(folder).settings.embedded:
        for name, value in dotenv_values(folder / "demo.env").items():
            os.environ.setdefault(name, value or "")
    context.exit(asyncio.run(run(load(folder, "sources", "integrations"))))
