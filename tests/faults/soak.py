"""Kill processes and Kafka at random moments under load, count the kills, and check the fate of every event.

    make soak                              # until 1,000 kills are counted
    make soak ARGS="--resume"              # continue after an interruption
    python -m tests.faults.soak [FOLDER] [--kills N] [--resume]

Two collectors, two routers, two forwarders and one Kafka node are killed with SIGKILL, each at its own random moments.
A kill counts only if the process had joined and finished work since its start. The run has rounds, each on a new Kafka.
At the end of a round the oracle judges all of its events and the ledger is audited; only then do its kills count.
"""

import argparse
import asyncio
import random
import shutil
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

import aiohttp
import orjson
from aiohttp import web

from tests.faults import books, oracle
from tests.faults.cpu_waits import CpuWaits
from tests.faults.harness import Process, Stage
from tests.faults.kills import COMMIT_SECONDS, SLACK_SECONDS, Kill, judge
from tests.support import real_kafka
from tests.support.ports import free_port
from tests.support.reading import read
from tests.support.receiver import Got, receiving

ROUND_KILLS = 100
ROUND_SECONDS = 600.0
SLOTS = 2
WORK = {
    "collector": "turnout_collector_accepted_events_total",
    "router": "turnout_router_outcomes_total",
    "forwarder": "turnout_delivery_outcomes_total",
}
"""The metric of each kind of process that says that it has finished work."""

DELAY_SECONDS = {"collector": 8.0, "router": 3.0, "forwarder": 3.0, "kafka": 30.0}
"""The most seconds from the moment that a process has finished work until it is killed."""

EARLY_SHARE = 0.1
"""The share of processes that are killed while they start; these kills do not count."""

EARLY_SECONDS = 5.0
PATIENCE_SECONDS = 600.0
"""Seconds that a process has to join and to finish work."""

WATCH_SECONDS = 0.25
REFUSED_EVERY = 500
FAILING_SHARE = 0.03


class StuckError(Exception):
    """A process did not join, or did not finish work, in time."""


@dataclass
class Figures:
    """The figures of one or more rounds."""

    kills: dict[str, int] = field(default_factory=dict)
    uncounted: int = 0
    """Kills of processes that had not finished work yet."""
    ended: int = 0
    """Processes that ended by themselves and were restarted, such as during an outage of Kafka."""
    events: int = 0
    """Events for which a collector responded with 200."""
    received: int = 0
    """Events that the vendor received, repeats included."""
    lost: int = 0
    routed_again: int = 0
    delivered_again: int = 0
    beyond: int = 0
    """Events that were repeated beyond the bound."""
    unbalanced: int = 0
    """Rounds whose books do not balance."""
    stuck: int = 0
    """Rounds in which a process did not join, or did not finish work, in time."""
    seconds: float = 0.0

    @property
    def counted(self) -> int:
        """The kills of all kinds."""
        return sum(self.kills.values())

    def count_kill(self, kind: str) -> None:
        """Count a kill."""
        self.kills[kind] = self.kills.get(kind, 0) + 1

    @property
    def is_bad(self) -> bool:
        """Whether there are any findings."""
        return bool(self.lost or self.beyond or self.unbalanced or self.stuck)

    def add(self, other: Self) -> None:
        """Add the figures of another round."""
        for name, value in asdict(other).items():
            mine = getattr(self, name)
            setattr(self, name, dict(Counter(mine) + Counter(value)) if name == "kills" else mine + value)

    def __str__(self) -> str:
        by_kind = ", ".join(f"{number} {kind}" for kind, number in sorted(self.kills.items()))
        return (
            f"kills {self.counted} ({by_kind}), not counted {self.uncounted}, events {self.events}, lost {self.lost},"
            f" repeats {self.delivered_again} (routed again {self.routed_again}), beyond the bound {self.beyond},"
            f" rounds with unbalanced books {self.unbalanced}, stuck {self.stuck},"
            f" ended by themselves {self.ended}, {self.seconds / 60:.0f} min"
        )


