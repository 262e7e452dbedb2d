"""Flow: the outcomes of accepted events by integration, and whether the counts balance."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar, NamedTuple

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Route

from deploy.console.pages import ConsolePage, ConsoleScreen, page
from deploy.ledger.event_story import line_of_rule
from streams.ledger.books import is_unread
from streams.ledger.store import REJECTED, CountKey
from streams.parsing.times import rfc3339, seconds_of
from streams.records.outcomes import FORWARDED, Outcome, find_outcome
from streams.records.rejected import QUARANTINED_REASON, Rejected

MINUTE, HOUR, DAY = 60, 3600, 24 * 3600

SAMPLES = 50

REJECTED_BY_COLLECTOR = ""
"""The type under which the ledger counts events that the collector rejected, and that no router read."""


class Period(NamedTuple):
    """A period that the page offers: its name, its length, and the seconds per point of the chart."""

    title: str
    seconds: int
    step: int


PERIODS: Mapping[str, Period] = {
    "hour": Period("Hour", HOUR, MINUTE),
    "day": Period("24 h", DAY, HOUR),
    "week": Period("7 days", 7 * DAY, HOUR),
    "month": Period("30 days", 30 * DAY, DAY),
}


STEP_NAMES: Mapping[int, str] = {MINUTE: "minute", HOUR: "hour", DAY: "day"}
"""The ledger's names of steps in seconds."""

FAMILIES: Mapping[str, Sequence[str]] = {
    "delivered": (Outcome.DELIVERED,),
    "filtered": (Outcome.FILTERED, Outcome.SAMPLED, Outcome.DUPLICATE, Outcome.DRAINING),
    "privacy": (Outcome.CONSENT, Outcome.OPTED_OUT, Outcome.SUPPRESSED),
    "held": (Outcome.QUARANTINED, Outcome.EXPIRED),
    "dead": (Outcome.DEAD,),
    "lost": (Outcome.LOST,),
    "waiting": (FORWARDED,),
}
"""The columns of the funnel, and the outcomes that each sums up."""


