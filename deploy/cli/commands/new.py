import json
from pathlib import Path

import click

from deploy.cli.options import check_name, config_option
from deploy.terminal.escaping import echo
from deploy.terminal.failures import Failed


@click.group(short_help="Create an integration or a forwarder package.")
def new() -> None:
    """Create an integration's file, or a package with a forwarder."""


@new.command(short_help="Create a package with a new forwarder.")
@click.argument("name")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The package's folder, which must not exist. Default: turnout-NAME.",
)
def forwarder(name: str, folder: Path | None) -> None:
    """Write a package with a forwarder for a vendor: module, preset, description and golden requests.

    The package is an example that passes every check; change it to match the vendor's documentation.
    """
    from deploy.scaffold.scaffold import FORWARDER_NAME, write_forwarder
    from forwarders import registry

    if not FORWARDER_NAME.fullmatch(name):
        raise click.BadParameter(f"{name!r} is not a valid name: use a-z, 0-9 and _, starting with a letter")
    if name in registry.names():
        raise click.BadParameter(f"a forwarder {name!r} already exists")
    folder = folder or Path(f"turnout-{name.replace('_', '-')}")
    try:
        write_forwarder(name, folder)
    except FileExistsError:
        raise Failed(f"{folder} already exists") from None
    except OSError as error:
        raise Failed(f"cannot write {error.filename}: {error.strerror}") from error
    echo(f"wrote {folder}; begin with turnout_{name}/{name}.py, and check it with:")
    echo(f"  cd {folder} && pip install -e '.[dev]' && turnout conformance {name}")


@new.command(short_help="Create integrations/NAME.yaml from a preset.")
@click.argument("name")
@click.option("--forwarder", "kind", required=True, help="The forwarder that delivers.")
@config_option
def integration(name: str, kind: str, folder: Path) -> None:
    """Write integrations/NAME.yaml with the forwarder's settings and preset, ready to fill in.

    Its first line lets editors with yaml-language-server complete and check the file.
    """
    from deploy.config.schema import integration_schema
    from deploy.scaffold.scaffold import NAME, SCHEMA, integration_file
    from forwarders import registry

    if not NAME.fullmatch(name):
        raise click.BadParameter(
            f"{name!r} is not a valid name: use a-z, 0-9, - and _, starting with a letter or digit"
        )
    check_name("forwarder", kind, registry.names())
    if not (folder / "turnout.yaml").is_file():
        raise click.BadParameter(f"{folder} is not a configuration folder: it has no turnout.yaml")
    path, schema = folder / "integrations" / f"{name}.yaml", folder / SCHEMA
    try:
        for parent in (path.parent, schema.parent):
            parent.mkdir(exist_ok=True)
        schema.write_text(json.dumps(integration_schema(), indent=2) + "\n", encoding="utf-8")
        with path.open("x", encoding="utf-8") as file:
            file.write(integration_file(name, registry.find(kind)))
    except FileExistsError:
        raise Failed(f"{path} already exists") from None
    except registry.UnknownForwarderError as error:
        raise Failed(str(error)) from error
    except OSError as error:
        raise Failed(f"cannot write {error.filename}: {error.strerror}") from error
    echo(f"wrote {path}; check it with: turnout check --config {folder}")
