"""Replays of groups in the background."""

import asyncio
import threading
from types import SimpleNamespace

import pytest

from deploy.console import group_jobs
from deploy.console.access.audit_log import AuditLog
from deploy.console.access.roles import Role
from deploy.console.group_jobs import DEAD_AGAIN, MAX_JOBS, GroupJobs, JobRunningError, _outcome_since

GROUP = {"id": "0aaa41ac876a", "integration": "meta", "rule": "Order Completed", "open": 3}
SESSION = SimpleNamespace(user="an operator", role=Role.OPERATOR)


def entry(outcome, rule="r", integration="meta", letters=()):
    """An outcome in the form of the ledger."""
    places = [{"partition": partition, "offset": offset} for partition, offset in letters]
    return {"integration": integration, "rule": rule, "outcome": outcome, "dead_letters": places}


@pytest.mark.parametrize(
    ("outcomes", "rule", "expected"),
    [
        ([], None, "forwarded"),
        ([entry("dead", letters=[(1, 7)])], None, "forwarded"),
        ([entry("dead", letters=[(1, 7), (1, 8)])], None, DEAD_AGAIN),
        ([entry("dead", letters=[(1, 3), (1, 7)])], None, "forwarded"),
        ([entry("delivered", letters=[(1, 7)])], None, "delivered"),
        ([entry("dead", letters=[(1, 7)]), entry("delivered", "new")], None, "delivered"),
        ([entry("dead", letters=[(1, 7)]), entry("delivered", "other")], "r", "forwarded"),
        ([entry("delivered", integration="crm")], None, "forwarded"),
    ],
)
def test_outcome_since_a_replay(outcomes, rule, expected):
    """An outcome counts if it came after the replay: not dead, or with a dead letter behind the replayed one."""
    assert _outcome_since(outcomes, "meta", rule, (1, 7)) == expected


@pytest.fixture
def jobs():
    """Jobs of a console without Kafka."""
    return GroupJobs(SimpleNamespace(audit_log=AuditLog(), configuration=None))


def test_group_is_replayed_once_at_a_time(jobs, monkeypatch):
    """A group that is being replayed cannot be replayed or dropped; then it can, and the audit log has each."""
    may_end = threading.Event()

    def work(_configuration, _letters, advance):
        assert may_end.wait(60)
        advance(3)
        return {"replayed": 3}

    monkeypatch.setattr(group_jobs, "replay_dead", work)

    async def run():
        job = jobs.start("replay", GROUP, SESSION)
        with pytest.raises(JobRunningError):
            jobs.start("drop", GROUP, SESSION)
        assert jobs.find(GROUP["id"]) is job
        may_end.set()
        await asyncio.gather(*jobs._running)
        assert (job.done, job.report, job.error) == (3, {"replayed": 3}, None)
        assert jobs.start("replay", GROUP, SESSION) is not job
        await asyncio.gather(*jobs._running)

    asyncio.run(run())
    recorded = [each["action"] for each in jobs._backend.audit_log.recent]
    assert recorded == ["replay group finished", "replay group"] * 2


def test_failed_job_says_so(jobs, monkeypatch):
    """A failed job has an end and an error, without the exception's text."""

    def work(*_):
        raise ValueError("lena@nordlicht.example")

    monkeypatch.setattr(group_jobs, "drop_dead", work)

    async def run():
        job = jobs.start("drop", GROUP, SESSION)
        await asyncio.gather(*jobs._running)
        return job

    job = asyncio.run(run())
    assert job.finished
    assert "lena@" not in job.error
    assert jobs._backend.audit_log.recent[0]["failed"]


def test_jobs_are_bounded(jobs, monkeypatch):
    """Of many groups, the last jobs are remembered."""
    monkeypatch.setattr(group_jobs, "drop_dead", lambda *_: {})

    async def run():
        for number in range(MAX_JOBS + 5):
            jobs.start("drop", GROUP | {"id": f"{number:012}"}, SESSION)
            await asyncio.gather(*jobs._running)

    asyncio.run(run())
    assert len(jobs._jobs) == MAX_JOBS
    assert jobs.find(f"{MAX_JOBS + 4:012}")
