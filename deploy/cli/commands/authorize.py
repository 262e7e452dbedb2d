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
    """Get a new refresh token for an integration that has none, or whose token the vendor refuses.

    Prints the URL of the vendor's page, waits until you authorize the app there with a browser on this machine, and
    prints the token as VARIABLE=VALUE. Set it in the environment of `turnout forwarder` and restart it. If the
    integration reads the token from a file (which must exist), prints only the token. The app's settings at the vendor
    must allow redirects to http://localhost:PORT/.
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
        # The command obtains this variable's value, so that it need not be set yet.
        os.environ.setdefault(reference[1], "none")
    forwarder = load(folder, f"integrations/{integration}.yaml").integrations[integration].make()
    try:
        token = get_token(
            forwarder, port, lambda page: echo(f"Open this page and authorize the app:\n{page}", err=True)
        )
    except NotAuthorizedError as error:
        raise Failed(str(error)) from error
    except OSError as error:
        raise Failed(f"cannot listen on 127.0.0.1:{port}: {error.strerror}") from error
    echo(f"{reference[1]}={token}" if reference[1] else token)
