import asyncio

import click

PORT = 8099


@click.command()
@click.option("--port", default=PORT, show_default=True, help="The port to listen on, at 127.0.0.1.")
@click.option("--quiet", is_flag=True, help="Do not show the requests.")
def simulate(port: int, quiet: bool) -> None:
    """Stand for the vendors: take any request, keep the last 1,000, and show them.

    Each vendor's API is held to its limits, rates and time window, and answers as the vendor does. GET /_requests gives
    what came, GET /_counts how many deliveries and which of them twice. POST /_script takes faults to answer with: a
    JSON list of {path, status, headers, body, delay, times, poison}; deliveries that hold the text `poison` are refused
    as that vendor refuses them.
    """
    from rich.console import Console

    from deploy.failures import listen
    from deploy.processes.logs import say_ready, set_up
    from deploy.simulator.server import Simulator, serve
    from deploy.simulator.vendors import Reply, Seen

    console = Console(highlight=False)

    def show(seen: Seen, reply: Reply) -> None:
        console.print(f"[bold]{seen.method} {seen.path}[/] {seen.vendor} → {reply.status}")
        if seen.body not in ("", None):
            console.print_json(data=seen.body)

    set_up()
    simulator = Simulator(show=(lambda *_: None) if quiet else show)
    with listen("127.0.0.1", port) as listener:
        if not quiet:
            console.print(f"The simulator listens on http://127.0.0.1:{port}; GET /_requests gives what came.")
        say_ready("simulator", port=port)
        asyncio.run(serve(simulator, listener))