class Round:
    """A round: processes and a Kafka of its own that are killed, and the judgement."""

    def __init__(self, kafka: real_kafka.KafkaNode, stage: Stage) -> None:
        self.kafka, self.stage = kafka, stage
        self.figures = Figures()
        self.problems: list[str] = []
        self._kills: list[Kill] = []
        self._received: dict[int, list[tuple[float, int]]] = defaultdict(list)
        self._running: dict[tuple[str, int], Process] = {}
        self._waits = CpuWaits()
        self._is_sending = True
        self._outage: asyncio.Future[None] | None = None
        stage.vendor.note = self._receive
        stage.vendor.answer = self._answer

    def _receive(self, got: Got) -> None:
        slot = int(got.path.rsplit("/", 1)[1])
        self.stage.receive(got)
        for item in got.body:
            self._received[item["n"]].append((time.time(), slot))
        self.stage.vendor.got.clear()

    async def _answer(self, got: Got) -> web.Response:
        await asyncio.sleep(random.uniform(0, 0.1))
        if any(item["n"] % REFUSED_EVERY == 7 for item in got.body):
            return web.Response(status=400)
        return web.Response(status=503 if random.random() < FAILING_SHARE else 200)

    def _start(self, kind: str, slot: int) -> Process:
        process = Process(self.stage.folder.with_name(str(slot)), kind)
        self._running[kind, slot] = process
        self.stage.processes.append(process)
        return process

    async def run(self, kills: int, seconds: float, stop: asyncio.Event) -> Figures:
        """Kill until enough kills are counted, `stop` is set, or time is over and all kinds were killed; then judge."""
        began = time.monotonic()
        killers = [self._kill_again_and_again(kind, slot) for kind in WORK for slot in range(SLOTS)]
        tasks = [asyncio.create_task(each) for each in (*killers, self._kill_kafka(), self._watch_waits())]
        senders = [asyncio.create_task(self._send()) for _ in range(2)]
        try:
            while self.figures.counted < kills and not stop.is_set():
                if time.monotonic() > began + seconds and self.figures.kills.keys() >= DELAY_SECONDS.keys():
                    break
                done, _ = await asyncio.wait([*tasks, *senders], timeout=0.2, return_when=asyncio.FIRST_COMPLETED)
                if not self._are_well(done):
                    break
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._restart_all()
            self._is_sending = False
            self._are_well((await asyncio.wait(senders))[0])
            await self._judge()
        except (StuckError, TimeoutError) as error:
            self._note_stuck(error)
            # Nothing is known about these events, so the kills do not count.
            self.figures.uncounted += self.figures.counted
            self.figures.kills.clear()
        finally:
            for task in (*tasks, *senders):
                task.cancel()
            for process in self._running.values():
                process.signal(signal.SIGKILL)
            self.figures.seconds = time.monotonic() - began
        return self.figures

    def _are_well(self, done: Iterable[asyncio.Task[None]]) -> bool:
        """Return whether no task got stuck; records one that did."""
        stuck = [error for task in done if isinstance(error := task.exception(), StuckError | TimeoutError)]
        for error in stuck:
            self._note_stuck(error)
        for task in done:
            if not stuck:
                task.result()
        return not stuck

    def _note_stuck(self, error: Exception) -> None:
        self.figures.stuck = 1
        self.problems.append(f"stuck: {error}")

    async def _send(self) -> None:
        while self._is_sending:
            await self.stage.send(10, PATIENCE_SECONDS, event=random.choices(["Test", "Skip", "Raise"], [20, 1, 1])[0])
            await asyncio.sleep(0.1)

    async def _kill_again_and_again(self, kind: str, slot: int) -> None:
        while True:
            process = self._start(kind, slot)
            if random.random() < EARLY_SHARE:
                await asyncio.sleep(random.uniform(0, EARLY_SECONDS))
                self._note_kill(kind, slot, [process])
                self.figures.uncounted += 1
                await process.end(signal.SIGKILL)
                continue
            await self._until_worked(process, kind)
            await asyncio.sleep(random.uniform(0, DELAY_SECONDS[kind]))
            if not process.runs:
                self.figures.ended += 1
                await asyncio.sleep(1)
                continue
            self._note_kill(kind, slot, [process])
            self.figures.count_kill(kind)
            await process.end(signal.SIGKILL)

    def _note_kill(self, kind: str, slot: int, processes: Iterable[Process]) -> Kill:
        """Record a kill before it happens, with the processes whose work it may repeat."""
        self._note_waits()
        at = time.time()
        seconds = COMMIT_SECONDS.get(kind, max(COMMIT_SECONDS.values())) + SLACK_SECONDS
        since = min((self._waits.before(at, seconds, [each.pid, self.kafka.pid]) for each in processes), default=at)
        self._kills.append(Kill(kind, slot, at, since))
        return self._kills[-1]

    def _note_waits(self) -> None:
        self._waits.note([self.kafka.pid, *(process.pid for process in self._running.values())])

    async def _watch_waits(self) -> None:
        while True:
            self._note_waits()
            await asyncio.sleep(WATCH_SECONDS)

    async def _until_worked(self, process: Process, kind: str) -> None:
        """Wait until a process has finished work, or has ended. Raises StuckError."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS), aiohttp.ClientSession() as session:
                while process.runs and not await _has_worked(session, process, WORK[kind]):
                    await asyncio.sleep(0.5)
        except TimeoutError:
            raise StuckError(f"{process.log.name} finished no work in {PATIENCE_SECONDS:.0f} s") from None

    async def _kill_kafka(self) -> None:
        while True:
            await asyncio.sleep(random.uniform(0, DELAY_SECONDS["kafka"]))
            kill = self._note_kill("kafka", 0, list(self._running.values()))
            kill.until = float("inf")
            # Kafka comes back even if the round ends meanwhile.
            self._outage = asyncio.ensure_future(self._cut_power())
            await asyncio.shield(self._outage)
            await self._until_delivered()
            kill.until = time.time()
            self.figures.count_kill("kafka")

    async def _cut_power(self) -> None:
        await asyncio.to_thread(self.kafka.kill)
        await asyncio.sleep(random.uniform(0, 3))
        await asyncio.to_thread(self.kafka.start)

    async def _until_delivered(self) -> None:
        """Wait until an event that is accepted from now on is delivered. Raises StuckError."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                (number,) = await self.stage.send(1, PATIENCE_SECONDS)
                while number not in self._received and not _is_refused(number):
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise StuckError(f"Kafka is back, and nothing was delivered in {PATIENCE_SECONDS:.0f} s") from None

    async def _restart_all(self) -> None:
        if self._outage:
            await self._outage
        for (kind, slot), process in list(self._running.items()):
            if not process.runs:
                self._start(kind, slot)
        await self._until_delivered()
        for kill in self._kills:
            kill.until = min(kill.until, time.time())

    async def _judge(self) -> None:
        stage = self.stage
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (findings := await oracle.find(stage.broker, stage.topics)).unsettled(stage.integrations):
                await self._revive()
                await asyncio.sleep(2)
        forwarded = await read(stage.broker, stage.topics.forward("hook"), stage.topics.partitions)
        repeats = judge(forwarded, self._received, self._kills)
        lost = oracle.lost(findings, stage.accepted, self._received.keys())
        figures = self.figures
        figures.events, figures.received = len(stage.accepted), sum(map(len, self._received.values()))
        figures.lost, figures.beyond = len(lost), len(repeats.beyond)
        figures.routed_again, figures.delivered_again = repeats.routed, repeats.delivered
        self.problems += [f"m{n} is lost" for n in lost]
        self.problems += repeats.beyond
        try:
            await books.check(stage.broker, stage.topics, stage.integrations, stage.folder / "ledger", findings)
        except (AssertionError, TimeoutError) as error:
            figures.unbalanced = 1
            self.problems.append(f"the books do not balance: {error}")
        if self.problems:
            self.problems += map(str, sorted(self._kills, key=lambda kill: kill.at))

    async def _revive(self) -> None:
        for (kind, slot), process in list(self._running.items()):
            if not process.runs:
                self.figures.ended += 1
                self._start(kind, slot)


