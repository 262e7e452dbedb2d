import os
from pathlib import Path

import click

from deploy.cli.options import check_name, config_option, load, read
from deploy.terminal.escaping import echo

PORT = 8098


@click.command(short_help="Get a new refresh token for an integration.")
@click.argument("integration")
@click.option("--port", default=PORT, show_default=True, help="Port to which the vendor's page redirects back.")
@config_option
def authorize(integration: str, port: int, folder: Path) -> None:
    """Get a new refresh token for an integration that has none, or whose vendor refuses the one it has.

    Prints the URL of the vendor's page, waits until somebody authorizes the app there with a browser on this machine,
    and then prints the token as VARIABLE=VALUE. Set it in the environment of `turnout forwarder`, and restart that. If
    the token belongs in a file, which must exist, prints the token alone. The app's settings at the vendor must allow
    redirects to http://localhost:PORT/.
    """
    from deploy.cli.authorization import NotAuthorizedError
    from deploy.cli.authorization import authorize as get_token
    from deploy.config.environment import REFERENCE
    from deploy.terminal.failures import Failed

    configuration = read(folder)
    check_name("integration", integration, configuration.integrations)
    settings = configuration.integrations[integration].document.data.get("settings", {})
    auth = settings.get("auth")
    reference = REFERENCE.fullmatch(str(auth.get("refresh_token"))) if isinstance(auth, dict) else None
    if reference is None:
        path = configuration.integrations[integration].document.path
        raise click.UsageError(f"{path}: `settings.auth` has no `refresh_token` from a variable or file")
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