class FlowScreen(ConsoleScreen):
    """The funnels, and example events for each number."""

    title: ClassVar[str] = "Flow"
    path: ClassVar[str] = "/flow"
    key: ClassVar[str] = "l"

    def routes(self) -> Sequence[Route]:
        """Return the routes."""
        return [*page("/flow", self._show), *page("/flow/samples", self._samples), *page("/flow/audit", self._audit)]

    async def _show(self, request: Request) -> ConsolePage:
        name, period, since, until = _period(request)
        source, chosen = request.query_params.get("source", ""), request.query_params.get("integration", "")
        span = {"since": since, "until": until, "step": STEP_NAMES[period.step]}
        events, outcomes, over_time = await asyncio.gather(
            self.backend.ask("/counts", **span, by="time,source"),
            self.backend.ask("/counts", **span, by="source,type,integration,rule,outcome,reason"),
            self.backend.ask("/counts", **span, by="time,source,type,integration,outcome"),
        )
        books = _Books(events["rows"], outcomes["rows"], source)
        names = [*self.backend.configuration.integrations]
        names += sorted({row["integration"] for row in books.rows} - {*names, ""})
        funnels = [self._funnel(books, integration) for integration in names]
        times = list(range(seconds_of_time(events["since"]), until, period.step))
        data = {
            "period": name,
            "periods": {key: each.title for key, each in PERIODS.items()},
            "since": events["since"],
            "until": rfc3339(until),
            "source": source,
            "sources": books.sources,
            **books.totals(),
            "unread": books.unread,
            "integrations": funnels,
            "unbalanced": [it["name"] for it in funnels if it["differs"] and not it["match_all"]],
            "integration": chosen,
            "detail": self._detail(books, chosen) if chosen else [],
            "chart": _chart(times, events["rows"], over_time["rows"], source, chosen, period.step),
        }
        return ConsolePage(f"Flow of {chosen}" if chosen else "Flow", "flow.html", data)

    def _funnel(self, books: "_Books", integration: str) -> dict[str, Any]:
        """Return the sums of one integration, and their difference from the accepted events."""
        rows = [row for row in books.rows if row["integration"] == integration]
        sums: Counter[str] = Counter()
        for row in rows:
            sums[_family(row["outcome"])] += row["count"]
        known = self.backend.configuration.integrations.get(integration)
        return {
            "name": integration,
            **{family: sums[family] for family in FAMILIES},
            "sum": sums.total(),
            "differs": sums.total() - books.accepted,
            # Each rule that matched has an outcome of its own.
            "match_all": bool(known and known.rules.match_all),
            "known": known is not None,
        }

    def _detail(self, books: "_Books", integration: str) -> list[dict[str, Any]]:
        """Return the outcomes of one integration by rule and reason, in the order of the columns."""
        order = [outcome for outcomes in FAMILIES.values() for outcome in outcomes]
        rows: Counter[tuple[str, str, str]] = Counter()
        for row in books.rows:
            if row["integration"] == integration:
                rows[row["outcome"], row["rule"], row["reason"]] += row["count"]
        ordered = sorted(rows.items(), key=lambda it: (_index(order, it[0][0]), -it[1], it[0]))
        return [
            {
                "outcome": outcome,
                "family": _family(outcome),
                "rule": rule,
                "where": self._line(integration, rule),
                "reason": reason,
                "meaning": _meaning(outcome),
                "count": count,
            }
            for (outcome, rule, reason), count in ordered
        ]

    def _line(self, integration: str, rule: str) -> str | None:
        configuration = self.backend.configuration
        known = configuration.integrations.get(integration)
        return line_of_rule(known, rule, configuration.folder) if known and rule else None

    async def _samples(self, request: Request) -> ConsolePage:
        name, _, since, until = _period(request)
        given = request.query_params
        wanted = {name: given.get(name) for name in ("source", "integration", "rule", "outcome", "reason")}
        wanted["source"] = wanted["source"] or None
        answer = await self.backend.ask("/events", **wanted, since=since, until=until, limit=SAMPLES)
        events = answer["events"]
        if wanted["outcome"] == REJECTED and not wanted["integration"]:
            events = events + await asyncio.to_thread(self._rejected, wanted, since, until)
            events = sorted(events, key=lambda event: str(event["minute"]), reverse=True)[:SAMPLES]
        data = {"period": name, "wanted": wanted, "events": events, "limit": SAMPLES}
        return ConsolePage("Examples", "flow_samples.html", data)

    def _rejected(self, wanted: Mapping[str, str | None], since: int, until: int) -> list[dict[str, Any]]:
        """Return the newest events that the collector rejected, which the ledger counts but cannot find."""
        with self.backend.kafka() as kafka:
            found = kafka.newest_rejected(since, until)
        return [
            {
                **place._asdict(),
                **_describe_rejected(rejected),
                "minute": rfc3339(at),
                "outcomes": [],
            }
            for place, at, rejected in found
            if wanted["source"] in (None, rejected.source) and wanted["reason"] in (None, rejected.reason)
        ]

    async def _audit(self, request: Request) -> ConsolePage:
        name, _, since, until = _period(request)
        report = await self.backend.ask("/audit", since=since, until=until)
        return ConsolePage("Audit", "flow_audit.html", {"period": name, "since": rfc3339(since), "report": report})


