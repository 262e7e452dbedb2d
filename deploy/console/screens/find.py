"""Find: show what happened to one event."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Route

from deploy.config.configuration import Configuration
from deploy.console.access.roles import Role
from deploy.console.pages import ConsolePage, ConsoleScreen, Done, action, page, session_of
from deploy.console.story_view import describe
from deploy.dryrun.explanation import explain
from deploy.ledger.client import LedgerAwayError, LedgerRefusedError
from deploy.ledger.event_story import EventStory, StoryTeller
from deploy.ledger.search import Candidates, EventQuery, confirm, find_candidates, find_place
from deploy.replay.one_event import replay_event
from deploy.replay.replay_range import ReplayRange, find_objections
from streams.ledger.store import REJECTED
from streams.records.event import Origin
from streams.records.outcomes import Outcome

MAX_EVENTS = 100
"""Events of a user that are listed, the newest."""

HOUR_SECONDS = 3600

FAILED = frozenset((Outcome.DEAD, Outcome.EXPIRED, Outcome.QUARANTINED, REJECTED))
"""Outcomes that somebody should look at."""

WARM_UP_EVENT = b'{"type": "track", "event": "Warm-up", "messageId": "warm-up", "anonymousId": "warm-up"}'
"""An event that is explained at the start, and is never sent."""


class FindScreen(ConsoleScreen):
    """The home page: one box for a messageId, a user, or a place in Kafka."""

    title: ClassVar[str] = "Find"
    path: ClassVar[str] = "/"
    key: ClassVar[str] = "f"

    def routes(self) -> Sequence[Route]:
        """Return the routes."""
        return [
            *page("/", self._show),
            *page("/event/explain", self._explain),
            *action("/event/replay", self._replay, needs=Role.OPERATOR),
        ]

    def warm_up(self) -> None:
        """Connect to Kafka, and compile the rules for explanations."""
        configuration = self.backend.configuration
        with self.backend.kafka() as kafka:
            kafka.record(Origin(configuration.topics.events, 0, 0))
        explain(configuration, WARM_UP_EVENT, deliveries=False)

    async def _show(self, request: Request) -> ConsolePage:
        sought = request.query_params.get("q", "").strip()
        if not sought:
            return ConsolePage("Find", "find_home.html", {"query": "", **await self._overview()})
        try:
            data = await asyncio.to_thread(self._find, sought)
        except LedgerAwayError as error:
            data = {"query": sought, "events": [], "found": 0, "problem": error.message}
            return ConsolePage(sought, "find_none.html", data, 503)
        if len(data["events"]) == 1:
            return ConsolePage(data["events"][0]["event"] or sought, "find.html", data)
        template = "find_several.html" if data["events"] else "find_none.html"
        return ConsolePage(sought, template, data)

    async def _overview(self) -> Mapping[str, Any]:
        """Return the counts of the last hour, and the failures."""
        since = int(time.time()) - HOUR_SECONDS
        try:
            counts = await self.backend.ask("/counts", since=since, by="integration,outcome,reason")
        except (LedgerAwayError, LedgerRefusedError) as error:
            return {"hour": None, "problem": error.message}
        outcomes: Counter[str] = Counter()
        for row in counts["rows"]:
            outcomes[row["outcome"]] += row["count"]
        return {
            "hour": {"accepted": counts["accepted"], "rejected": counts["rejected"], "outcomes": dict(outcomes)},
            "failed": [row for row in counts["rows"] if row["outcome"] in FAILED],
            "problem": None,
        }

    def _find(self, sought: str) -> dict[str, Any]:
        """Search for an event by place, else by messageId, else for the events of a user."""
        configuration = self.backend.configuration
        place = self._place(sought)
        queries = [EventQuery(place=place)] if place else [EventQuery(message_id=sought), EventQuery(user=sought)]
        candidates, stories, notes = Candidates(0, ()), list[dict[str, Any]](), list[str]()
        with self.backend.kafka() as kafka:
            teller = StoryTeller(configuration, kafka, payloads=True, past=self.backend.past_rules)
            for query in queries:
                try:
                    candidates = find_candidates(configuration, query, MAX_EVENTS)
                except LedgerRefusedError as error:
                    if error.code != "no_user_index":
                        raise
                    notes.append("Users cannot be found, because ledger.user_key is not set.")
                    continue
                heads = confirm(teller, candidates, query)
                if heads:
                    told = [teller.tell(*heads[0])] if len(heads) == 1 else [head[0] for head in reversed(heads)]
                    stories = [describe(story, configuration, self._objections) for story in told]
                    break
        return {
            "query": sought,
            "found": candidates.found if stories else 0,
            "events": stories,
            "notes": notes,
            "problem": candidates.ledger_away,
            "days": configuration.settings.retention_days,
        }

    def _place(self, text: str) -> Origin | None:
        """Parse a place; only topics with events are allowed, even if the console's Kafka user may read others."""
        configuration = self.backend.configuration
        topics = configuration.topics
        place = find_place(configuration, text)
        if place and place.topic in (topics.events, topics.rejected, *configuration.sources.topics):
            return place
        return None

    def _objections(self, integration: str, since: float) -> list[str]:
        """Return why the vendor may count a replay of an event of this time twice, or reject it."""
        configuration, now = self.backend.configuration, time.time()
        return find_objections(configuration.integrations[integration], ReplayRange(integration, since, now), now)

    async def _explain(self, request: Request) -> ConsolePage:
        place, story = await self._event(request.query_params.get("at", ""))

        def look() -> Any:
            configuration = self.backend.configuration
            with self.backend.kafka() as kafka:
                record = kafka.record(place)
            if record is None or record.value is None:
                raise HTTPException(404, f"Kafka no longer has the event at {_text(place)}.")
            known = story.source if story.source in configuration.source_files else None
            explained = explain(configuration, record.value, source=known, headers=record.headers).data()
            for account in explained["integrations"]:
                for delivery in account["deliveries"]:
                    del delivery["router"]  # the same as the payload, as text
            return explained

        before = {entry.integration: entry.outcome for entry in story.integrations}
        data = {
            "at": _text(place),
            "event": story.event or story.type,
            "rules": story.rules,
            "rules_today": self.backend.configuration.version,
            "recorded": before,
            "today": await asyncio.to_thread(look),
        }
        return ConsolePage("With today's rules", "explain.html", data)

    async def _replay(self, request: Request, form: Mapping[str, str]) -> Done:
        place, story = await self._event(form.get("at", ""))
        integration = form.get("integration", "")
        configuration = self.backend.configuration
        if integration not in configuration.integrations:
            raise HTTPException(404, f"The configuration has no integration {integration!r}.")
        if configuration.integrations[integration].state == "draining":
            raise HTTPException(409, f"{integration} is draining, and takes no new deliveries.")
        dead = [
            (letter.partition, letter.offset)
            for entry in story.integrations
            if entry.integration == integration and entry.outcome == "dead"
            for letter in entry.dead_letters
        ]
        report = await asyncio.to_thread(replay_event, configuration, place, integration, dead)
        log = self.backend.audit_log
        event = log.digest(story.message_id or _text(place))
        log.record(session_of(request), "replay", integration=integration, event=event, result=dict(report))
        return Done(_result(report, integration), {"results": dict(report)}, {"replayed": {}})

    async def _event(self, text: str) -> tuple[Origin, EventStory]:
        """Return the story of the event at a place; raises HTTPException."""
        place = self._place(text)
        if place is None:
            raise HTTPException(400, "Name the event as topic:partition:offset, of a topic with events.")
        return place, await asyncio.to_thread(self._tell, place)

    def _tell(self, place: Origin) -> EventStory:
        configuration: Configuration = self.backend.configuration
        query = EventQuery(place=place)
        with self.backend.kafka() as kafka:
            teller = StoryTeller(configuration, kafka, past=self.backend.past_rules)
            heads = confirm(teller, find_candidates(configuration, query, 1), query)
            if not heads:
                raise HTTPException(404, f"Nothing is known about an event at {_text(place)}.")
            return teller.tell(*heads[0])


def _text(place: Origin) -> str:
    return f"{place.topic}:{place.partition}:{place.offset}"


def _result(report: Mapping[str, int], integration: str) -> str:
    """Describe the result of a replay."""
    left = "; ".join(reason for reason in report if reason != "replayed")
    if "replayed" in report:
        return f"Sent to {integration} again."
    return f"Nothing was sent to {integration}: {left or 'no rule matches'}."
