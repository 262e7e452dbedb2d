"""New configuration in a running process: its folder is watched, and what has changed is taken up as a whole."""

import asyncio
import hashlib
import signal
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from deploy.config.configuration import Configuration
from deploy.config.integrations import Integration
from deploy.terminal.failures import Misconfigured
from streams.kafka.admin import find_mismatches
from streams.kafka.settings import BrokerError
from streams.observability.internal_error import to_exception
from streams.observability.metrics import CONFIGURATION, CONFIGURATION_BROKEN
from streams.routing.ruleset import CurrentRules
from streams.steps.enrichment.files import are_replaced
from streams.topics import Topic

if TYPE_CHECKING:
    from streams.worker.pipeline import ConsumerPipeline
    from streams.worker.worker import Worker

log = structlog.get_logger()

PERIOD_SECONDS = 2.0
"""Seconds between two looks at the folder."""

Take = Callable[[Configuration, Configuration], bool]
"""Puts a configuration, the second, in the place of the first; False to be called again later, with the same two."""


class Reloader:
    """Keeps a process at the configuration in its folder, by a hash of the files' content.

    The files of data that it names may be large, and lie anywhere: they are told by their size and time.

    `read` reads the folder as the process does when it starts, and raises Misconfigured. A folder with mistakes is
    reported, and the old configuration goes on. What turnout.yaml says is in force from the next start only.
    """

    def __init__(
        self, configuration: Configuration, read: Callable[[], Configuration], take: Take = lambda *_: True
    ) -> None:
        self.current = configuration
        self._read = read
        self._take = take
        self._seen = content_hash(configuration.folder)
        self._data_files = configuration.data_files
        self._before: Configuration | None = None
        self._wake = asyncio.Event()
        self._export(broken=False)

    def poll(self) -> None:
        """Look at the folder once, and take up what has changed."""
        seen = content_hash(self.current.folder)
        if seen != self._seen or are_replaced(self._data_files):
            self._seen = seen
            self._load()
        if self._before is not None and self._take(self._before, self.current):
            self._before = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Poll while this is entered: each PERIOD, and at once at SIGHUP."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._wake.set)
        task = asyncio.create_task(self._poll_on())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _poll_on(self) -> None:
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), PERIOD_SECONDS)
            self._wake.clear()
            try:
                await asyncio.to_thread(self.poll)
            except BaseException as error:  # noqa: BLE001  # the old configuration is still good
                log.error("cannot take up the configuration", error=type(to_exception(error)).__name__)  # noqa: TRY400

    def _load(self) -> None:
        try:
            configuration = self._read()
        except Misconfigured as error:
            self._data_files = error.data_files
            self._export(broken=True)
            log.error(  # noqa: TRY400
                "the configuration has mistakes, and the old one goes on",
                version=self.current.version,
                mistakes=[str(mistake) for mistake in error.mistakes[:20]],
            )
            return
        self._data_files = configuration.data_files
        if configuration.settings != self.current.settings:
            changed = [
                name
                for name in type(configuration.settings).model_fields
                if getattr(configuration.settings, name) != getattr(self.current.settings, name)
            ]
            log.warning("changes of turnout.yaml wait for a restart", keys=changed)
        self._before = self._before or self.current
        configuration.suppression.keep_users_of(self.current.suppression)
        self.current = replace(configuration, settings=self.current.settings)
        self._export(broken=False)
        log.info("took up the configuration", version=self.current.version)

    def _export(self, *, broken: bool) -> None:
        CONFIGURATION.clear()
        CONFIGURATION.labels(self.current.version).set(1)
        CONFIGURATION_BROKEN.set(broken)


def content_hash(folder: Path) -> bytes:
    """A hash of the names and the content of a configuration folder's files."""
    digest = hashlib.sha256()
    inner = (sorted(folder.glob(f"{kind}/*")) for kind in ("plans", "sources", "integrations"))
    for path in (folder / "turnout.yaml", *chain.from_iterable(inner)):
        with suppress(OSError):
            content = path.read_bytes()
            digest.update(f"{path.relative_to(folder)}\0{len(content)}\0".encode() + content)
    return digest.digest()


