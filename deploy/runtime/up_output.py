"""Print the output of `turnout up`."""

import shlex
from time import monotonic

import orjson
from rich.text import Text

from deploy.config.configuration import Configuration
from deploy.runtime.live_view import OutcomeRow, SeenEvent, Update
from deploy.terminal.console import PlainConsole, one_line
from deploy.terminal.escaping import escape
from streams.plurals import counted
from streams.records.outcomes import Outcome, find_outcome
from streams.records.rejected import QUARANTINED_REASON, Rejected

SHOWN_A_SECOND = 20
"""Events; of more only the number is shown."""

SAMPLE = {
    "userId": "u-1",
    "event": "Order Completed",
    "properties": {
        "order_id": "A-1001",
        "total": "59.90",
        "currency": "EUR",
        "email": "Ann@Example.com",
        "products": [{"product_id": "B-7", "sku": "B-7", "name": "Kettle", "price": 59.9, "quantity": 1}],
    },
}


class Terminal:
    """Prints events and what became of them."""

    def __init__(self, configuration: Configuration) -> None:
        self._console = PlainConsole()
        self._configuration = configuration
        self._second, self._count = 0, 0

    def say(self, text: str = "", style: str = "") -> None:
        """Print a line as it stands, never broken, so that it can be copied."""
        self._console.print(Text(escape(text), style), soft_wrap=True)

    def report(self, process: str, text: str) -> None:
        """Print a warning of one of the processes."""
        self._console.print(one_line((f"{process}: ", "yellow"), text))

    def welcome(self, address: str) -> None:
        """Print where to send events to, with a line to copy."""
        self.say()
        for name, file in self._configuration.source_files.items():
            for key in file.write_keys:
                self.say(f"source {name}: send to {address} with the write key {key.get_secret_value()}")
        keys = [key for file in self._configuration.source_files.values() for key in file.write_keys]
        if keys:
            user = shlex.quote(f"{keys[-1].get_secret_value()}:")
            self.say("\nTry:\n")
            self.say(f"curl -u {user} {address}/v1/track -d {shlex.quote(orjson.dumps(SAMPLE).decode())}", "bold")
        self.say("\nCtrl-C stops all. Events are shown as they come:\n")

    def tell(self, news: Update) -> None:
        """Print an event and what each integration got of it, or why not."""
        if not self._has_room():
            return
        seen, fates, pending = news
        event = seen.event or {}
        title = one_line(
            (f"{event.get('type', '')} {event.get('event') or event.get('name') or ''}".strip(), "bold"),
            f"  user {event.get('userId') or event.get('anonymousId')}  from {seen.source or 'its write key'}",
        )
        self._console.print(title)
        for note in () if seen.is_told else seen.notes:
            self._console.print(one_line(("  noted", "yellow"), f"  {note}"), no_wrap=True, overflow="ellipsis")
        rows = [
            (fate.integration, fate.outcome, fate.rule, self._explain(fate, seen))
            for fate in sorted(fates, key=lambda it: it.integration)
        ]
        rows += [(name, "waiting", "", "not answered yet; it is tried again") for name in pending]
        wide = [max(len(row[column]) for row in rows) if rows else 0 for column in range(3)]
        for name, outcome, rule, text in rows:
            line = one_line(
                f"  {name:<{wide[0]}}  ",
                (f"{outcome:<{wide[1]}}", known.colour if (known := find_outcome(outcome)) else "yellow"),
                f"  {rule:<{wide[2]}}  {text}",
            )
            self._console.print(line, no_wrap=True, overflow="ellipsis")

    def tell_rejected(self, rejected: Rejected) -> None:
        """Print why an event is none, or is kept aside."""
        if self._has_room():
            how = rejected.reason if rejected.reason == QUARANTINED_REASON else "rejected"
            self._console.print(one_line((how, "red"), f"  {rejected.detail}"))
            value = (rejected.value or b"").decode(errors="replace")
            self._console.print(one_line(f"  {value}"), no_wrap=True, overflow="ellipsis")

    def _explain(self, fate: OutcomeRow, seen: SeenEvent) -> str:
        if fate.reason:
            return fate.reason
        if fate.payload is not None:
            return orjson.dumps(fate.payload).decode()
        sources = self._configuration.integrations[fate.integration].sources
        if fate.outcome == Outcome.FILTERED and not fate.rule:
            return "not from a source of its own" if sources and seen.source not in sources else "no rule takes it"
        known = find_outcome(fate.outcome)
        return known.meaning if known else ""

    def _has_room(self) -> bool:
        """Whether this second has room for one more; says at its end how many had none."""
        second = int(monotonic())
        if second != self._second:
            if self._count > SHOWN_A_SECOND:
                self.say(f"… and {counted(self._count - SHOWN_A_SECOND, 'more event')}", "dim")
            self._second, self._count = second, 0
        self._count += 1
        return self._count <= SHOWN_A_SECOND
