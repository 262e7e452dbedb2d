"""Compare the router with Kafka Streams: events per CPU-second, in turns, on the same Kafka and events.

    python -m tests.benchmarks.kafka_streams [EVENTS] [NAMES] [TURNS]

The peer, `streams/Peer.java`, maps by hand and writes the same records. It does not validate, dedupe or check, and
writes neither outcomes nor run headers. Both get the same core, and Kafka the other one. The last two thirds of the
events are measured, after the JVM and the router have finished compiling.
"""

import asyncio
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from kafka.admin import KafkaAdminClient

from streams.kafka.admin import create_topics
from streams.kafka.settings import Broker
from tests.benchmarks import measure
from tests.benchmarks.events import make_event
from tests.benchmarks.router import RULES, TOPICS, fill, forwarded, rule_set
from tests.support import real_kafka
from transforms import DROP

CACHE = real_kafka.CACHE.with_name(f"kafka-streams-{real_kafka.VERSION}")
SOURCE = Path(__file__).parent / "streams" / "Peer.java"
POM = f"""<project><modelVersion>4.0.0</modelVersion>
<groupId>turnout</groupId><artifactId>peer</artifactId><version>1</version>
<dependencies>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-streams</artifactId>
<version>{real_kafka.VERSION}</version></dependency>
<dependency><groupId>com.fasterxml.jackson.core</groupId><artifactId>jackson-databind</artifactId>
<version>2.19.0</version></dependency>
<dependency><groupId>org.slf4j</groupId><artifactId>slf4j-nop</artifactId><version>1.7.36</version></dependency>
</dependencies></project>"""


def build(folder: Path) -> str:
    """Compile the peer; return its class path."""
    jars = CACHE / "lib"
    if not jars.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        (CACHE / "pom.xml").write_text(POM)
        copy = [f"{real_kafka.COPY}:copy-dependencies", "-DoutputDirectory=lib", "-DincludeScope=runtime"]
        subprocess.run(["mvn", "-q", "-B", *copy], cwd=CACHE, check=True, stdin=subprocess.DEVNULL)
    subprocess.run(["javac", "-cp", f"{jars}/*", "-d", str(folder), str(SOURCE)], check=True)
    return f"{folder}:{jars}/*"


def measure_router(broker: Broker, core: int, wanted: tuple[int, int]) -> float:
    """Return the CPU seconds of the router, which begins again at the first event."""
    child = measure.start("tests.benchmarks.router", "--route", broker.bootstrap, core=core)
    used = measure_child(child, broker, wanted)
    admin = KafkaAdminClient(**broker.client())
    admin.delete_groups([TOPICS.router_group])
    admin.close()
    return used


def measure_peer(broker: Broker, core: int, wanted: tuple[int, int], path: str, application: str) -> float:
    """Return the CPU seconds of the peer, including those of its compiler and garbage collector."""
    heap = ["-Xms512m", "-Xmx512m", "-XX:+UseSerialGC"]
    arguments = [broker.bootstrap, application, TOPICS.events, TOPICS.forward("")]
    command = ["taskset", "-c", str(core), "java", *heap, "-cp", path, "Peer", *arguments]
    return measure_child(subprocess.Popen(command, stdout=subprocess.PIPE, text=True), broker, wanted)


def measure_child(child: "subprocess.Popen[str]", broker: Broker, wanted: tuple[int, int]) -> float:
    """Return the CPU seconds between two numbers of forwarded deliveries, then end the process."""
    at: list[float] = []
    for number in wanted:
        while forwarded(broker) < number:
            assert child.poll() is None, "it died"
            time.sleep(0.1)
        at.append(measure.cpu(child.pid))
    child.terminate()
    child.wait()
    return at[1] - at[0]


def count_deliveries(count: int, names: int) -> int:
    """Return how many deliveries some events lead to, which depends on their names only."""
    routes = rule_set().routes
    each = [
        sum(made[0][1] is not DROP for made in (it.apply(make_event(n, names)) for it in routes)) for n in range(names)
    ]
    return sum(each[number % names] for number in range(count))


def report(name: str, rates: Sequence[float]) -> None:
    """Print a median and its range."""
    print(f"{name}: {statistics.median(rates):,.0f} events per CPU-second, from {min(rates):,.0f} to {max(rates):,.0f}")


def main(count: int, names: int, turns: int) -> None:
    """Print the figures."""
    if shutil.which("javac") is None or shutil.which("mvn") is None:
        print("Kafka Streams: not measured, it needs a JDK and Maven")
        return
    core, _ = measure.cores()
    rates: tuple[list[float], list[float]] = ([], [])
    with tempfile.TemporaryDirectory() as name, real_kafka.running(Path(name) / "kafka") as kafka:
        broker = Broker(bootstrap=kafka.bootstrap)
        create_topics(broker, TOPICS.declared([path.stem for path in RULES]), 1)
        path = build(Path(name))
        asyncio.run(fill(broker, count, names))
        deliveries = count_deliveries(count, names)
        for turn in range(turns):
            before = forwarded(broker)
            rates[0].append(
                count * 2 / 3 / measure_router(broker, core, (before + deliveries // 3, before + deliveries))
            )
            before += deliveries
            wanted = before + deliveries // 3, before + deliveries
            rates[1].append(count * 2 / 3 / measure_peer(broker, core, wanted, path, f"peer-{turn}"))
    report("router", rates[0])
    report("Kafka Streams", rates[1])
    ratios = [mine / theirs for mine, theirs in zip(*rates, strict=True)]
    print(f"ratio: {statistics.median(ratios):.2f}, from {min(ratios):.2f} to {max(ratios):.2f}")


if __name__ == "__main__":
    main(*(int(given) for given in (*sys.argv[1:4], *("90000", "1", "5")[len(sys.argv) - 1 :])))
