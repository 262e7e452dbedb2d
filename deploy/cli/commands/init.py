from pathlib import Path

import click

from deploy.terminal.escaping import echo
from deploy.terminal.failures import Failed


@click.command(short_help="Create a configuration folder that runs as it is.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
def init(folder: Path) -> None:
    """Create a configuration folder, which must not exist or be empty.

    It has a source with a tracking plan, an integration with tests that sends orders to an HTTP endpoint, a file for
    Docker Compose, and a file .env with new random secrets, which git ignores.
    """
    from deploy.scaffold.folder import write_folder

    try:
        write_folder(folder)
    except FileExistsError:
        raise Failed(f"{folder} is not empty") from None
    except OSError as error:
        raise Failed(f"cannot write {error.filename}: {error.strerror}") from error
    echo(f"wrote {folder}. Next:")
    echo(f"  turnout check {folder}")
    echo(f"  turnout test --config {folder}")
    echo(f"  turnout up {folder}")
