"""Measure the ledger's speed and size without Kafka: ingest, audit, and lookup of an ID.

    python -m tests.benchmarks.ledger [EVENTS]
    python -m tests.benchmarks.ledger --ids EVENTS    only ids and users, for 100 M and more events
    python -m tests.benchmarks.ledger --days DAYS     counts over days, as the API answers them

The first prints its progress to stderr. SIGINT and SIGTERM end the writing after a whole run; the figures cover the
written events.

Events of five integrations and ten names in runs of 500 from 12 partitions, as routers and forwarders record them: two
integrations take all, two some, one filters, one in a thousand deliveries dies. The records are made before, in another
process, and decoded as the ingester decodes them.
"""

import os
import pickle
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import orjson

from streams.ledger import day_file
from streams.ledger.audit import KafkaBounds, audit
from streams.ledger.ingester import COMMIT_EVENTS
from streams.ledger.intake import RecordIntake
from streams.ledger.lookup import places_of_message, places_of_user, story_of
from streams.ledger.outcome_buffer import OutcomeBuffer
from streams.ledger.sqlite_store import SqliteReader, SqliteStore
from streams.ledger.store import READ, CountKey, LedgerBatch, Run
from streams.ledger.summary import step_for, summarize
from streams.records.event import Origin
from streams.records.outcomes import FORWARDED, Outcome, Stage
from streams.records.run_header import HASH_BYTES, RUN_HEADER, EventFacts, Kind, RunHeader, encode_run
from streams.topics import Topics
from tests.benchmarks import measure
from tests.streams.ledger.making import EventRecord
from tests.support.local_producer import LocalRecord

TOPICS = Topics(prefix="bench")
RUN = 500
NAMES = [f"Event {number}" for number in range(10)]
PER_SECOND = 5000
LOOKUPS = 1000
KEY = b"the key of the index of users"


class Place(NamedTuple):
    """An event's partition and offset."""

    partition: int
    offset: int


