from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deploy.cli.options import check_name
from deploy.terminal.escaping import echo

if TYPE_CHECKING:
    from deploy.conformance.golden import Golden

CASES = Path("tests", "requests")


@click.command(short_help="Check a forwarder against the plug-in contract.")
@click.argument("name")
@click.option(
    "--cases",
    type=click.Path(path_type=Path),
    default=CASES,
    show_default=True,
    metavar="DIR",
    help="The folder with NAME/forwarder.yaml and the golden requests.",
)
@click.option("--update", is_flag=True, help="Write the current requests into the golden files.")
@click.pass_context
def conformance(context: click.Context, name: str, cases: Path, update: bool) -> None:
    """Check a forwarder's contract, settings, payloads, requests and responses, and print each problem.

    The same checks run under pytest with `-p deploy.conformance.plugin`. Exits with 1 if there are problems.
    """
    from deploy.conformance.golden import DESCRIPTION, Golden
    from deploy.terminal.failures import Failed
    from forwarders import registry
    from transforms import RuleError

    check_name("forwarder", name, registry.names())
    folder = cases / name
    if not (folder / DESCRIPTION).is_file():
        raise click.UsageError(f"{folder / DESCRIPTION} is missing: give its folder with --cases")
    try:
        golden = Golden(folder)
        if update:
            golden.update()
            golden = Golden(folder)
        passed, failed = 0, 0
        for title, problems in _run(golden):
            passed, failed = passed + (not problems), failed + bool(problems)
            for problem in problems:
                echo(f"{title}: {problem}")
    except (RuleError, registry.UnknownForwarderError, ImportError) as error:
        raise Failed(str(error)) from error
    echo(f"{name}: {passed} passed, {failed} failed")
    context.exit(1 if failed else 0)


def _run(golden: "Golden") -> Iterator[tuple[str, list[str]]]:
    from deploy.conformance.checks import CHECKS, check_case

    for check in CHECKS:
        yield check.__name__.replace("_", " "), _problems(partial(check, golden))
    for case in golden.cases:
        yield case.name, _problems(partial(check_case, golden, case))


def _problems(run: Callable[[], Iterator[str]]) -> list[str]:
    """Return the problems that a check finds; an exception in the forwarder is one of them."""
    from transforms import RuleError

    try:
        return list(run())
    except (RuleError, ImportError):
        raise
    except Exception as error:  # noqa: BLE001  # a forwarder's code may raise anything
        return [f"{type(error).__name__}: {error}"]
