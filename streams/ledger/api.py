"""Serve the ledger's JSON API: events' stories, counts and the audit; no payloads, no readable IDs of persons."""

import asyncio
import hmac
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import closing
from typing import Any, TypeVar

import orjson
import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from streams.clock import time
from streams.kafka.settings import BrokerError
from streams.ledger import lookup
from streams.ledger.audit import AuditReport, BehindError
from streams.ledger.catalog import MAX_KINDS, WHOLE_EVENT, CatalogRow
from streams.ledger.lookup import Story
from streams.ledger.samples import Wanted, find_events
from streams.ledger.settings import LOOPBACK
from streams.ledger.store import MAX_GROUPS, DeadGroup, NoUserIndexError, Reader, StoreError
from streams.ledger.summary import GROUPS, rfc3339, step_for, summarize
from streams.ledger.undelivered import PartitionDeliveries
from streams.observability.logging import error_fields
from streams.records.event import Origin
from streams.records.run_header import Kind

log = structlog.get_logger()

MAX_STORIES = 500
"""Most stories in one answer."""

MAX_HOURS = 31 * 24
"""Most hours that the numbers of a group of dead letters cover."""

HOUR = 3600
STEPS = {"minute": 60, "hour": HOUR, "day": 24 * HOUR}
"""Steps by which counts can be read, in seconds."""

T = TypeVar("T")
Audit = Callable[[int, int | None], Awaitable[AuditReport]]
"""Audits from one time to another, in milliseconds since 1970."""

FindDeliveries = Callable[[str, int, int | None], Awaitable[Sequence[PartitionDeliveries]]]
"""Finds the deliveries of an integration for events from one time to another, in milliseconds since 1970."""