def place_of(number: int) -> Place:
    """Return the place of an event by its number."""
    run, index = divmod(number, RUN)
    return Place(run % TOPICS.partitions, run // TOPICS.partitions * RUN + index)


def message_id(place: Place) -> str:
    """Return the messageId of the event at a place."""
    return f"ajs-next-{place.partition:02}-{place.offset:012}"


def user(number: int, users: int) -> bytes:
    """Return the user of an event by its number; 20 events per user."""
    return b"user-%d" % (number * 7919 % users)


def make(count: int) -> Iterator[LocalRecord]:
    """Make the records of the outcomes topic."""
    chance = random.Random(1)
    positions = [0] * TOPICS.partitions
    began = int(time.time() * 1000) - count * 1000 // PER_SECOND
    for start in range(0, count, RUN):
        partition, first = place_of(start)
        now = began + start * 1000 // PER_SECOND
        router = OutcomeBuffer(Stage.ROUTER, TOPICS.events, partition, "v1")
        forwarders: dict[str, OutcomeBuffer] = {}
        records, facts = [], []
        for index in range(RUN):
            offset = first + index
            name = chance.randrange(10)
            records.append(EventRecord(offset, user(start + index, max(1, count // 20)), now + index // 5))
            facts.append(EventFacts(offset, message_id(Place(partition, offset)), "web", "track", NAMES[name]))
            for integration in "abcde":
                if (integration == "c" and name > 2) or (integration == "d" and name) or integration == "e":
                    router.add(integration, "", Outcome.FILTERED, offset)
                    continue
                rule = f"rule{name % 4}" if integration in "ab" else "rule"
                router.add(integration, rule, FORWARDED, offset)
                forwarder = forwarders.get(integration)
                if forwarder is None:
                    forwarder = forwarders[integration] = OutcomeBuffer(Stage.FORWARDER, TOPICS.events, partition, "v1")
                if chance.random() < 0.001:
                    forwarder.name(integration, rule, Outcome.DEAD, offset, "status", "422")
                else:
                    forwarder.add(integration, rule, Outcome.DELIVERED, offset)
        (header,) = encode_run(records, facts)
        for tally in (router, *forwarders.values()):
            for outcomes in tally.records():
                headers = ((RUN_HEADER, header),) if tally is router else ()
                position = positions[partition]
                positions[partition] += 1
                yield LocalRecord(TOPICS.outcomes, partition, position, now, None, outcomes.encode(), headers)


def written_bytes() -> int:
    """Return the bytes that this process has caused to be written to disk."""
    return int(Path("/proc/self/io").read_text().split("write_bytes: ")[1].split()[0])


def records_from(count: int) -> Iterator[LocalRecord]:
    """Return the records, made by another process."""
    command = [sys.executable, "-m", "tests.benchmarks.ledger", "--make", str(count)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as child:
        assert child.stdout
        try:
            while True:
                yield from pickle.load(child.stdout)  # noqa: S301  # its own child
        except EOFError:
            assert child.wait() == 0
        finally:
            child.kill()


def ingest(folder: Path, count: int) -> dict[str, float]:
    """Write the records to a store, until all are written or a signal comes; returns the figures."""
    stopped: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _frame: stopped.append(number))
    store = SqliteStore(folder, KEY, 7)
    intake = RecordIntake(TOPICS)
    used = worst = 0.0
    written = written_bytes()
    early = 0.0
    done = shown = 0
    with closing(records_from(count)) as records:
        for record in records:
            if stopped and record.headers:
                break
            began, started = time.process_time(), time.monotonic()
            intake.take(record)
            if intake.events >= COMMIT_EVENTS:
                done += intake.events
                store.write(intake.finish())
                worst = max(worst, time.monotonic() - started)
                if done <= count // 5:
                    early = measure.memory(os.getpid())
            used += time.process_time() - began
            if done >= shown + 1_000_000:
                shown = done
                figures = f"{done / used:,.0f} per CPU-second, {measure.memory(os.getpid()):.0f} MB"
                print(f"{done:,} events, {figures}", file=sys.stderr, flush=True)
    done += intake.events
    store.write(intake.finish())
    store.close()
    size = sum(path.stat().st_size for path in folder.iterdir())
    return {
        "events": done,
        "events per CPU-second": round(done / used),
        "bytes per event": round(size / done, 1),
        "bytes written per event": round((written_bytes() - written) / done),
        "longest commit, seconds": round(worst, 2),
        "memory after a fifth, MB": round(early),
        "memory at the end, MB": round(measure.memory(os.getpid())),
    }


def percentile(times: list[float], part: float) -> float:
    """Return a percentile in milliseconds."""
    return round(sorted(times)[min(len(times) - 1, int(len(times) * part))] * 1000, 2)


def look_up(folder: Path, count: int, users: int) -> dict[str, float]:
    """Find random ids and users; fails if one is missing or wrong."""
    reader = SqliteReader(folder, KEY)
    chance = random.Random(2)
    ids, stories, of_users = [], [], []
    for _ in range(LOOKUPS):
        number = chance.randrange(count)
        place = place_of(number)
        origin = Origin(TOPICS.events, *place)
        started = time.monotonic()
        found = places_of_message(reader, message_id(place))
        ids.append(time.monotonic() - started)
        assert list(found) == [origin]
        started = time.monotonic()
        story = story_of(reader, origin)
        stories.append(time.monotonic() - started)
        assert story is not None
        assert len(story.outcomes) == 5
    for _ in range(LOOKUPS // 10):
        number = chance.randrange(count)
        started = time.monotonic()
        found = places_of_user(reader, user(number, users).decode())
        of_users.append(time.monotonic() - started)
        assert Origin(TOPICS.events, *place_of(number)) in found
    reader.close()
    figures = {}
    for name, times in (("id", ids), ("story", stories), ("user", of_users)):
        figures[f"find {name}, ms, median"] = percentile(times, 0.5)
        figures[f"find {name}, ms, p99"] = percentile(times, 0.99)
    return figures


def balance(folder: Path, count: int) -> dict[str, float]:
    """Audit all events; fails if the books do not balance, and if a count is wrong."""
    reader = SqliteReader(folder, KEY)
    ends: dict[int, int] = {}
    for start in range(0, count, RUN):
        partition, first = place_of(start)
        ends[partition] = max(ends.get(partition, 0), first + RUN)
    ranges = {(TOPICS.events, partition): (0, end) for partition, end in ends.items()}
    started, began = time.monotonic(), time.process_time()
    report = audit(reader, KafkaBounds(ranges, {}, {}))
    took, used = time.monotonic() - started, time.process_time() - began
    assert report.balanced, report.findings[:3]
    assert report.events == count
    started = time.monotonic()
    counted = sum(each.number for each in reader.counts(0, 2**40) if each.key.outcome == "read")
    assert counted == count
    reader.close()
    return {
        "audit, seconds": round(took, 2),
        "audit, CPU seconds": round(used, 2),
        "audit of 18 M events, CPU seconds": round(used / count * 18e6, 1),
        "counts of all minutes, seconds": round(time.monotonic() - started, 2),
    }


def index(folder: Path, count: int) -> dict[str, float]:
    """Store runs with random hashes, and find some of them; fails if one is missing or wrong."""
    store = SqliteStore(folder, KEY, 7)
    chance = random.Random(3)
    users = [os.urandom(HASH_BYTES) for _ in range(100_000)]
    sample: list[tuple[bytes, Origin]] = []
    used = worst = 0.0
    kinds, table, minute = bytes(RUN), [Kind("web", "track", "Order")], int(time.time() // 60)
    for start in range(0, count, COMMIT_EVENTS):
        batch = LedgerBatch(offsets={(TOPICS.outcomes, 0): start + 1}, time_ms=int(time.time() * 1000))
        for number in range(start, start + COMMIT_EVENTS, RUN):
            partition, first = place_of(number)
            ids, offsets = os.urandom(RUN * HASH_BYTES), range(first, first + RUN)
            header = RunHeader(offsets, ids, b"".join(chance.choices(users, k=RUN)), kinds, table, [minute] * RUN, 0, 0)
            batch.runs.append(Run(TOPICS.events, partition, "v1", header))
            if chance.random() < LOOKUPS * 1.2 * RUN / count and len(sample) < LOOKUPS:
                at = chance.randrange(RUN)
                sample.append((ids[at * HASH_BYTES :][:HASH_BYTES], Origin(TOPICS.events, partition, first + at)))
        began, started = time.process_time(), time.monotonic()
        store.write(batch)
        used += time.process_time() - began
        worst = max(worst, time.monotonic() - started)
    store.close()
    figures = {
        "CPU, microseconds per event": round(used / count * 1e6, 2),
        "bytes per event": round(sum(path.stat().st_size for path in folder.iterdir()) / count, 1),
        "longest commit, seconds": round(worst, 2),
        "memory at the end, MB": round(measure.memory(os.getpid())),
    }
    for name in ("cold", "warm"):
        reader = SqliteReader(folder, KEY)
        times = []
        for number, (id_hash, place) in enumerate(sample):
            if name == "cold" and not number % 20:
                forget(folder)
            started = time.monotonic()
            found = reader.find_id(id_hash)
            times.append(time.monotonic() - started)
            assert place in found
            assert len(found) == 1
        reader.close()
        figures[f"find {len(sample)} ids, {name}, ms, median"] = percentile(times, 0.5)
        figures[f"find {len(sample)} ids, {name}, ms, p99"] = percentile(times, 0.99)
    return figures


EVENTS_PER_COUNT = 5
GROUPS_OF_FLOW = ["time", "source", "integration", "outcome"]


def fill_days(folder: Path, days: int) -> int:
    """Fill a ledger with counts of 20 kinds of events and five integrations in every minute; returns events per day."""
    SqliteStore(folder, None, days).close()
    today = int(time.time()) // 86400
    kinds = [Kind("web", "track", name) for name in (*NAMES, *(f"Other {number}" for number in range(10)))]
    keys = [CountKey("", "", READ, ""), *(CountKey(name, f"rule of {name}", Outcome.DELIVERED, "") for name in "abcde")]
    for day in range(today - days + 1, today + 1):
        path = day_file.path_of(folder, datetime.fromtimestamp(day * 86400, UTC).date())
        with closing(day_file.connect(path)) as connection:
            connection.execute("BEGIN")
            day_file.DayWriter.create_tables(connection)
            writer = day_file.DayWriter(connection)
            numbers = [writer._kind(kind) for kind in kinds]
            minutes = range(day * 1440, day * 1440 + 1440)
            for hour in range(0, 1440, 60):
                some = minutes[hour : hour + 60]
                writer.count(
                    Counter({((kind, at), key): EVENTS_PER_COUNT for at in some for kind in numbers for key in keys})
                )
            connection.execute("COMMIT")
    return 1440 * len(kinds) * EVENTS_PER_COUNT


def counts_over(folder: Path, days: int) -> dict[str, float]:
    """Answer counts over days with 20 kinds of events and five integrations in every minute; fails if one is wrong."""
    per_day = fill_days(folder, days)
    now = int(time.time())
    today = now // 86400
    figures = {}
    for name, length in (("a day", 1), ("a week", 7), (f"{days} days", days)):
        since = (today - length + 1) * 86400
        step = step_for(since, now, 0)
        times = []
        for _ in range(5):
            started = time.monotonic()
            with closing(SqliteReader(folder, None)) as reader:
                answer = summarize(
                    reader.counts(since, now + 86400, step), ["time", "source", "integration", "outcome"]
                )
            times.append(time.monotonic() - started)
            assert answer["accepted"] == length * per_day
        figures[f"counts over {name} by {step} s, ms, worst of 5"] = round(max(times) * 1000)
    return figures


def forget(folder: Path) -> None:
    """Drop the files from the system's cache."""
    os.sync()
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main(count: int) -> None:
    count -= count % RUN
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"{count:,} events, 5 integrations, {TOPICS.partitions} partitions", flush=True)
        figures = ingest(folder, count)
        print(orjson.dumps(figures, option=orjson.OPT_INDENT_2).decode(), file=sys.stderr, flush=True)
        reached = int(figures["events"])
        figures = {**figures, **balance(folder, reached), **look_up(folder, reached, max(1, count // 20))}
    print(orjson.dumps(figures, option=orjson.OPT_INDENT_2).decode())


if __name__ == "__main__":
    if sys.argv[1:2] == ["--make"]:
        chunk: list[LocalRecord] = []
        for made in make(int(sys.argv[2])):
            chunk.append(made)
            if len(chunk) == 100:
                pickle.dump(chunk, sys.stdout.buffer)
                chunk = []
        pickle.dump(chunk, sys.stdout.buffer)
    elif sys.argv[1:2] == ["--days"]:
        with tempfile.TemporaryDirectory() as where:
            print(orjson.dumps(counts_over(Path(where), int(sys.argv[2])), option=orjson.OPT_INDENT_2).decode())
    elif sys.argv[1:2] == ["--ids"]:
        with tempfile.TemporaryDirectory() as where:
            print(orjson.dumps(index(Path(where), int(sys.argv[2])), option=orjson.OPT_INDENT_2).decode())
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else 1_000_000)
