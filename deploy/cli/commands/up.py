from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deploy.cli.options import folder_argument, folder_option
from deploy.terminal.escaping import echo

if TYPE_CHECKING:
    from deploy.config.configuration import Configuration
    from deploy.config.settings import TurnoutSettings

EXAMPLE = Path(__file__).parents[2] / "example"

SIMULATOR_VARIABLE = "SIMULATOR_URL"
"""Set to the simulator's URL if one is started, so that the files of variables can refer to it."""


def _find_folder() -> Path:
    return Path() if Path("turnout.yaml").exists() else EXAMPLE


@click.command(short_help="Run everything on this machine and show each event.")
@folder_option(
    default=_find_folder,
    help="The configuration folder. Default: $TURNOUT_CONFIG, else the current folder if it has a turnout.yaml, else "
    "an example.",
)
@folder_argument
@click.pass_context
def up(context: click.Context, folder: Path) -> None:
    """Run all processes on this machine, and show what happens to each event.

    If turnout.yaml asks for them, also starts a broker that keeps its data only in memory, and a simulator of the
    vendors. Ports that are in use are replaced by free ones. Variables that are not set are read from the file .env in
    the folder and, with that broker, from demo.env; both can refer to the simulator as ${SIMULATOR_URL}.

    A changed folder is applied at once: the command prints the changed files, or the errors in them.
    """
    from deploy.terminal.waiting import WaitingLines

    # Before the modules are loaded, which takes long on a busy machine.
    echo(f"starting with the configuration in {folder}")
    with WaitingLines(lambda: "Python to load the modules", echo) as waiting:
        import asyncio
        import os

        from deploy.cli.options import load, read
        from deploy.runtime.local import run
        from deploy.runtime.local_ports import choose_ports

        settings = read(folder).settings
        ports = choose_ports(settings)
        for note in ports.notes:
            echo(note)
        os.environ.update(ports.variables)
        for name, value in _variables(folder, read(folder).settings).items():
            os.environ.setdefault(name, value)

        def load_all() -> "Configuration":
            return load(folder, "sources", "integrations")

        context.exit(asyncio.run(run(load_all(), load_all, waiting)))


def _variables(folder: Path, settings: "TurnoutSettings") -> Mapping[str, str]:
    """Return the variables of the folder's files."""
    import os

    from dotenv import dotenv_values

    if settings.simulator_port:
        os.environ[SIMULATOR_VARIABLE] = f"http://127.0.0.1:{settings.simulator_port}"
    files = [folder / "demo.env", folder / ".env"] if settings.embedded else [folder / ".env"]
    return {name: value or "" for file in files for name, value in dotenv_values(file).items()}
