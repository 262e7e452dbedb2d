"""Read a configuration folder: turnout.yaml, sources/*.yaml, integrations/*.yaml."""

import hashlib
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError
from pydantic_settings import SettingsError

from deploy.config.diagnostics import Issue, find_issues
from deploy.config.integrations import Integration, IntegrationReader
from deploy.config.models.source import SourceFile
from deploy.config.reading import Reading, Recorded, Unset, dotted, keys_of
from deploy.config.settings import TurnoutSettings, variable
from deploy.config.sources import SourceReader, SourceRules
from streams.consent.policy import ConsentSettings
from streams.records.memory import MemoryCipher
from streams.routing.ruleset import RuleSet
from streams.sources.source import Sources
from streams.steps.enrichment.files import SettingError, Stamp
from streams.suppression.filter import SuppressedUsers, Suppression, SuppressionSettings, read_ids
from streams.topics import PARKED_RETENTIONS, Topic, Topics
from transforms import RuleError
from transforms.documents import Document

DataFiles = Mapping[Path, Stamp | None]
"""Files that a configuration refers to, such as those of enrichments, with their stamps when they were read."""


LONG_RETENTION_DAYS = 30
"""Days beyond which a retention leads to a warning."""


class ConfigurationError(Exception):
    """A configuration folder is invalid; `errors` lists every error in the order of the files."""

    def __init__(self, errors: Sequence[RuleError], data_files: DataFiles | None = None) -> None:
        super().__init__("\n".join(map(str, errors)))
        self.errors = errors
        self.data_files = data_files or {}


@dataclass(frozen=True, slots=True)
class Configuration:
    """A valid configuration folder.

    `version` is a hash of everything that affects decisions: the rule files, their presets, the plans, the files that
    enrichments read, and `deciding_settings`. `source_rules` maps each source's name to its file. `unset` lists the
    unset variables that a worker needs; `warnings` are probable errors. `documents` and `presets` are the files that
    were read, `digests` the SHA-256 of the files that enrichments read.
    """

    folder: Path
    settings: TurnoutSettings
    source_files: Mapping[str, SourceFile]
    sources: Sources
    integrations: Mapping[str, Integration]
    version: str
    suppression: Suppression
    source_rules: Mapping[str, SourceRules] = field(default_factory=dict)
    unset: Sequence[Unset] = field(default_factory=tuple)
    warnings: Sequence[RuleError] = field(default_factory=tuple)
    data_files: DataFiles = field(default_factory=dict)
    documents: Sequence[Document] = ()
    presets: Mapping[str, Document] = field(default_factory=dict)
    digests: Mapping[Path, str] = field(default_factory=dict)

    @property
    def topics(self) -> Topics:
        """The topics of this environment."""
        return self.settings.topics

    @property
    def declared(self) -> Sequence[Topic]:
        """Every topic that this folder needs."""
        memory_days = self.settings.memory.days if self.sources.memory is not None else None
        return self.topics.declared(self.integrations, self.sources.topics, memory_days)

    @property
    def memory_cipher(self) -> MemoryCipher | None:
        """The cipher of the enrichment `memory`; None if no source has it."""
        secret = self.settings.memory.secret
        return MemoryCipher(secret.get_secret_value()) if secret and self.sources.memory is not None else None

    def rule_set(self, without: Collection[str] = ()) -> RuleSet:
        """Return the rules for the router; integrations in `without` get no route."""
        routes = [
            it.route(self.topics, takes_new=it.state == "active")
            for it in self.integrations.values()
            if it.name not in without
        ]
        return RuleSet(self.version_without(without), self.sources, tuple(routes), self.sources.memory)

    def version_without(self, names: Collection[str]) -> str:
        """Return the version of the rules without some integrations; a version always means the same integrations."""
        if not names:
            return self.version
        return hashlib.sha256(f"{self.version} without {' '.join(sorted(names))}".encode()).hexdigest()[:12]


def read_configuration(
    folder: Path, drafts: Mapping[Path, str] | None = None, only: Path | None = None
) -> Configuration:
    """Read and check a configuration folder; raises ConfigurationError with every error in it.

    Args:
        folder: The folder.
        drafts: Texts that replace the content of files in plans/, sources/ and integrations/.
        only: The file of the only integration to read; the version is then that of a folder without other integrations.

    """
    return _FolderReader(Reading(folder, drafts=drafts, only=only)).read()


def read_recorded(folder: Path, recorded: Recorded) -> Configuration:
    """Read a folder of recorded rules as when they were recorded; raises ConfigurationError."""
    return _FolderReader(Reading(folder, recorded)).read()


