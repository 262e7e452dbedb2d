"""Print the output of `turnout up`."""

import shlex
from time import monotonic

import orjson
from rich.text import Text

from deploy.config.configuration import Configuration
from deploy.live.live_view import OutcomeRow, SeenEvent, Update
from deploy.runtime.sample_event import choose_sample
from deploy.terminal.console import PlainConsole, one_line
from deploy.terminal.escaping import escape
from streams.plurals import counted
from streams.records.outcomes import Outcome, find_outcome
from streams.records.rejected import QUARANTINED_REASON, Rejected

MAX_EVENTS_PER_SECOND = 20
"""The maximum number of events shown per second; others are counted."""


class Terminal:
    """Prints events with their outcomes."""

    def __init__(self, configuration: Configuration) -> None:
        self._console = PlainConsole()
        self._configuration = configuration
        self._second, self._count = 0, 0

    def follow(self, configuration: Configuration) -> None:
        """Explain events by a changed configuration."""
        self._configuration = configuration

    def print_line(self, text: str = "", style: str = "") -> None:
        """Print a line without wrapping, so that it can be copied."""
        self._console.print(Text(escape(text), style), soft_wrap=True)

    def report(self, process: str, text: str) -> None:
        """Print a warning of one of the processes."""
        self._console.print(one_line((f"{process}: ", "yellow"), text))

    def welcome(self, address: str, console: str | None) -> None:
        """Print the link of the console, and the collector's address and write keys with a request to copy."""
        self.print_line()
        if console:
            self.print_line(f"console: {console}", "bold")
        for name, file in self._configuration.source_files.items():
            for key in file.write_keys:
                self.print_line(f"source {name}: send to {address} with the write key {key.get_secret_value()}")
        keys = {name: file.write_keys[-1] for name, file in self._configuration.source_files.items() if file.write_keys}
        if keys:
            source, key = list(keys.items())[-1]
            sample = dict(choose_sample(self._configuration, source))
            user, path = shlex.quote(f"{key.get_secret_value()}:"), f"/v1/{sample.pop('type')}"
            self.print_line("\nTry:\n")
            self.print_line(f"curl -u {user} {address}{path} -d {shlex.quote(orjson.dumps(sample).decode())}", "bold")
        self.print_line("\nPress Ctrl-C to stop. Events are shown as they arrive:\n")

    def show_update(self, update: Update) -> None:
        """Print an event with its outcome and payload for each integration."""
        if not self._is_below_limit():
            return
        seen, outcomes, pending = update
        event = seen.event or {}
        title = one_line(
            (f"{event.get('type', '')} {event.get('event') or event.get('name') or ''}".strip(), "bold"),
            f"  user {event.get('userId') or event.get('anonymousId')}  from {seen.source or 'its write key'}",
        )
        self._console.print(title)
        for note in () if seen.is_reported else seen.notes:
            self._console.print(one_line(("  noted", "yellow"), f"  {note}"), no_wrap=True, overflow="ellipsis")
        rows = [
            (fate.integration, fate.outcome, fate.rule, self._explain(fate, seen))
            for fate in sorted(outcomes, key=lambda it: it.integration)
        ]
        rows += [(name, "waiting", "", "no outcome yet") for name in pending]
        wide = [max(len(row[column]) for row in rows) if rows else 0 for column in range(3)]
        for name, outcome, rule, text in rows:
            line = one_line(
                f"  {name:<{wide[0]}}  ",
                (f"{outcome:<{wide[1]}}", known.colour if (known := find_outcome(outcome)) else "yellow"),
                f"  {rule:<{wide[2]}}  {text}",
            )
            self._console.print(line, no_wrap=True, overflow="ellipsis")

    def show_rejected(self, rejected: Rejected) -> None:
        """Print why an event is rejected or quarantined."""
        if self._is_below_limit():
            how = rejected.reason if rejected.reason == QUARANTINED_REASON else "rejected"
            self._console.print(one_line((how, "red"), f"  {rejected.detail}"))
            value = (rejected.value or b"").decode(errors="replace")
            self._console.print(one_line(f"  {value}"), no_wrap=True, overflow="ellipsis")

    def _explain(self, fate: OutcomeRow, seen: SeenEvent) -> str:
        if fate.reason:
            return fate.reason
        if fate.payload is not None:
            return orjson.dumps(fate.payload).decode()
        # An integration may have been added since the start.
        integration = self._configuration.integrations.get(fate.integration)
        sources = integration.sources if integration else None
        if fate.outcome == Outcome.FILTERED and not fate.rule:
            return "not from one of its sources" if sources and seen.source not in sources else "no rule matches"
        known = find_outcome(fate.outcome)
        return known.meaning if known else ""

    def _is_below_limit(self) -> bool:
        """Return whether another event may be shown in this second; prints how many others there were at its end."""
        second = int(monotonic())
        if second != self._second:
            if self._count > MAX_EVENTS_PER_SECOND:
                self.print_line(f"… and {counted(self._count - MAX_EVENTS_PER_SECOND, 'more event')}", "dim")
            self._second, self._count = second, 0
        self._count += 1
        return self._count <= MAX_EVENTS_PER_SECOND
