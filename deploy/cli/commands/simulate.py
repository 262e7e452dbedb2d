import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deploy.terminal.escaping import echo_json
from streams.plurals import counted

if TYPE_CHECKING:
    from deploy.simulator.faults import Fault

HOST, PORT = "127.0.0.1", 8099


class _Faults(click.ParamType):
    name = "FAULT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "list[Fault]":
        from pydantic import ValidationError

        from deploy.simulator.faults import read_script

        try:
            return read_script(value)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            self.fail(f"{'.'.join(map(str, first['loc']))}: {first['msg']}", param, ctx)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command(short_help="Run a local simulator of the vendors' APIs.")
@click.option("--host", default=HOST, show_default=True, help="The address to listen on.")
@click.option("--port", default=PORT, show_default=True, help="The port to listen on.")
@click.option("--quiet", is_flag=True, help="Do not show the requests.")
@click.option("--fault", "faults", multiple=True, type=_Faults(), help="A fault in YAML, such as '{path: /mp, status: "
              "503, times: 3}'. Repeatable.")  # fmt: skip
@click.option("--script", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE",
              help="A file with a list of faults, in YAML or JSON, after those of --fault.")  # fmt: skip
@click.option("--expired", is_flag=True, help="Serve HTTPS with an expired certificate.")
@click.option("--json", "as_json", is_flag=True, help="Print the counts at the end as JSON, for programs.")
@click.pass_context
def simulate(
    context: click.Context,
    host: str,
    port: int,
    faults: "tuple[list[Fault], ...]",
    script: Path | None,
    *,
    quiet: bool,
    expired: bool,
    as_json: bool,
) -> None:
    """Simulate the vendors' APIs: accept any request, keep the last 1,000, and show them.

    Each simulated vendor enforces its limits, rates and time window, and responds as the vendor does. GET /_requests
    returns the requests received. GET /_counts reports, per vendor and idempotency key, which deliveries were accepted,
    repeated and never accepted; the command prints the same at its end.

    A fault applies to the next requests whose path begins with its `path`. It can set a `status` with `headers` and a
    `body` in place of the vendor's response; a `delay` in seconds; `poison`, a text: deliveries that contain it are
    refused as the vendor refuses them; and `wrong`, how the response fails: reset or silent (not accepted), lost
    (accepted, but no response), truncated, slow (1 byte per second), huge (2 GB) or bomb (gzip of 2 GB). `times` is the
    number of requests that it applies to, null for all. POST /_script takes a JSON list of faults, DELETE /_script
    removes them.
    """
    import asyncio

    from deploy.runtime.logs import log_ready, set_up
    from deploy.simulator.server import Simulator, serve
    from deploy.simulator.vendors import SeenRequest, VendorReply
    from deploy.terminal.console import PlainConsole, one_line
    from deploy.terminal.failures import listen

    console = PlainConsole(stderr=as_json)

    def show(seen: SeenRequest, reply: VendorReply) -> None:
        request_line = (f"{seen.method} {seen.path}", "bold")
        console.print(one_line(request_line, f" {seen.vendor} → {reply.status or 'no response'}"))
        if seen.body not in ("", None):
            console.print_json(data=seen.body)

    set_up()
    script_faults = [fault for some in faults for fault in some]
    if script:
        script_faults += _Faults().convert(script.read_bytes(), None, context)
    simulator = Simulator(show=(lambda *_: None) if quiet else show, script=script_faults)
    for number in (signal.SIGINT, signal.SIGTERM):
        # The server stops on either signal and then raises it again, which must not end this process.
        signal.signal(number, signal.SIG_IGN)
    with listen(host, port) as listener:
        if not quiet:
            scheme = "https" if expired else "http"
            console.print(
                f"The simulator listens on {scheme}://{host}:{port}; GET /_requests lists the requests received."
            )
        log_ready("simulator", port=port)
        asyncio.run(serve(simulator, listener, expired=expired))
    if as_json:
        echo_json(simulator.counts(), indent=None)
    elif not quiet:
        for vendor, counts in simulator.counts().items():
            repeated, missing = len(counts["repeated"]), len(counts["missing"])
            console.print(
                f"{vendor}: {counted(counts['requests'], 'request')}, "
                f"{counted(counts['deliveries'], 'delivery', 'deliveries')} under {counted(counts['keys'], 'key')}, "
                f"{repeated:,} of them more than once; {missing:,} never accepted"
            )