class RefusedError(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class LedgerApi:
    """The ledger's ASGI app.

    Args:
        open_reader: Opens a reader of the store; called for each request.
        audit: Runs an audit.
        ready: Returns whether the ledger is reading from Kafka.
        token: The token that requests must carry. Without one, a request's host must be a loopback address, so that no
            web page can send it.
        minutes_since: Returns the time, in seconds since 1970, of the first counts by minute.
        find_deliveries: Returns the deliveries that need no replay.

    """

    def __init__(
        self,
        open_reader: Callable[[], Reader],
        audit: Audit,
        ready: Callable[[], bool],
        token: str | None,
        minutes_since: Callable[[], float],
        find_deliveries: FindDeliveries,
    ) -> None:
        self._open_reader, self._audit, self._ready, self._token = open_reader, audit, ready, token
        self._minutes_since, self._find_deliveries = minutes_since, find_deliveries
        self._app = Starlette(
            routes=[
                Route("/health", self._answer_health),
                Route("/ready", self._answer_ready),
                Route("/why", self._protected(self._answer_why)),
                Route("/audit", self._protected(self._answer_audit)),
                Route("/counts", self._protected(self._answer_counts)),
                Route("/catalog", self._protected(self._answer_catalog)),
                Route("/deliveries", self._protected(self._answer_deliveries)),
                Route("/events", self._protected(self._answer_events)),
                Route("/dead/groups", self._protected(self._answer_dead_groups)),
            ],
            exception_handlers={HTTPException: _answer_http_error},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        await self._app(scope, receive, send)

    def _protected(self, answer: Callable[[Request], Awaitable[Any]]) -> Callable[[Request], Awaitable[Response]]:
        async def checked(request: Request) -> Response:
            try:
                self._check(request)
                return _json(200, await answer(request))
            except RefusedError as error:
                return _json(error.status, {"code": error.code, "message": str(error)})
            except NoUserIndexError as error:
                return _json(409, {"code": "no_user_index", "message": str(error)})
            except BehindError as error:
                return _json(503, {"code": "behind", "message": str(error)})
            except BrokerError as error:
                return _json(503, {"code": "kafka", "message": str(error)})
            except StoreError as error:
                return _json(500, {"code": "store", "message": str(error)})
            except Exception as error:  # noqa: BLE001  # the next request may succeed
                log.error("a request failed", **error_fields(error))  # noqa: TRY400  # a traceback may hold ids
                return _json(500, {"code": "internal", "message": "the ledger failed; its log says where"})

        return checked

    def _check(self, request: Request) -> None:
        """Raise RefusedError unless the sender may use the API."""
        if self._token is None:
            if request.url.hostname not in LOOPBACK:
                raise RefusedError(403, "forbidden", "without a token, the API answers only to loopback addresses")
            return
        given = request.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
            raise RefusedError(401, "unauthorized", "send `Authorization: Bearer` with the token from `ledger.token`")

    async def _answer_health(self, _request: Request) -> Response:
        return _json(200, {"status": "up"})

    async def _answer_ready(self, _request: Request) -> Response:
        if self._ready():
            return _json(200, {"status": "ready"})
        return _json(503, {"code": "not_ready", "message": "the ledger does not read from Kafka"})

    async def _answer_why(self, request: Request) -> Any:
        given = {name: value for name in ("message_id", "user", "at") if (value := request.query_params.get(name))}
        if len(given) != 1:
            raise RefusedError(400, "parameters", "give one of message_id, user and at")
        limit = min(_number(request, "limit", 20), MAX_STORIES)
        return await self._read(lambda reader: _stories(reader, given, limit))

    async def _answer_audit(self, request: Request) -> Any:
        until = _number(request, "until", 0)
        since = _number(request, "since", int(time()) - HOUR)
        return report_data(await self._audit(since * 1000, until * 1000 or None))

    async def _answer_deliveries(self, request: Request) -> Any:
        integration = request.query_params.get("integration", "")
        if not integration:
            raise RefusedError(400, "parameters", "give an integration")
        since, until = _number(request, "since", int(time()) - HOUR), _number(request, "until", 0)
        found = await self._find_deliveries(integration, since * 1000, until * 1000 or None)
        return {"partitions": [partition._asdict() for partition in found]}

    async def _answer_counts(self, request: Request) -> Any:
        by = [name for name in request.query_params.get("by", "integration,outcome").split(",") if name]
        if unknown := [name for name in by if name not in GROUPS]:
            raise RefusedError(400, "parameters", f"cannot group by {unknown[0]!r}; possible: {', '.join(GROUPS)}")
        now = int(time())
        since, until = _number(request, "since", now - HOUR), _number(request, "until", now + HOUR)
        given = request.query_params.get("step")
        if given not in (None, *STEPS):
            raise RefusedError(400, "parameters", f"step: {given!r} is not one of {', '.join(STEPS)}")
        step = STEPS[given] if given else step_for(since, min(until, now), self._minutes_since())
        since -= since % step

        def read(reader: Reader) -> Any:
            return summarize(reader.counts(since, until, step), by)

        return {"since": rfc3339(since), "until": rfc3339(until), "step": step, **await self._read(read)}

    async def _answer_catalog(self, request: Request) -> Any:
        given = request.query_params
        rows = await self._read(lambda reader: reader.catalog())
        found = catalog_data(
            row
            for row in rows
            if given.get("source") in (None, row.kind.source) and given.get("event") in (None, row.kind.name)
        )
        return {"found": len(found), "events": found[: min(_number(request, "limit", 100), MAX_KINDS)]}

    async def _answer_events(self, request: Request) -> Any:
        given = request.query_params
        wanted = Wanted(*(given.get(name) for name in Wanted._fields))
        since, until = _number(request, "since", 0), _number(request, "until", int(time()) + HOUR)
        limit = min(_number(request, "limit", 20), MAX_STORIES)

        def read(reader: Reader) -> Any:
            return [story_data(story) for story in find_events(reader, wanted, since, until, limit)]

        return {"events": await self._read(read)}

    async def _answer_dead_groups(self, request: Request) -> Any:
        hours = min(_number(request, "hours", 24), MAX_HOURS)
        since = (int(time()) // HOUR + 1 - hours) * HOUR
        groups = await self._read(lambda reader: reader.dead_groups(since))
        wanted, integration = request.query_params.get("id"), request.query_params.get("integration")
        found = [
            group
            for group in groups
            if (group.key.id == wanted if wanted else group.open or _number(request, "all", 0))
            and integration in (None, group.key.integration)
        ]
        found.sort(key=lambda group: (-group.open, -group.last, group.key.id))
        limit = min(_number(request, "limit", 100), MAX_GROUPS)
        return {
            "hours_since": rfc3339(since),
            "open": sum(group.open for group in found),
            "found": len(found),
            "groups": [group_data(group, range(since, since + hours * HOUR, HOUR)) for group in found[:limit]],
        }

    async def _read(self, use: Callable[[Reader], T]) -> T:
        def in_thread() -> T:
            with closing(self._open_reader()) as reader:
                return use(reader)

        return await asyncio.to_thread(in_thread)


def _stories(reader: Reader, given: Mapping[str, str], limit: int) -> dict[str, Any]:
    """Return the stories of the newest candidates, oldest first; `found` is the number of all candidates."""
    places: Sequence[Origin]
    if "at" in given:
        place = lookup.read_place(given["at"])
        if place is None:
            raise RefusedError(400, "parameters", "at: write TOPIC:PARTITION:OFFSET")
        places = [place]
    elif "user" in given:
        places = lookup.places_of_user(reader, given["user"])
    else:
        places = lookup.places_of_message(reader, given["message_id"])
    stories = [story for place in places[-limit:] if (story := lookup.story_of(reader, place))]
    return {"found": len(places), "stories": [story_data(story) for story in stories]}


def story_data(story: Story) -> dict[str, Any]:
    """Return a story as JSON data."""
    return {
        "topic": story.place.topic,
        "partition": story.place.partition,
        "offset": story.place.offset,
        "source": story.kind and story.kind.source,
        "type": story.kind and story.kind.type,
        "event": story.kind and story.kind.name,
        "minute": None if story.minute is None else rfc3339(story.minute * 60),
        "rules": list(story.rules),
        "rejected": story.rejected,
        "notes": [{"reason": note.reason, "detail": note.detail} for note in story.notes],
        "outcomes": [
            {
                "integration": outcome.integration,
                "rule": outcome.rule,
                "outcome": outcome.outcome,
                "reason": outcome.reason,
                "details": [remark.detail for remark in outcome.remarks if remark.detail],
                "rules": outcome.rules,
                "recorded": list(dict.fromkeys(combo.outcome for combo in outcome.recorded)),
                "dead_letters": [
                    {
                        "partition": letter.partition,
                        "offset": letter.offset,
                        "reason": letter.reason,
                        "attempts": letter.attempts,
                        "status": letter.status,
                    }
                    for letter in outcome.dead_letters
                ],
            }
            for outcome in story.outcomes
        ],
    }


def group_data(group: DeadGroup, hours: Sequence[int]) -> dict[str, Any]:
    """Return a group of dead letters as JSON data, with its number in each of these hours."""
    return {
        "id": group.key.id,
        **group.key._asdict(),
        "open": group.open,
        "total": group.total,
        "first": rfc3339(group.first),
        "last": rfc3339(group.last),
        "hours": [group.hours.get(hour, 0) for hour in hours],
        "newest": [{"partition": partition, "offset": offset} for partition, offset in group.newest],
    }


def catalog_data(rows: Iterable[CatalogRow]) -> list[dict[str, Any]]:
    """Return the catalog as JSON data: events, most frequent first, each with its properties."""
    kinds: dict[Kind, dict[str, list[CatalogRow]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        kinds[row.kind][row.property].append(row)
    found = []
    for kind, properties in kinds.items():
        (whole,) = properties.pop(WHOLE_EVENT)
        shares = [
            {
                "name": name,
                "share": min(1.0, round(sum(row.number for row in its) / whole.number, 4)),
                "types": {row.type: round(row.number / whole.number, 4) for row in its},
                "first": rfc3339(min(row.first for row in its)),
                "last": rfc3339(max(row.last for row in its)),
            }
            for name, its in sorted(properties.items())
        ]
        about = {"source": kind.source, "type": kind.type, "event": kind.name, "sampled": whole.number}
        found.append({**about, "first": rfc3339(whole.first), "last": rfc3339(whole.last), "properties": shares})
    return sorted(found, key=lambda event: (-event["sampled"], str(event["event"])))


def report_data(report: AuditReport) -> dict[str, Any]:
    """Return the result of an audit as JSON data."""
    oldest = report.oldest_in_flight
    return {
        "balanced": report.balanced,
        "events": report.events,
        "rejected": report.rejected,
        "lost": report.lost,
        "in_flight": report.in_flight,
        "oldest_in_flight": None if oldest is None else rfc3339(oldest * 60),
        "problems": {str(problem): number for problem, number in report.problems.items()},
        "findings": [
            {**finding._asdict(), "problem": str(finding.problem), "outcomes": list(finding.outcomes)}
            for finding in report.findings
        ],
        "lines": [line._asdict() for line in report.lines],
        "not_audited": [{"topic": topic, "partition": partition} for topic, partition in report.unknown],
    }


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, "")
    if not text:
        return default
    if not re.fullmatch("[0-9]{1,12}", text):
        raise RefusedError(400, "parameters", f"{name}: {text!r} is not a whole number")
    return int(text)


def _json(status: int, data: Any) -> Response:
    return Response(orjson.dumps(data), status, media_type="application/json")


async def _answer_http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # Starlette's type for handlers is wider
    return _json(error.status_code, {"code": "http", "message": error.detail})
