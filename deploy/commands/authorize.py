import os
from pathlib import Path

import click

from deploy.commands.options import config_option, load, read
from deploy.config.mistakes import hint_at
from deploy.escaping import echo

PORT = 8098


@click.command()
@click.argument("integration")
@click.option("--port", default=PORT, show_default=True, help="The port at which the vendor's page finds its way back.")
@config_option
def authorize(integration: str, port: int, folder: Path) -> None:
    """Get a new refresh token for an integration whose vendor refuses the one it has, or that has none yet.

    Prints the address of the vendor's page, waits until somebody has let the app in there with a browser on this
    machine, and then prints the token as VARIABLE=VALUE, for the environment of `turnout forwarder`, which has to be
    started again; alone if it belongs in a file, which has to exist. The app's own settings at the vendor must allow
    http://localhost:PORT/ to be returned to.
    """
    from deploy.authorization import NotAuthorizedError
    from deploy.authorization import authorize as get_token
    from deploy.config.environment import REFERENCE
    from deploy.failures import Failed

    configuration = read(folder)
    if integration not in configuration.integrations:
        hint = hint_at(integration, sorted(configuration.integrations))
        raise click.BadParameter(f"no integration is called {integration!r} ({hint})")
    settings = configuration.integrations[integration].document.data.get("settings", {})
    auth = settings.get("auth")
    reference = REFERENCE.fullmatch(str(auth.get("refresh_token"))) if isinstance(auth, dict) else None
    if reference is None:
        raise Failed(f"the settings of {integration} have no refresh token: mend `auth` in its file")
    if reference[1]:
        # It is what is to be got, so that it need not be there yet.
        os.environ.setdefault(reference[1], "none")
    forwarder = load(folder, f"integrations/{integration}.yaml").integrations[integration].make()
    try:
        token = get_token(forwarder, port, lambda page: echo(f"Open this page, and let the app in:\n{page}", err=True))
    except NotAuthorizedError as error:
        raise Failed(str(error)) from error
    except OSError as error:
        raise Failed(f"cannot listen on 127.0.0.1:{port}: {error.strerror}") from error
    echo(f"{reference[1]}={token}" if reference[1] else token)
