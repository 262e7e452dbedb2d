"""Reload the configuration of a running process when its folder changes."""

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
from streams.steps.enrichment.files import find_replaced
from streams.topics import Topic

if TYPE_CHECKING:
    from streams.worker.pipeline import ConsumerPipeline
    from streams.worker.worker import Worker

log = structlog.get_logger()

PERIOD_SECONDS = 2.0
"""Seconds between two checks of the folder."""

INVALID = "invalid configuration; still using the previous version"
NEEDS_RESTART = "changes in turnout.yaml need a restart"
NEEDS_TOPIC = "waiting for the topic of a new integration"
APPLIED = "applied the configuration"
"""Log messages about a changed folder."""

Apply = Callable[[Configuration, Configuration], bool]
"""Replaces the first configuration by the second; returns False to be called again later with the same two."""


class FolderState:
    """The content of a folder's files, to find which of them change.

    Data files may be large, so they are compared by size and modification time; `data_files` are their stamps when
    they were read.
    """

    def __init__(self, configuration: Configuration) -> None:
        self._folder = configuration.folder
        self._hashes = file_hashes(self._folder)
        self.data_files = configuration.data_files

    def changed(self) -> list[Path]:
        """Return the files that were added, changed or removed since the last call, and replaced data files."""
        before, self._hashes = self._hashes, file_hashes(self._folder)
        files = [path for path in (before | self._hashes) if before.get(path) != self._hashes.get(path)]
        return [*files, *find_replaced(self.data_files)]


class Reloader:
    """Reloads the configuration when the content of the folder's files changes.

    `read` reads the folder as at the start of the process, and raises Misconfigured. If the folder is invalid, the
    errors are logged and the previous configuration stays. Changes in turnout.yaml need a restart.
    """

    def __init__(
        self, configuration: Configuration, read: Callable[[], Configuration], apply: Apply = lambda *_: True
    ) -> None:
        self.current = configuration
        self._read = read
        self._apply = apply
        self._state = FolderState(configuration)
        self._before: Configuration | None = None
        self._wake = asyncio.Event()
        self._export(broken=False)

    def poll(self) -> None:
        """Check the folder once, and apply changes."""
        if self._state.changed():
            self._load()
        if self._before is not None and self._apply(self._before, self.current):
            self._before = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Poll inside the context: every PERIOD_SECONDS, and at once on SIGHUP."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._wake.set)
        task = asyncio.create_task(self._poll_forever())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _poll_forever(self) -> None:
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), PERIOD_SECONDS)
            self._wake.clear()
            try:
                await asyncio.to_thread(self.poll)
            except BaseException as error:  # noqa: BLE001  # the previous configuration still works
                log.error("cannot apply the configuration", error=type(to_exception(error)).__name__)  # noqa: TRY400

    def _load(self) -> None:
        try:
            configuration = self._read()
        except Misconfigured as error:
            self._state.data_files = error.data_files
            self._export(broken=True)
            log.error(  # noqa: TRY400
                INVALID,
                version=self.current.version,
                mistakes=[str(each) for each in error.errors[:20]],
            )
            return
        self._state.data_files = configuration.data_files
        if configuration.settings != self.current.settings:
            changed = [
                name
                for name in type(configuration.settings).model_fields
                if getattr(configuration.settings, name) != getattr(self.current.settings, name)
            ]
            log.warning(NEEDS_RESTART, keys=changed)
        self._before = self._before or self.current
        configuration.suppression.keep_users_of(self.current.suppression)
        self.current = replace(configuration, settings=self.current.settings)
        self._export(broken=False)
        log.info(APPLIED, version=self.current.version)

    def _export(self, *, broken: bool) -> None:
        CONFIGURATION.clear()
        CONFIGURATION.labels(self.current.version).set(1)
        CONFIGURATION_BROKEN.set(broken)


def file_hashes(folder: Path) -> dict[Path, bytes]:
    """Return a hash of the content of each file of a configuration folder."""
    hashes = {}
    inner = (sorted(folder.glob(f"{kind}/*")) for kind in ("plans", "sources", "integrations"))
    for path in (folder / "turnout.yaml", *chain.from_iterable(inner)):
        with suppress(OSError):
            hashes[path] = hashlib.sha256(path.read_bytes()).digest()
    return hashes


