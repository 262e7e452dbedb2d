import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deploy.cli.options import broker_errors, check_name, config_option, load
from deploy.cli.selection import json_option
from deploy.terminal.escaping import echo, echo_json
from deploy.terminal.failures import Failed

if TYPE_CHECKING:
    from deploy.config.configuration import Configuration
    from deploy.live.live_view import LiveFilter


@click.command(short_help="Show events as they arrive, with their outcomes.")
@click.option("--source", "sources", multiple=True, metavar="NAME", help="Only events of this source. Repeatable, as "
              "all of these.")  # fmt: skip
@click.option("--integration", "integrations", multiple=True, metavar="NAME", help="Only outcomes of this integration.")
@click.option("--outcome", "outcomes", multiple=True, metavar="NAME", help="Only events with this outcome, such as "
              "dead; rejected for invalid events.")  # fmt: skip
@click.option("--event", "events", multiple=True, metavar="NAME", help="Only track events, pages and screens of this "
              "name, or all calls of this type (page, identify, …).")  # fmt: skip
@click.option("--user", "users", multiple=True, metavar="ID", help="Only events with this userId or anonymousId.")
@click.option("--trace", "traces", multiple=True, metavar="VALUE", help="Only events of requests with this "
              "X-Turnout-Trace.")  # fmt: skip
@config_option
@json_option
def tail(
    sources: tuple[str, ...],
    integrations: tuple[str, ...],
    outcomes: tuple[str, ...],
    events: tuple[str, ...],
    users: tuple[str, ...],
    traces: tuple[str, ...],
    folder: Path,
    *,
    as_json: bool,
) -> None:
    """Show events as they arrive, and what each integration received or why not, until Ctrl-C.

    An event is shown when every integration has an outcome, or after 3 seconds without those that are still missing;
    these follow when they arrive. Several values of an option mean any of them, several options all of them. At most 20
    events per second are shown; with --json all, one per line.
    """
    import asyncio

    configuration = load(folder)

    from deploy.live.live_view import REJECTED, LiveFilter
    from streams.records.outcomes import Outcome

    for name in sources:
        check_name("source", name, configuration.source_files, param_hint="--source")
    for name in integrations:
        check_name("integration", name, configuration.integrations, param_hint="--integration")
    for name in outcomes:
        check_name("outcome", name, [*map(str, Outcome), REJECTED], param_hint="--outcome")
    only = LiveFilter(*map(frozenset, (sources, events, users, traces, integrations, outcomes)))
    with broker_errors(configuration.settings.broker):
        asyncio.run(_follow(configuration, only, as_json=as_json))


async def _follow(configuration: "Configuration", only: "LiveFilter", *, as_json: bool) -> None:
    import asyncio

    from deploy.live.live_view import open_watch, rejected_data, update_data
    from deploy.runtime.up_output import Terminal
    from streams.records.rejected import Rejected

    terminal = Terminal(configuration)
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with open_watch(configuration, only) as watch:
        echo("showing events as they arrive; Ctrl-C stops", err=True)

        async def show() -> None:
            async for each in watch.follow():
                if as_json:
                    echo_json(rejected_data(each) if isinstance(each, Rejected) else update_data(each), indent=None)
                elif isinstance(each, Rejected):
                    terminal.show_rejected(each)
                else:
                    terminal.show_update(each)

        showing, stopped = asyncio.create_task(show()), asyncio.create_task(stopping.wait())
        await asyncio.wait([showing, stopped], return_when=asyncio.FIRST_COMPLETED)
        for task in (showing, stopped):
            task.cancel()
        (failure, _) = await asyncio.gather(showing, stopped, return_exceptions=True)
    if isinstance(failure, OSError):
        raise failure
    if isinstance(failure, Exception):
        raise Failed(f"cannot follow the topics: {failure}") from failure
