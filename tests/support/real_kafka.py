"""Run a real Apache Kafka for tests: jars from Maven in a cache, one KRaft node per test run."""

import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.locks import locked
from tests.support.ports import free_port

VERSION = "4.1.0"
COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"
# A short life is not worth the optimizing compiler.
JVM = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto"]
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "turnout" / f"kafka-{VERSION}"

POM = f"""<project><modelVersion>4.0.0</modelVersion>
<groupId>turnout</groupId><artifactId>kafka</artifactId><version>1</version>
<dependencies>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version></dependency>
<dependency><groupId>org.slf4j</groupId><artifactId>slf4j-nop</artifactId><version>1.7.36</version></dependency>
</dependencies></project>"""

PROPERTIES = """process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={logs}
# Tests write records of old dates, which the first look for what is too old, after 30 s, would take away.
log.initial.task.delay.ms=86400000
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
# A test's node needs no threads to spare, and no record of its own each half second.
num.network.threads=1
num.io.threads=2
background.threads=1
group.coordinator.threads=1
metadata.max.idle.interval.ms=0
log.index.size.max.bytes=1048576
group.min.session.timeout.ms=2000
auto.create.topics.enable=false
"""

REPLICATED = """
offsets.topic.replication.factor=3
transaction.state.log.replication.factor=3
min.insync.replicas=2
# A node that is gone is noticed as fast as a test needs it.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
replica.lag.time.max.ms=3000
"""

FOLLOWER = """
process.roles=broker
node.id={number}
controller.quorum.voters=1@127.0.0.1:{quorum}
listeners=PLAINTEXT://127.0.0.1:{port}
"""


def why_not() -> str | None:
    """Return why a real Kafka cannot run here; None if it can."""
    missing = [name for name in ("java", "mvn") if shutil.which(name) is None]
    if missing and not (missing == ["mvn"] and _jars().is_dir()):
        return f"real Kafka needs {' and '.join(missing)} on the PATH"
    return None


class Kafka:
    """A running Kafka."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap


class KafkaNode(Kafka):
    """A Kafka node in its own folder; it can be killed and restarted with its data."""

    def __init__(self, folder: Path, more: str = "", cluster: str = "", **values: object) -> None:
        self.folder = folder
        self._cluster = cluster or str(uuid.uuid4())
        self.port, self.controller = free_port(), free_port()
        super().__init__(f"127.0.0.1:{self.port}")
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self._properties = folder / "server.properties"
        ports = {"port": self.port, "controller": self.controller, "logs": folder / "logs"}
        # Of a property that stands twice Java takes the last.
        self._properties.write_text((PROPERTIES + more).format_map({**ports, **values}))
        self._format()

    def _format(self) -> None:
        _run("kafka.tools.StorageTool", "format", "-t", self._cluster, "-c", str(self._properties))

    def lose_data(self) -> None:
        """Replace the disk of a killed node by an empty one."""
        shutil.rmtree(self.folder / "logs")
        self._format()

    @property
    def pid(self) -> int:
        """The process ID, 0 if it was never started."""
        return self._process.pid if self._process else 0

    def start(self) -> None:
        """Start the node and wait until it serves."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["java", *JVM, "-Xmx512m", "-cp", f"{_jars()}/*", "kafka.Kafka", str(self._properties)],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 120
        while not self._serves():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Kafka did not start:\n{(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.1)

    def kill(self) -> None:
        """Kill the node as in a power cut."""
        if self._process:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _serves(self) -> bool:
        # Kafka opens its port when it is ready to serve.
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@contextmanager
def running(folder: Path, more: str = "", **values: object) -> Iterator[KafkaNode]:
    """Run Kafka inside a `with` block; `more` are properties, whose placeholders in braces get `values`."""
    _fetch()
    kafka = KafkaNode(folder, more, **values)
    kafka.start()
    try:
        yield kafka
    finally:
        kafka.kill()


@contextmanager
def cluster(folder: Path) -> Iterator[list[KafkaNode]]:
    """Run three nodes inside a `with` block; the first is the controller."""
    _fetch()
    with ExitStack() as stack:
        nodes: list[KafkaNode] = []
        name = str(uuid.uuid4())
        for number in (1, 2, 3):
            more = REPLICATED if number == 1 else REPLICATED + FOLLOWER
            quorum = nodes[0].controller if nodes else ""
            nodes.append(KafkaNode(folder / str(number), more, cluster=name, number=number, quorum=quorum))
            stack.callback(nodes[-1].kill)
            nodes[-1].start()
        yield nodes


@contextmanager
def shared(folder: Path) -> Iterator[Kafka]:
    """Share one Kafka among all processes of a test run, inside a `with` block.

    The first process that needs it starts it, and ends it after the others have left the block.
    """
    address, starting, using = folder / "address", folder / "starting", folder / "using"
    with ExitStack() as node, ExitStack() as use:
        with locked(starting):
            started = not address.exists()
            if started:
                kafka = node.enter_context(running(node.enter_context(_memory(folder))))
                address.write_text(kafka.bootstrap)
            use.enter_context(locked(using, shared=True))
        try:
            yield Kafka(address.read_text())
        finally:
            use.close()
            if started:
                node.enter_context(locked(starting))
                with locked(using):
                    address.unlink()


@contextmanager
def _memory(folder: Path) -> Iterator[Path]:
    """Return a folder in memory, which halves the time to create a topic; one below `folder` if memory is short."""
    memory = Path("/dev/shm")  # noqa: S108  # it has a name of its own
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 2 << 30
    with TemporaryDirectory(dir=memory if roomy else folder, prefix="turnout-kafka-") as made:
        yield Path(made) / "kafka"


def _jars() -> Path:
    return CACHE / "lib"


def _fetch() -> None:
    with locked(CACHE.with_name(f"{CACHE.name}.lock")):
        if _jars().is_dir():
            return
        work = CACHE.with_name(f"{CACHE.name}.{os.getpid()}")
        work.mkdir(parents=True)
        (work / "pom.xml").write_text(POM)
        subprocess.run(
            ["mvn", "-q", "-B", f"{COPY}:copy-dependencies", "-DoutputDirectory=lib", "-DincludeScope=runtime"],
            cwd=work,
            check=True,
            stdin=subprocess.DEVNULL,
        )
        work.rename(CACHE)


def _run(*arguments: str) -> None:
    subprocess.run(["java", *JVM, "-cp", f"{_jars()}/*", *arguments], check=True, capture_output=True)
