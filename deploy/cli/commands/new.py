from pathlib import Path

import click

from deploy.cli.options import check_name, config_option, load
from deploy.terminal.escaping import echo
from deploy.terminal.failures import Failed


@click.group(short_help="Create an integration, source, plan or forwarder.")
def new() -> None:
    """Create the file of an integration, source or tracking plan, or a package with a forwarder."""


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
    from deploy.scaffold.scaffold import integration_file
    from forwarders import registry

    _check_name(name)
    check_name("forwarder", kind, registry.names())
    try:
        text = integration_file(name, registry.find(kind))
        _write(folder, "integration", name, text)
    except registry.UnknownForwarderError as error:
        raise Failed(str(error)) from error


@new.command(short_help="Create sources/NAME.yaml.")
@click.argument("name")
@click.option("--plan", metavar="NAME", help="The tracking plan that checks the source's events.")
@config_option
def source(name: str, plan: str | None, folder: Path) -> None:
    """Write sources/NAME.yaml: a source whose clients send events with a write key.

    Prints a new random write key, and the variable to set it in.
    """
    from deploy.scaffold.folder import key_variable, new_secret, source_file

    _check_name(name)
    if plan is not None:
        check_name("plan", plan, sorted(path.stem for path in folder.glob("plans/*.yaml")))
    _write(folder, "source", name, source_file(name, plan))
    echo(f"a new write key for it, to set where the processes run or in .env: {key_variable(name)}={new_secret()}")


@new.command(short_help="Create plans/NAME.yaml.")
@click.argument("name")
@click.option("--seen", is_flag=True, help="Plan the events that the ledger has seen, instead of an example.")
@click.option("--source", metavar="NAME", help="With --seen: only the events of this source.")
@config_option
def plan(name: str, folder: Path, *, seen: bool, source: str | None) -> None:
    """Write plans/NAME.yaml: a tracking plan with one event, to change and to name in a source's file.

    With --seen, the plan has the events of the ledger's catalog, with the properties and types that they usually have.
    """
    from deploy.scaffold.folder import plan_file

    _check_name(name)
    if source is not None and not seen:
        raise click.UsageError("--source needs --seen")
    _write(folder, "plan", name, _plan_from_seen(folder, name, source) if seen else plan_file(name))


def _plan_from_seen(folder: Path, name: str, source: str | None) -> str:
    from deploy.catalog.plan_from_seen import NothingSeenError, plan_from_seen
    from deploy.catalog.seen_events import read_seen

    configuration = load(folder)
    if source is not None:
        check_name("source", source, configuration.source_files)
    try:
        return plan_from_seen(name, read_seen(configuration, source))
    except NothingSeenError as error:
        raise Failed(str(error)) from error


def _check_name(name: str) -> None:
    from deploy.scaffold.scaffold import NAME

    if not NAME.fullmatch(name):
        raise click.BadParameter(
            f"{name!r} is not a valid name: use a-z, 0-9, - and _, starting with a letter or digit"
        )


def _write(folder: Path, kind: str, name: str, text: str) -> None:
    """Write a file of a configuration folder, and print how to check it; raises BadParameter and Failed."""
    from deploy.scaffold.folder import write_file

    if not (folder / "turnout.yaml").is_file():
        raise click.BadParameter(f"{folder} is not a configuration folder: it has no turnout.yaml")
    try:
        path = write_file(folder, kind, name, text)
    except FileExistsError as error:
        raise Failed(f"{error.filename} already exists") from None
    except OSError as error:
        raise Failed(f"cannot write {error.filename}: {error.strerror}") from error
    echo(f"wrote {path}; check it with: turnout check {folder}")