def _is_refused(number: int) -> bool:
    return number % REFUSED_EVERY == 7


async def _has_worked(session: aiohttp.ClientSession, process: Process, metric: str) -> bool:
    for line in process.log.read_text().splitlines():
        if '"event":"ready"' in line:
            port = orjson.loads(line)["metrics"]
            break
    else:
        return False
    with suppress(aiohttp.ClientError, TimeoutError):
        async with session.get(f"http://127.0.0.1:{port}/metrics", timeout=aiohttp.ClientTimeout(total=5)) as answer:
            lines = (await answer.text()).splitlines()
            return any(float(line.rsplit(" ", 1)[1]) > 0 for line in lines if line.startswith(metric))
    return False


@asynccontextmanager
async def _playing(folder: Path) -> AsyncIterator[Round]:
    """Set up a round with its topics and configuration; every process is killed at the end."""
    with real_kafka.running(folder / "kafka") as kafka:
        async with receiving() as vendor:
            url = vendor.url
            vendor.url = f"{url}/0"
            # A forwarder waits longer than a busy machine delays an answer, so that only kills repeat anything.
            stage = Stage(kafka, folder / "0", vendor, 30, {})
            for slot in range(1, SLOTS):
                port = free_port()
                other = folder / str(slot)
                shutil.copytree(stage.folder, other)
                _replace(other / "turnout.yaml", f"port: {stage.port}", f"port: {port}")
                _replace(other / "integrations/hook.yaml", f"{url}/0", f"{url}/{slot}")
                stage.ports.append(port)
            assert await stage.start("topics", "--create").end(0, 90) == 0, stage.processes[-1].log.read_text()
            try:
                yield Round(kafka, stage)
            finally:
                for process in stage.processes:
                    await process.end(signal.SIGKILL)


