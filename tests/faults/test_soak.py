"""A sample of `make soak`, and the judgement of repeats that it rests on."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from streams.records.delivery import DeliveryRecord
from streams.records.event import Origin
from tests.faults.cpu_waits import CpuWaits
from tests.faults.kills import Kill, judge
from tests.faults.soak import play, soak
from tests.support import real_kafka


class Forwarded:
    """A record of the forward topic, as the judge reads it."""

    def __init__(self, n: int, at: float, offset: int = 0) -> None:
        delivery = DeliveryRecord(f"m{n}", "event", "1", "track", "Test", "", "", "web", Origin("e", 0, offset), {})
        self.value, self.timestamp = delivery.encode(), int(at * 1000)


def kill(kind: str, slot: int, at: float, until: float = 0.0) -> Kill:
    """A kill of a process that had just committed, a second before."""
    return Kill(kind, slot, at, at - 1, until)


def beyond(forwarded: list[Any], received: dict[int, list[tuple[float, int]]], *kills: Kill) -> int:
    return len(judge(forwarded, received, kills).beyond)


def test_a_repeat_without_a_kill_is_beyond_the_bound():
    """Without a kill nothing may be delivered or routed twice."""
    once = [Forwarded(1, 100)]
    assert beyond(once, {1: [(100, 0)]}) == 0
    assert beyond(once, {1: [(100, 0), (130, 1)]}) == 1
    assert beyond([Forwarded(1, 100), Forwarded(1, 130)], {1: [(100, 0), (130, 0)]}) == 1


def test_a_kill_explains_what_its_process_had_just_finished():
    """A kill explains repeats of the killed process's last moments, not those of another process or time."""
    once, twice = [Forwarded(1, 100)], {1: [(100.0, 0), (110.0, 1)]}
    assert beyond(once, twice, kill("forwarder", 0, 100.1)) == 0
    assert beyond(once, twice, kill("forwarder", 1, 100.1)) == 1
    assert beyond(once, twice, kill("forwarder", 0, 109)) == 1
    assert beyond(once, twice, kill("router", 0, 100.1)) == 1
    assert beyond(once, twice, kill("collector", 0, 100.1)) == 1
    assert beyond(once, {1: [(100, 0), (110, 1), (111, 0)]}, kill("forwarder", 0, 100.1)) == 1


def test_a_kill_of_a_router_explains_what_is_routed_again_and_so_delivered_again():
    """Two records of one event are explained by a kill of a router after the first; so are two deliveries."""
    twice = [Forwarded(1, 100), Forwarded(1, 106)]
    received = {1: [(100.2, 0), (106.3, 0)]}
    assert beyond(twice, received, kill("router", 1, 100.8)) == 0
    assert beyond(twice, received, kill("router", 1, 105)) == 1
    assert beyond([Forwarded(1, 100), Forwarded(1, 106, offset=1)], received, kill("router", 1, 100.8)) == 1


def test_the_time_before_a_kill_is_longer_if_the_process_waits_for_a_processor(monkeypatch: pytest.MonkeyPatch):
    """A second in which a process did not run does not count."""
    waits, waited = CpuWaits(), {0: 0.0, 10: 0.0, 20: 8.0, 30: 8.5}
    for at, seconds in waited.items():
        monkeypatch.setattr("tests.faults.cpu_waits.time.time", lambda at=at: float(at))
        monkeypatch.setattr("tests.faults.cpu_waits._waited", lambda _, seconds=seconds: seconds)
        waits.note([7])
    assert waits.before(30, 5, [7]) == 30 - 5 - 0.5
    assert waits.before(30, 9.5, [7]) == 20
    assert waits.before(30, 11.5, [7]) == 10
    assert waits.before(30, 14.5, [7]) == 7
    assert waits.before(30, 30, [8]) == 0
    assert waits.before(30, 31, [8]) == -1


def test_an_outage_explains_repeats_until_commits_work_again():
    """Nothing can be committed until Kafka is back."""
    once, twice = [Forwarded(1, 100)], {1: [(105.0, 0), (120.0, 1)]}
    assert beyond(once, twice, kill("kafka", 0, 100, until=106)) == 0
    assert beyond(once, twice, kill("kafka", 0, 95, until=99)) == 1


@pytest.mark.anyio
async def test_a_finished_run_is_only_summed_up_when_it_is_resumed(tmp_path: Path):
    """The kills of finished rounds count after an interruption, and a new run refuses to mix with them."""
    (tmp_path / "rounds.jsonl").write_text(2 * '{"kills": {"router": 3, "kafka": 1}, "events": 10, "seconds": 60}\n')
    total = await soak(tmp_path, 8, resume=True)
    assert (total.counted, total.events, total.is_bad) == (8, 20, False)
    with pytest.raises(SystemExit, match="--resume"):
        await soak(tmp_path, 8, resume=False)


@pytest.mark.anyio
@pytest.mark.kafka
@pytest.mark.fault
async def test_minutes_of_kills_lose_nothing(tmp_path: Path):
    """Kills of every process and of Kafka lose no event, repeat none beyond the bound, and the books balance."""
    if reason := real_kafka.why_not():
        pytest.skip(reason)
    figures, problems = await play(tmp_path / "round", 1000, 210, asyncio.Event())
    print(figures)
    assert not problems
    assert not figures.is_bad
    assert figures.kills.keys() == {"collector", "router", "forwarder", "kafka"}
    assert figures.received