class RouterRules:
    """Replaces the rules of a router; a new integration gets a route once its topic exists.

    `restart` restarts the router's pipeline, which is necessary if sources read other topics than before. `record`
    records the rules, without some integrations, before they are used; it returns False to be called again.
    """

    def __init__(
        self,
        current_rules: CurrentRules,
        configuration: Configuration,
        restart: Callable[[], object] = lambda: None,
        record: Callable[[Configuration, Collection[str]], bool] = lambda *_: True,
    ) -> None:
        self._current_rules, self._restart, self._record = current_rules, restart, record
        self._reads = configuration.sources.topics
        self._has_memory = configuration.sources.memory is not None
        self._logged_memory = False
        self._ready = set(configuration.integrations)
        self._logged: set[str] = set()
        self._logged_topics: set[str] = set()

    def apply(self, _: Configuration, configuration: Configuration) -> bool:
        """Implement `Apply`."""
        waiting = without_topics(configuration, configuration.integrations.keys() - self._ready)
        self._ready = configuration.integrations.keys() - waiting
        for name in sorted(waiting - self._logged):
            remedy = f"turnout topics --create --config {configuration.folder}"
            log.warning(NEEDS_TOPIC, integration=name, remedy=remedy)
        self._logged = waiting
        if not self._record(configuration, waiting):
            return False
        rules = configuration.rule_set(without=waiting)
        has_memory = rules.memory is None or self._has_memory_topic(configuration)
        self._current_rules.current = rules if has_memory else replace(rules, memory=None)
        return self._follow_topics(configuration) and not waiting and has_memory

    def _has_memory_topic(self, configuration: Configuration) -> bool:
        """Return whether the topic of the memory exists; until then, nothing is remembered."""
        topics = configuration.topics
        if not self._has_memory:
            self._has_memory = not _missing_topics(
                configuration, [topics.of_memory(configuration.settings.memory.days)]
            )
            if not self._has_memory and not self._logged_memory:
                remedy = f"turnout topics --create --config {configuration.folder}"
                log.warning("waiting for the topic of the memory", topic=topics.memory, remedy=remedy)
                self._logged_memory = True
        return self._has_memory

    def _follow_topics(self, configuration: Configuration) -> bool:
        """Have the router read the topics of the sources; returns False while one of them is missing."""
        reads = configuration.sources.topics
        if reads != self._reads:
            topics = [topic for topic in configuration.declared if topic.name in reads]
            missing = _missing_topics(configuration, topics)
            for name in sorted(missing - self._logged_topics):
                log.warning("a topic that a source reads does not exist", topic=name)
            self._logged_topics = missing
            if missing:
                return False
            self._restart()
            self._reads = reads
        return True


class Deliveries:
    """Keeps a forwarder's pipelines up to date with the integrations; create it inside the worker's event loop.

    A pipeline restarts alone if its settings change, stops if its integration is removed, and starts once the topics of
    a new integration exist. `names` are the integrations that the process delivers to, empty for all.
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

    def apply(self, _: Configuration, configuration: Configuration) -> bool:
        """Implement `Apply`."""
        selected = {
            name: integration
            for name, integration in configuration.integrations.items()
            if not self._names or name in self._names
        }
        waiting = without_topics(configuration, selected.keys() - self._running.keys())
        for name, integration in list(self._running.items()):
            if name not in selected or _has_changed(integration, selected[name]):
                self._await(self._worker.remove(name))
                del self._running[name]
                log.info("stopped delivering", integration=name)
        for name in sorted(selected.keys() - self._running.keys() - waiting):
            self._await(self._worker.add(self._make(name, configuration)))
            self._running[name] = selected[name]
            log.info("started delivering", integration=name)
        return not waiting

    def _await(self, step: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(step, self._loop).result()


def without_topics(configuration: Configuration, names: Collection[str]) -> set[str]:
    """Return the integrations whose topics are missing or wrong; all of them while Kafka is not reachable."""
    topics = configuration.topics
    missing = _missing_topics(configuration, topics.of_integrations(names))
    return {name for name in names if missing & {topic.name for topic in topics.of_integrations([name])}}


def _missing_topics(configuration: Configuration, topics: Sequence[Topic]) -> set[str]:
    """Return the names of missing or wrong topics; all of them while Kafka is not reachable."""
    if not topics:
        return set()
    try:
        mismatches = find_mismatches(configuration.settings.broker, topics, 5.0)
    except BrokerError:
        return {topic.name for topic in topics}
    return {mismatch.topic.name for mismatch in mismatches}


def _has_changed(old: Integration, new: Integration) -> bool:
    before, after = ((it.forwarder, it.settings, it.delivery, it.mode) for it in (old, new))
    return before != after
