"""Issues: groups of dead letters, what their events have in common, and their replay."""

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Route

from deploy.console.access.roles import Role
from deploy.console.backend import Backend
from deploy.console.group_jobs import GroupJob, GroupJobs, JobRunningError
from deploy.console.pages import ConsolePage, ConsoleScreen, Done, action, page, session_of
from deploy.issues.field_differences import FieldDifference, find_differences
from deploy.issues.group_samples import FailedSample, read_samples
from deploy.ledger.client import LedgerAwayError
from deploy.ledger.event_story import short_place
from deploy.replay.replay_range import ReplayRange, find_objections
from deploy.replay.rule_location import find_line
from streams.parsing.times import rfc3339, seconds_of
from streams.plurals import counted

MAX_GROUPS = 100
MAX_EXAMPLES = 10

ORDERS = {"most": "Most events", "last": "Last seen", "first": "First seen"}

_GROUP = re.compile("[0-9a-f]{12}")


class IssuesScreen(ConsoleScreen):
    """The groups of `turnout dead groups`, the reason of each, and its replay."""

    title: ClassVar[str] = "Issues"
    path: ClassVar[str] = "/issues"
    key: ClassVar[str] = "i"

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        self.jobs = GroupJobs(backend)

    def routes(self) -> Sequence[Route]:
        """Return the routes."""
        return [
            *page("/issues", self._list),
            *page("/issues/{group}/job", self._show_job),
            *page("/issues/{group}", self._show),
            *action("/issues/{group}/replay", self._replay, needs=Role.OPERATOR),
            *action("/issues/{group}/drop", self._drop, needs=Role.OPERATOR),
        ]

    async def _list(self, request: Request) -> ConsolePage:
        given = request.query_params
        order, integration = given.get("sort", "most"), given.get("integration", "")
        if order not in ORDERS:
            raise HTTPException(400, f"The order {order!r} is not one of {', '.join(ORDERS)}.")
        handled = int(given.get("all") == "1")
        asked = {"integration": integration or None, "all": handled, "limit": MAX_GROUPS}
        answer = await self.backend.ask("/dead/groups", **asked)
        groups = [self._described(group) for group in answer["groups"]]
        if order != "most":
            groups.sort(key=lambda group: str(group[order]), reverse=True)
        data = {
            **answer,
            "groups": groups,
            "sort": order,
            "orders": ORDERS,
            "integration": integration,
            "integrations": list(self.backend.configuration.integrations),
            "all": bool(handled),
            "days": self.backend.configuration.settings.retention_days * 2,
        }
        return ConsolePage("Issues", "issues.html", data)

    async def _show(self, request: Request) -> ConsolePage:
        group, hours_since = await self._group(request)
        samples = await asyncio.to_thread(read_samples, self.backend.configuration, group)
        failed = [sample.event for sample in samples.failed if sample.event is not None]
        differences = await asyncio.to_thread(find_differences, failed, samples.delivered)
        data = {
            "group": group,
            "hours_since": hours_since,
            "compared": {"failed": len(failed), "delivered": len(samples.delivered)},
            "differences": [difference._asdict() for difference in differences],
            "newest": _newest(samples.failed[0]) if samples.failed else None,
            "events": [_example(sample, differences) for sample in samples.failed[:MAX_EXAMPLES]],
            "objections": self._objections(group),
            "obstacle": self._obstacle(group),
            "rules": self.backend.configuration.version,
            "edit": self._editor(group, samples.failed),
            "job": await self._job_data(self.jobs.find(group["id"])),
        }
        return ConsolePage(group["message"] or group["reason"], "issue.html", data)

    async def _show_job(self, request: Request) -> ConsolePage:
        job = self.jobs.find(_group_id(request))
        if job is None:
            raise HTTPException(404, "Nothing was done with this group since the console started.")
        return ConsolePage("Progress", "issue_job.html", {"job": await self._job_data(job)})

    async def _replay(self, request: Request, form: Mapping[str, str]) -> Done:  # noqa: ARG002
        return await self._start("replay", request)

    async def _drop(self, request: Request, form: Mapping[str, str]) -> Done:  # noqa: ARG002
        return await self._start("drop", request)

    async def _start(self, name: str, request: Request) -> Done:
        group, _ = await self._group(request)
        if name == "replay" and (obstacle := self._obstacle(group)):
            raise HTTPException(409, obstacle)
        if not group["open"]:
            raise HTTPException(409, "All dead letters of this group are handled already.")
        try:
            job = self.jobs.start(name, group, session_of(request))
        except JobRunningError:
            raise HTTPException(409, "This group is being replayed or dropped already.") from None
        verb = "Replaying" if name == "replay" else "Dropping"
        return Done(f"{verb} {counted(job.total, 'dead letter')}.", {"job": job.data()}, {"started": {}})

    async def _group(self, request: Request) -> tuple[dict[str, Any], str]:
        """Return the group in a request's path, and the start of its hours; raises HTTPException."""
        wanted = _group_id(request)
        answer = await self.backend.ask("/dead/groups", id=wanted, all=1)
        if not answer["groups"]:
            raise HTTPException(404, f"The ledger knows no group {wanted}.")
        return self._described(answer["groups"][0]), answer["hours_since"]

    def _described(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """Add the line of a group's rule, and remove pydantic's prefix from its message."""
        configuration = self.backend.configuration
        known = configuration.integrations.get(group["integration"])
        line = find_line(known, group["rule"], group["message"]) if known else None
        where = short_place(line.rpartition(":")[0], configuration.folder) if line else None
        message = group["message"].removeprefix(": ").removeprefix("Value error, ")
        return {**group, "message": message, "where": where}

    def _objections(self, group: Mapping[str, Any]) -> list[str]:
        """Return why the vendor may count repeats twice, or reject them."""
        known, now = self.backend.configuration.integrations.get(group["integration"]), time.time()
        if known is None:
            return []
        return find_objections(known, ReplayRange(group["integration"], seconds_of(group["first"]), now), now)

    def _editor(self, group: Mapping[str, Any], failed: Sequence[FailedSample]) -> str | None:
        """Return the URL of the editor at the group's rule; the editor copies a preset's rule into the file."""
        known, where = self.backend.configuration.integrations.get(group["integration"]), group["where"]
        if known is None or not where:
            return None
        asked = {"group": group["id"], "at": ":".join(map(str, failed[0].origin)) if failed else ""}
        asked |= {"take": group["rule"]} if where.startswith("preset ") else {"line": where.rpartition(":")[2]}
        return f"/rules/integrations/{known.name}.yaml?{urlencode(asked)}"

    def _obstacle(self, group: Mapping[str, Any]) -> str | None:
        """Return why a group cannot be replayed."""
        known = self.backend.configuration.integrations.get(group["integration"])
        if known is None:
            return f"The configuration has no integration {group['integration']!r}."
        return f"{known.name} is draining, and takes no new deliveries." if known.state == "draining" else None

    async def _job_data(self, job: GroupJob | None) -> dict[str, Any] | None:
        """Return a job's progress, and the outcomes of the events that it sent."""
        if job is None:
            return None
        outcomes, problem = dict[str, int](), None
        if job.followed and job.finished:
            try:
                outcomes = await asyncio.to_thread(self.jobs.outcomes, job)
            except LedgerAwayError as error:
                problem = error.message
        return {**job.data(), "outcomes": outcomes, "problem": problem}


def _group_id(request: Request) -> str:
    group = str(request.path_params["group"]).removesuffix(".json")
    if not _GROUP.fullmatch(group):
        raise HTTPException(404, "This is not the id of a group.")
    return group


def _newest(sample: FailedSample) -> dict[str, Any]:
    """Return the newest dead letter in full as JSON data; with its event, so that all its personal data is masked."""
    letter = sample.letter.letter
    return {
        "detail": letter.detail.removeprefix(": ").removeprefix("Value error, "),
        "attempts": letter.attempts,
        "answer": letter.answer,
        "request": letter.request,
        "payload": letter.delivery["payload"],
        "event": sample.event,
    }


def _example(sample: FailedSample, differences: Sequence[FieldDifference]) -> dict[str, Any]:
    """Return a dead letter as JSON data, with its value of the field that differs most."""
    letter, delivery = sample.letter.letter, sample.letter.letter.delivery
    path = differences[0].path if differences and "[]" not in differences[0].path else None
    value: Any = sample.event
    for step in path.split(".") if path else ():
        value = value.get(step) if isinstance(value, Mapping) else None
    return {
        "at": ":".join(map(str, sample.origin)),
        "place": f"{sample.letter.partition}:{sample.letter.offset}",
        "event": delivery.get("event") or delivery.get("type"),
        "id": delivery.get("id"),
        "died": letter.died,
        "received": delivery.get("received"),
        "time": rfc3339(int(sample.letter.at)),
        "expired": sample.event is None,
        "difference": {"path": path, "value": value} if path else None,
    }
