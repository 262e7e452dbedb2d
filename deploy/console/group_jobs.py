"""Replay or drop groups of dead letters in the background, and report the progress."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog

from deploy.config.configuration import Configuration
from deploy.console.access.sessions import Session
from deploy.console.backend import Backend
from deploy.ledger.client import LedgerClient
from deploy.replay.dead_letters import dead_letters, drop_dead, replay_dead
from deploy.replay.parked import ParkedRecord, Place, Selection
from streams.observability.logging import error_fields
from streams.records.dead_letter import DeadLetter
from streams.records.event import Origin
from streams.records.outcomes import FORWARDED, Outcome

log = structlog.get_logger()

MAX_FOLLOWED = 50
"""Replayed events whose new outcomes are looked up."""

MAX_JOBS = 100
"""Jobs that are remembered."""

DEAD_AGAIN = "dead again"


class JobRunningError(Exception):
    """The group is already being replayed or dropped."""


@dataclass
class GroupJob:
    """A replay or drop of a group; `action` is `replay` or `drop`, `total` the number of open dead letters before."""

    action: str
    group: str
    integration: str
    rule: str
    total: int
    who: str
    started: str
    done: int = 0
    finished: str | None = None
    report: dict[str, int] = field(default_factory=dict)
    error: str | None = None
    followed: dict[Origin, Place] = field(default_factory=dict)

    def data(self) -> dict[str, Any]:
        """Return the state as JSON data."""
        names = ("action", "integration", "rule", "total", "who", "started", "done", "finished", "report", "error")
        return {"id": self.group, **{name: getattr(self, name) for name in names}, "followed": len(self.followed)}


class GroupJobs:
    """Runs at most one job for each group at a time."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._jobs: dict[str, GroupJob] = {}
        self._running: set[asyncio.Task[None]] = set()

    def find(self, group: str) -> GroupJob | None:
        """Return the last job of a group since the console started."""
        return self._jobs.get(group)

    def start(self, action: str, group: Mapping[str, Any], session: Session) -> GroupJob:
        """Start to replay or drop all open dead letters of a group; raises JobRunningError."""
        known = self._jobs.pop(group["id"], None)
        if known is not None and known.finished is None:
            self._jobs[known.group] = known
            raise JobRunningError
        job = GroupJob(
            action, group["id"], group["integration"], group["rule"], group["open"], session.user, started=_now()
        )
        self._jobs[job.group] = job
        while len(self._jobs) > MAX_JOBS:
            del self._jobs[next(iter(self._jobs))]
        self._record(session, job, f"{action} group", letters=job.total)
        task = asyncio.create_task(self._run(job, session))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return job

    async def _run(self, job: GroupJob, session: Session) -> None:
        work = replay_dead if job.action == "replay" else drop_dead
        try:
            job.report = dict(await asyncio.to_thread(self._work, job, work))
        except Exception as error:  # noqa: BLE001  # whatever it is, the page must show that it ended
            log.error("a job of the console failed", action=job.action, **error_fields(error))  # noqa: TRY400
            job.error = str(getattr(error, "message", "")) or "The log of the console says why."
        job.finished = _now()
        self._record(session, job, f"{job.action} group finished", result=job.report, failed=job.error is not None)

    def _work(self, job: GroupJob, work: Callable[..., Any]) -> Any:
        configuration = self._backend.configuration

        def advance(number: int) -> None:
            job.done += number

        return work(configuration, self._letters(configuration, job), advance)

    def _letters(self, configuration: Configuration, job: GroupJob) -> Iterator[ParkedRecord[DeadLetter]]:
        chosen = Selection(integration=job.integration, group=job.group)
        for parked in dead_letters(configuration).find(chosen):
            if job.action == "replay":
                job.followed[Origin(*parked.letter.delivery["from"])] = parked.place
                if len(job.followed) > MAX_FOLLOWED:
                    del job.followed[next(iter(job.followed))]
            yield parked

    def _record(self, session: Session, job: GroupJob, action: str, **facts: Any) -> None:
        self._backend.audit_log.record(session, action, integration=job.integration, group=job.group, **facts)

    def outcomes(self, job: GroupJob) -> dict[str, int]:
        """Count the outcomes of the replayed events since the replay. Blocking; raises LedgerAwayError."""
        configuration = self._backend.configuration
        client = LedgerClient(configuration.settings.ledger, configuration.folder)
        known = configuration.integrations.get(job.integration)
        # With `match: all`, other rules have outcomes of their own; else another rule may have taken the event now.
        rule = job.rule if known and known.rules.match_all else None
        counts: dict[str, int] = {}
        for origin, place in list(job.followed.items()):
            stories = client.ask("/why", {"at": ":".join(map(str, origin))})["stories"]
            outcome = _outcome_since(stories[0]["outcomes"] if stories else [], job.integration, rule, place)
            counts[outcome] = counts.get(outcome, 0) + 1
        return counts


def _outcome_since(outcomes: Iterable[Mapping[str, Any]], integration: str, rule: str | None, place: Place) -> str:
    """Return the outcome since a dead letter was replayed, or FORWARDED until it has one."""
    found = [each for each in outcomes if each["integration"] == integration and rule in (None, each["rule"])]
    if living := [str(each["outcome"]) for each in found if each["outcome"] != Outcome.DEAD]:
        return living[0]
    # Deliveries of an event are in one partition, so later dead letters have higher offsets.
    died = any((it["partition"], it["offset"]) > place for each in found for it in each["dead_letters"])
    return DEAD_AGAIN if died else FORWARDED


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