class RouterRules:
    """Puts new rules into a router's holder; a new integration has a route once its topic is there.

    `restart` starts the router's pipeline again, which is asked for when sources read other topics than before.
    """

    def __init__(
        self, holder: CurrentRules, configuration: Configuration, restart: Callable[[], object] = lambda: None
    ) -> None:
        self._holder, self._restart = holder, restart
        self._reads = configuration.sources.topics
        self._ready = set(configuration.integrations)
        self._said: set[str] = set()
        self._said_topics: set[str] = set()

    def take(self, _: Configuration, configuration: Configuration) -> bool:
        """As Take."""
        waiting = without_topics(configuration, configuration.integrations.keys() - self._ready)
        self._ready = configuration.integrations.keys() - waiting
        for name in sorted(waiting - self._said):
            remedy = f"turnout topics --create --config {configuration.folder}"
            log.warning("a new integration waits for its topic", integration=name, remedy=remedy)
        self._said = waiting
        self._holder.current = configuration.rule_set(without=waiting)
        return self._read_from(configuration) and not waiting

    def _read_from(self, configuration: Configuration) -> bool:
        """Have the router read the topics of sources; False while one is not there."""
        reads = configuration.sources.topics
        if reads != self._reads:
            topics = [topic for topic in configuration.declared if topic.name in reads]
            lacking = _lacking(configuration, topics)
            for name in sorted(lacking - self._said_topics):
                log.warning("a topic that a source reads is not there", topic=name)
            self._said_topics = lacking
            if lacking:
                return False
            self._restart()
            self._reads = reads
        return True


class Deliveries:
    """Has a forwarder's pipelines follow the integrations' files; to be made inside the worker's event loop.

    One whose settings have changed is started again alone, one that is gone is stopped, and a new one begins once its
    topics are there. `names` are those that the process delivers to, or none for all.
    """

    def __init__(
        self,
        worker: "Worker",
        make: "Callable[[str, Configuration], ConsumerPipeline]",
        configuration: Configuration,
        names: Collection[str],
    ) -> None:
        self._worker, self._make, self._names = worker, make, names
        self._loop = asyncio.get_running_loop()
        self._running = {pipeline.name: configuration.integrations[pipeline.name] for pipeline in worker.pipelines}

    def take(self, _: Configuration, configuration: Configuration) -> bool:
        """As Take."""
        wanted = {
            name: integration
            for name, integration in configuration.integrations.items()
            if not self._names or name in self._names
        }
        waiting = without_topics(configuration, wanted.keys() - self._running.keys())
        for name, integration in list(self._running.items()):
            if name not in wanted or _delivers_otherwise(integration, wanted[name]):
                self._await(self._worker.remove(name))
                del self._running[name]
                log.info("stopped delivering", integration=name)
        for name in sorted(wanted.keys() - self._running.keys() - waiting):
            self._await(self._worker.add(self._make(name, configuration)))
            self._running[name] = wanted[name]
            log.info("began to deliver", integration=name)
        return not waiting

    def _await(self, step: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(step, self._loop).result()


def without_topics(configuration: Configuration, names: Collection[str]) -> set[str]:
    """Those of these integrations whose topics are not there as they must be; all while Kafka does not answer."""
    topics = configuration.topics
    lacking = _lacking(configuration, topics.of_integrations(names))
    return {name for name in names if lacking & {topic.name for topic in topics.of_integrations([name])}}


def _lacking(configuration: Configuration, topics: Sequence[Topic]) -> set[str]:
    """The names of those topics that are not there as they must be; of all while Kafka does not answer."""
    if not topics:
        return set()
    try:
        mismatches = find_mismatches(configuration.settings.broker, topics, 5.0)
    except BrokerError:
        return {topic.name for topic in topics}
    return {mismatch.topic.name for mismatch in mismatches}


def _delivers_otherwise(old: Integration, new: Integration) -> bool:
    before, after = ((it.forwarder, it.settings, it.delivery, it.mode) for it in (old, new))
    return before != after