class _Books:
    """Received, accepted and rejected events, and the outcomes, of one source or of all.

    Args:
        events: Counts of events by time and source.
        outcomes: Counts of outcomes by source, type, integration, rule, outcome and reason.
        source: The source; empty for all.

    """

    def __init__(self, events: Iterable[Mapping[str, Any]], outcomes: Iterable[Mapping[str, Any]], source: str) -> None:
        self.by_source: dict[str, Counter[str]] = defaultdict(Counter)
        self.unread = 0
        """The number of events that were lost before a router read them; their source is not known."""
        for row in events:
            self.by_source[row["source"]]["read"] += row["count"]
        outcomes = list(outcomes)
        for row in outcomes:
            if is_unread(CountKey(*(row[name] for name in CountKey._fields))):
                self.unread += row["count"]
            elif row["outcome"] == REJECTED and row["reason"] != QUARANTINED_REASON:
                by_collector = row["type"] == REJECTED_BY_COLLECTOR
                self.by_source[row["source"]]["by collector" if by_collector else "by router"] += row["count"]
        self.rows = [row for row in outcomes if row["integration"] and source in ("", row["source"])]
        self._chosen: Counter[str] = Counter()
        for name, counter in self.by_source.items():
            if source in ("", name):
                self._chosen.update(counter)
        self.accepted = self._chosen["read"] - self._chosen["by router"]

    @property
    def sources(self) -> list[dict[str, Any]]:
        """The number of received events by source, the largest first."""
        found = [
            {"source": name, "received": counter["read"] + counter["by collector"]}
            for name, counter in self.by_source.items()
        ]
        return sorted(found, key=lambda each: (-each["received"], each["source"]))

    def totals(self) -> dict[str, int]:
        """Return the sums of the chosen source."""
        rejected = self._chosen["by collector"] + self._chosen["by router"]
        received = self._chosen["read"] + self._chosen["by collector"]
        return {"received": received, "accepted": self.accepted, "rejected": rejected}


def _chart(
    times: Sequence[int],
    events: Iterable[Mapping[str, Any]],
    outcomes: Iterable[Mapping[str, Any]],
    source: str,
    integration: str,
    step: int,
) -> dict[str, Any]:
    """Return the lines of the chart: received events, or their outcomes for one integration."""
    lines: dict[str, Counter[int]] = {}
    if integration:
        lines = {family: Counter() for family in FAMILIES}
        for row in outcomes:
            if row["integration"] == integration and source in ("", row["source"]):
                lines[_family(row["outcome"])][seconds_of_time(row["time"])] += row["count"]
    else:
        lines = {"received": Counter(), "rejected": Counter()}
        for row in events:
            if source in ("", row["source"]):
                lines["received"][seconds_of_time(row["time"])] += row["count"]
        for row in outcomes:
            if row["outcome"] == REJECTED and source in ("", row["source"]):
                at = seconds_of_time(row["time"])
                lines["rejected"][at] += row["count"]
                if row["type"] == REJECTED_BY_COLLECTOR:
                    lines["received"][at] += row["count"]
    used = {name: line for name, line in lines.items() if line.total() or name in ("received", "delivered")}
    return {"step": step, "times": list(times), "lines": {name: [it[at] for at in times] for name, it in used.items()}}


def _period(request: Request) -> tuple[str, Period, int, int]:
    """Return the requested period with its name, and its bounds in whole steps; raises HTTPException."""
    name = request.query_params.get("period", "hour")
    period = PERIODS.get(name)
    if period is None:
        raise HTTPException(400, f"The period {name!r} is not one of {', '.join(PERIODS)}.")
    until = (int(time.time()) // period.step + 1) * period.step
    return name, period, until - period.seconds, until


def _family(outcome: str) -> str:
    return next((family for family, outcomes in FAMILIES.items() if outcome in outcomes), "filtered")


def _meaning(outcome: str) -> str:
    if outcome == Outcome.FILTERED:
        return "no rule took it, or it is not from one of the sources"
    known = find_outcome(outcome)
    return known.meaning if known else "no outcome yet"


def _index(order: Sequence[str], outcome: str) -> int:
    return order.index(outcome) if outcome in order else len(order)


def _describe_rejected(rejected: Rejected) -> dict[str, Any]:
    """Return a rejected event's fields as for accepted events; type and name only if it is JSON."""
    event: Any = None
    with suppress(orjson.JSONDecodeError):
        event = orjson.loads(rejected.value or b"")
    known = event if isinstance(event, dict) else {}
    return {
        "source": rejected.source,
        "type": str(known.get("type") or ""),
        "event": str(known.get("event") or ""),
        "rejected": rejected.reason,
        "detail": rejected.detail,
    }


def seconds_of_time(text: str) -> int:
    """Convert a time of the ledger's API to whole seconds since 1970."""
    return round(seconds_of(text))