def _replace(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


async def play(folder: Path, kills: int, seconds: float, stop: asyncio.Event) -> tuple[Figures, Sequence[str]]:
    """Play one round in a folder; returns its figures and problems. The folder is kept if there are problems."""
    folder.mkdir(parents=True)  # noqa: ASYNC240  # nothing else runs yet
    async with _playing(folder) as game:
        watching = asyncio.create_task(_report(game.figures))
        try:
            figures = await game.run(kills, seconds, stop)
        finally:
            watching.cancel()
    if game.problems:
        (folder / "problems").write_text("\n".join(game.problems) + "\n")
    else:
        shutil.rmtree(folder)
    return figures, game.problems


async def _report(figures: Figures) -> None:
    while True:
        await asyncio.sleep(30)
        by_kind = ", ".join(f"{number} {kind}" for kind, number in sorted(figures.kills.items()))
        print(f"{time.strftime('%H:%M:%S')} this round: {figures.counted} kills ({by_kind})", flush=True)


async def soak(folder: Path, kills: int, *, resume: bool) -> Figures:
    """Play rounds until `kills` kills are counted; `resume` continues after the finished ones in `rounds.jsonl`."""
    state = folder / "rounds.jsonl"
    total = Figures()
    if state.exists():
        if not resume:
            sys.exit(f"{state} has the rounds of an earlier run: go on with --resume, or choose another folder")
        for line in state.read_text().splitlines():
            total.add(Figures(**orjson.loads(line)))
        print(f"so far: {total}", flush=True)
    folder.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240  # as above
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    while total.counted < kills and not stop.is_set():
        room = folder / f"round-{time.strftime('%m%d-%H%M%S')}"
        figures, problems = await play(room, min(ROUND_KILLS, kills - total.counted), ROUND_SECONDS, stop)
        with state.open("ab") as file:
            file.write(orjson.dumps(asdict(figures)) + b"\n")
        total.add(figures)
        for problem in problems[:10]:
            print(problem, flush=True)
        if problems:
            print(f"everything about this round is in {room}", flush=True)
        print(f"{time.strftime('%H:%M:%S')} {total}", flush=True)
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path(".soak"), help="where the state is kept")
    parser.add_argument("--kills", type=int, default=1000, help="counted kills until it ends")
    parser.add_argument("--resume", action="store_true", help="go on with the state in the folder")
    given = parser.parse_args()
    total = asyncio.run(soak(given.folder.resolve(), given.kills, resume=given.resume))
    sys.exit(total.is_bad or total.counted < given.kills)


if __name__ == "__main__":
    main()
