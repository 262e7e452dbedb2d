"""Measure the console's Flow over 30 days, through HTTP: python -m tests.benchmarks.flow [DAYS].

The ledger has 20 kinds of events and five integrations in every minute; its API and the console share the machine.
"""

import sys
import tempfile
import time
from pathlib import Path

import orjson

from deploy.console.access.roles import Role
from deploy.console.screens.flow import PERIODS
from tests.benchmarks.ledger import fill_days
from tests.deploy.console.flow_numbers import check_flow, counts
from tests.deploy.console.serving import EXAMPLE, example, serving_console, serving_ledger

REQUESTS = 7


def main(days: int) -> None:
    """Print the milliseconds of a request for each period; fails if a number differs from `turnout counts`."""
    with tempfile.TemporaryDirectory() as name:
        per_day = fill_days(Path(name), days)
        print(f"{days} days of {per_day:,} events", flush=True)
        figures = {}
        with serving_ledger(Path(name)) as port, serving_console(example(port)) as console:
            client = console.session(Role.VIEWER)
            for period in PERIODS:
                times = []
                for _ in range(REQUESTS):
                    started = time.monotonic()
                    answer = client.get(f"{console.url}/flow?period={period}", timeout=60)
                    times.append(round((time.monotonic() - started) * 1000))
                    assert answer.status_code == 200
                figures[period] = {
                    "first, ms": times[0],
                    "median, ms": sorted(times)[REQUESTS // 2],
                    "worst, ms": max(times),
                }
            page = client.get(f"{console.url}/flow.json?period=month", timeout=60).json()
            check_flow(page, counts(EXAMPLE, port, page["since"]))
    print(orjson.dumps(figures, option=orjson.OPT_INDENT_2).decode())


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 30)