def deciding_settings(settings: TurnoutSettings) -> dict[str, Any]:
    """Return the settings of turnout.yaml that affect decisions, as JSON data."""
    return settings.model_dump(mode="json", include={"default_source", "consent"})


class _FolderReader:
    """Reads one configuration folder."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._suppression = Suppression(SuppressedUsers())

    def read(self) -> Configuration:
        reading = self._reading
        if not reading.folder.is_dir():
            raise ConfigurationError([RuleError("the folder does not exist", path=str(reading.folder))])
        folder = reading.folder / "sources"
        recorded = reading.recorded
        settings = recorded.settings if recorded else self._read_settings()
        sources = SourceReader(reading, self._suppression)
        index = sources.read(settings)
        consent = settings.consent if settings else ConsentSettings()
        integrations = IntegrationReader(reading, sources.names, consent, sources.known).read()
        if not sources.names:
            hint = "add sources/NAME.yaml with a write key"
            reading.warnings.append(RuleError("no sources, so that no events are accepted", hint, path=str(folder)))
        if reading.errors or settings is None:
            raise ConfigurationError(self._sorted_errors(), reading.files.used)
        digests = {name: digest for name, digest in reading.files.digests.items() if name != settings.suppression.file}
        for name in sorted(digests):
            reading.hash.update(digests[name].encode())
        reading.hash.update(orjson.dumps(deciding_settings(settings), option=orjson.OPT_SORT_KEYS))
        return Configuration(
            reading.folder,
            settings,
            sources.files,
            index,
            integrations,
            reading.hash.hexdigest()[:12],
            self._suppression,
            sources.rules,
            tuple(reading.unset),
            tuple(reading.warnings),
            reading.files.used,
            tuple(reading.read),
            reading.presets,
            digests,
        )

    def _sorted_errors(self) -> list[RuleError]:
        """Return the errors by line and column, with the files in the order in which they were read."""
        files = list(dict.fromkeys(error.path for error in self._reading.errors))
        return sorted(self._reading.errors, key=lambda it: (files.index(it.path), it.line or 0, it.column or 0))

    def _read_settings(self) -> TurnoutSettings | None:
        try:
            document = Document.read(self._reading.folder / "turnout.yaml")
            # A key whose lines are all commented out means its defaults.
            data = {key: value for key, value in keys_of(document).items() if value is not None}
        except RuleError as error:
            self._reading.errors.append(error)
            return None
        data, unknown = self._reading.fill(document, TurnoutSettings, data)
        try:
            settings = TurnoutSettings(**data)
        except SettingsError as error:
            self._reading.errors.append(RuleError(f"cannot be read: {error.__cause__ or error}", path="environment"))
        except ValidationError as error:
            for issue in find_issues(error, TurnoutSettings):
                if issue.place not in unknown:
                    self._reading.errors.append(_from_environment(issue) or issue.within(document))
        else:
            self._suppression = self._make_suppression(document, settings.suppression)
            self._check_retention(document, settings)
            return settings
        return None

    def _check_retention(self, document: Document, settings: TurnoutSettings) -> None:
        """Warn about personal data that is kept for a long time."""
        parked = PARKED_RETENTIONS * settings.retention_days
        for place, longest, what in (
            (("retention_days",), settings.retention_days, "events"),
            (("retention_days",), parked, "dead letters and rejected events"),
            (("ledger", "retention_days"), settings.ledger.retention_days or 0, "events"),
        ):
            if longest > LONG_RETENTION_DAYS:
                message = f"{dotted(place)}: {what} are kept for {longest} days"
                hint = f"personal data should be kept no longer than needed; up to {LONG_RETENTION_DAYS} days are usual"
                self._reading.warnings.append(document.error(message, hint, at=place))

    def _make_suppression(self, document: Document, settings: SuppressionSettings) -> Suppression:
        users, ids = SuppressedUsers(settings.secret), frozenset[str]()
        if settings.file:
            try:
                ids = self._reading.files.read(settings.file, ("suppression", "file"), read_ids)
            except SettingError as error:
                message = f"{dotted(error.key)}: {error.message}"
                self._reading.report(document, message, error.hint, at=error.key)
        return Suppression(users, ids)


def _from_environment(issue: Issue) -> RuleError | None:
    """Return an error about the environment variable if the value came from one."""
    for length in range(len(issue.place), 0, -1):
        name = variable(issue.place[:length])
        if name in os.environ:
            return RuleError(issue.message, issue.hint, path=name)
    return None
