from importlib.resources import as_file, files
from pathlib import Path

import click

from deploy.terminal.escaping import echo
from deploy.terminal.failures import Failed


@click.command(short_help="Write dashboards, alerts and Prometheus' configuration.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
def monitoring(folder: Path) -> None:
    """Write the files of this version for Prometheus and Grafana into a folder, over those of an earlier version.

    alerts.yaml are rules for Prometheus; each links to its section of the runbook. dashboards/*.json are for Grafana.
    prometheus.yml and grafana/ are the configuration with which compose.yaml runs them.
    """
    import shutil

    try:
        with as_file(files("deploy.monitoring") / "files") as source:
            shutil.copytree(source, folder, dirs_exist_ok=True, copy_function=shutil.copyfile)
    except OSError as error:
        raise Failed(f"cannot write {error.filename}: {error.strerror}") from error
    echo(f"wrote {folder}")
