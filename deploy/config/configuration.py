"""Reads a configuration folder: turnout.yaml, sources/*.yaml, integrations/*.yaml."""

import hashlib
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_settings import SettingsError

from deploy.config.environment import REFERENCE, fill, find_texts, is_reference
from deploy.config.event_check import check_made, check_repairs
from deploy.config.files import IntegrationFile, SourceFile
from deploy.config.mistakes import WANTS_MORE, Complaint, Place, find_complaints, find_secrets, hint_at
from deploy.config.payload_check import check_payload
from deploy.config.plan_check import check_plan
from deploy.config.settings import TurnoutSettings, variable
from deploy.config.sunset import find_ending
from forwarders import registry
from forwarders.contract import Forwarder, Settings
from streams.admission import DefaultContext, Kinds
from streams.collector.settings import WEBHOOKS
from streams.collector.signatures import make_verify
from streams.consent import Consent, ConsentSettings
from streams.enrichment import registry as enrichments
from streams.enrichment.files import Files, SettingError, Stamp
from streams.plans import Plan, PlanStep
from streams.repair import Repair
from streams.ruleset import Route, RuleSet, Sample
from streams.settings import DeliverySettings
from streams.sources import Source, Sources
from streams.steps import Step
from streams.suppression import SuppressedUsers, Suppression, SuppressionSettings, read_ids
from streams.topics import Topic, Topics
from streams.webhooks import Webhook
from transforms import RuleError
from transforms.documents import Document
from transforms.rules import Rules, read_rules

Model = TypeVar("Model", bound=BaseModel)

DataFiles = Mapping[Path, Stamp | None]
"""Files that a folder names, and that enrichments read, as they were."""

_OF_THE_COLLECTOR = {"source", "write_keys", "disabled_keys", "state", "origins", "limits", "tests"}
"""Keys of a source's file that change nothing of what becomes of an event once it was taken."""


class ConfigurationError(Exception):
    """A folder that cannot be used; `mistakes` are all of them, in the order of the files."""

    def __init__(self, mistakes: Sequence[RuleError], data_files: DataFiles | None = None) -> None:
        super().__init__("\n".join(map(str, mistakes)))
        self.mistakes = mistakes
        self.data_files = data_files or {}


@dataclass(frozen=True, slots=True)
class Unset:
    """An environment variable that a file names and that is not set."""

    variable: str
    error: RuleError


@dataclass(frozen=True, slots=True)
class Integration:
    """One integration's file, read and checked. `settings` may be None where a variable that it names is not set."""

    document: Document
    name: str
    forwarder: type[Forwarder[Any]]
    settings: Settings | None
    rules: Rules
    sources: frozenset[str] | None
    consent: Consent | None
    sample: Sample | None
    state: Literal["active", "draining"]
    delivery: DeliverySettings
    mode: Literal["live", "shadow"] = "live"

    def make(self) -> Forwarder[Any]:
        """The forwarder with its settings."""
        return self.forwarder(self.settings)

    def route(self, topics: Topics) -> Route:
        """The integration as the router sees it."""
        topic, single = topics.forward(self.name), not self.rules.match_all
        return Route(self.name, topic, self.rules.apply, single, self.sources, self.consent, self.sample)


@dataclass(frozen=True, slots=True)
class SourceRules:
    """A source's file with its rules; None where it has none."""

    document: Document
    rules: Rules | None


@dataclass(frozen=True, slots=True)
class Configuration:
    """A folder without mistakes.

    `version` is a hash of the rule files, their presets and the plans. `source_rules` has each source's file, by the
    source's name. `unset` names the variables that a worker will want; `warnings` are about what is probably not meant.
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

    @property
    def topics(self) -> Topics:
        """The topics of this environment."""
        return self.settings.topics

    @property
    def declared(self) -> Sequence[Topic]:
        """Every topic that this folder needs."""
        return self.topics.declared(self.integrations, self.sources.topics)

    def rule_set(self, without: Collection[str] = ()) -> RuleSet:
        """What the router works by; an integration that is draining, or one of `without`, has no route."""
        active = [it for it in self.integrations.values() if it.state == "active" and it.name not in without]
        routes = [it.route(self.topics) for it in active]
        return RuleSet(self.version, self.sources, tuple(routes))


def read_configuration(folder: Path) -> Configuration:
    """Read and check a folder; raises ConfigurationError with every mistake in it."""
    return _Reader(folder).read()


class _Reader:
    """Reads one folder, and gathers its mistakes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mistakes: list[RuleError] = []
        self.unset: list[Unset] = []
        self.warnings: list[RuleError] = []
        self.hash = hashlib.sha256()
        self.source_files: dict[str, SourceFile] = {}
        self.source_names: list[str] = []
        self.source_rules: dict[str, SourceRules] = {}
        self.plans: dict[str, PlanStep | None] = {}
        self.files = Files(folder)
        self.suppression = Suppression(SuppressedUsers())

    def read(self) -> Configuration:
        if not self.folder.is_dir():
            raise ConfigurationError([RuleError("there is no such folder", path=str(self.folder))])
        settings = self._read_settings()
        for document in self._documents("plans"):
            self._read_plan(document)
        sources = [self._read_source(document) for document in self._documents("sources")]
        consent = settings.consent if settings else ConsentSettings()
        integrations = [self._read_integration(document, consent) for document in self._documents("integrations")]
        index = self._index([source for source in sources if source], settings)
        if self.mistakes or settings is None:
            raise ConfigurationError(self._sorted_mistakes(), self.files.used)
        return Configuration(
            self.folder,
            settings,
            self.source_files,
            index,
            {integration.name: integration for integration in integrations if integration},
            self.hash.hexdigest()[:12],
            self.suppression,
            self.source_rules,
            tuple(self.unset),
            tuple(self.warnings),
            self.files.used,
        )

    def _sorted_mistakes(self) -> list[RuleError]:
        """By line and column, and the files in the order they were read in."""
        files = list(dict.fromkeys(mistake.path for mistake in self.mistakes))
        return sorted(self.mistakes, key=lambda it: (files.index(it.path), it.line or 0, it.column or 0))

    def _documents(self, kind: str) -> Iterator[Document]:
        """The YAML files of a folder in the order of their names; what tests a file (`*.test.yaml`) is none of them."""
        for path in sorted((self.folder / kind).glob("*")):
            if path.suffix == ".yml":
                self.mistakes.append(RuleError("is not read", "name it .yaml", path=str(path)))
            elif path.suffix == ".yaml" and not path.name.endswith(".test.yaml"):
                try:
                    document = Document.read(path)
                    self._keys(document)
                except RuleError as mistake:
                    self.mistakes.append(mistake)
                else:
                    yield document

    def _keys(self, document: Document) -> dict[str, Any]:
        if document.data is None:
            return {}
        if not isinstance(document.data, dict):
            raise document.error("the file is not a mapping", "write `key: value` lines")
        return document.data

    def _read_settings(self) -> TurnoutSettings | None:
        try:
            document = Document.read(self.folder / "turnout.yaml")
            # A key with all its lines commented out means its defaults.
            data = {key: value for key, value in self._keys(document).items() if value is not None}
        except RuleError as mistake:
            self.mistakes.append(mistake)
            return None
        data, unknown = self._fill(document, TurnoutSettings, data)
        try:
            settings = TurnoutSettings(**data)
        except SettingsError as error:
            self.mistakes.append(RuleError(f"cannot be read: {error.__cause__ or error}", path="environment"))
        except ValidationError as error:
            for complaint in find_complaints(error, TurnoutSettings):
                if complaint.place not in unknown:
                    self.mistakes.append(_from_environment(complaint) or complaint.within(document))
        else:
            self.suppression = self._make_suppression(document, settings.suppression)
            return settings
        return None

    def _make_suppression(self, document: Document, settings: SuppressionSettings) -> Suppression:
        users, ids = SuppressedUsers(settings.secret), frozenset[str]()
        if settings.file:
            try:
                ids = self.files.read(settings.file, ("suppression", "file"), read_ids)
            except SettingError as error:
                message = f"{_dotted(error.key)}: {error.message}"
                self.mistakes.append(document.error(message, error.hint, at=error.key))
        return Suppression(users, ids)

    def _read_source(self, document: Document) -> Source | None:
        self._check_name(document, "source")
        keys = self._keys(document)
        data, unknown = self._fill(document, SourceFile, {name: keys[name] for name in keys if name != "enrich"})
        if "enrich" in keys:
            data["enrich"] = keys["enrich"]
        file = self._validate(document, SourceFile, data, (), unknown)
        name = document.data and document.data.get("source")
        if isinstance(name, str):
            self.source_names.append(name)
        if file is None:
            return None
        self.source_files[file.source] = file
        self.source_rules[file.source] = SourceRules(document, None)
        if self._keys(document).keys() - _OF_THE_COLLECTOR:
            self.hash.update(document.hash.encode())
        kinds = Kinds(frozenset(file.kinds)) if file.kinds else None
        rules = self._read_source_rules(document, file)
        return Source.of(
            file.source,
            _known(file.write_keys, "write_keys", unknown),
            self._make_steps(document, file, kinds, rules),
            file.origins,
            disabled_keys=_known(file.disabled_keys, "disabled_keys", unknown),
            disabled=file.state == "disabled",
            kinds=kinds,
            limits=file.limits,
            assume=file.consent.assume if file.consent else None,
            webhook=self._make_webhook(document, file, rules, unknown),
            topics=file.topics,
        )

    def _read_source_rules(self, document: Document, file: SourceFile) -> Rules | None:
        data = self._keys(document)
        if not {"map", "rules", "otherwise"} & data.keys():
            return None
        rules, mistakes = read_rules(document)
        self.mistakes += mistakes
        if rules is not None:
            self.mistakes += check_made(rules, file.kinds or ()) if file.webhook else check_repairs(rules)
            self.source_rules[file.source] = SourceRules(document, rules)
        return rules

    def _make_steps(
        self, document: Document, file: SourceFile, kinds: Kinds | None, rules: Rules | None
    ) -> Iterator[Step]:
        """What the source's events go through, in this order."""
        if kinds:
            yield kinds
        if file.context:
            yield DefaultContext(file.context)
        if rules and not file.webhook:
            yield Repair(rules, keeps_others="otherwise" not in self._keys(document))
        yield self.suppression
        if plan := self._find_plan(document, file.plan):
            yield plan
        yield from self._make_enrichments(document, file)

    def _make_enrichments(self, document: Document, file: SourceFile) -> Iterator[Step]:
        for name in file.enrich.keys() - enrichments.names():
            hint = hint_at(name, enrichments.names())
            place = document.where_key("enrich", name)
            self.mistakes.append(RuleError(f"no enrichment is called {name!r}", hint, *place, document.path))
        for name in enrichments.names():
            if name not in file.enrich:
                continue
            at: Place = ("enrich", name)
            try:
                enrichment = enrichments.find(name)
                written = {} if file.enrich[name] is None else file.enrich[name]
                data, unknown = self._fill(document, enrichment.settings, written, at)
                settings = self._validate(document, enrichment.settings, data, at, unknown)
                if settings is not None and not unknown:
                    yield enrichments.make_step(enrichment, settings, self.files)
            except enrichments.UnknownEnrichmentError as error:
                self.mistakes.append(document.error(str(error), at=at))
            except SettingError as error:
                message = f"{_dotted((*at, *error.key))}: {error.message}"
                self.mistakes.append(document.error(message, error.hint, at=(*at, *error.key)))

    def _make_webhook(
        self, document: Document, file: SourceFile, rules: Rules | None, unknown: Collection[Place]
    ) -> Webhook | None:
        settings = file.webhook
        if settings is None:
            return None
        if not {"rules", "otherwise"} & self._keys(document).keys():
            self.mistakes.append(document.error("nothing says which events to make", "write `rules:`", at=("webhook",)))
        if settings.signature is None and not file.write_keys:
            hint = "give its `signature`, or the source `write_keys`"
            self.mistakes.append(document.error("webhook: anybody could post here", hint, at=("webhook",)))
        path = settings.path or WEBHOOKS + file.source
        if rules is None:
            return None
        if settings.signature is None:
            return Webhook(path, rules)
        place = ("webhook", "signature", "secret")
        try:
            verify = make_verify(settings.signature) if place not in unknown else _never
        except ValueError:
            hint = "after `whsec_` it is base64"
            self.mistakes.append(document.error(f"{_dotted(place)}: is not what the scheme wants", hint, at=place))
            return None
        return Webhook(path, rules, verify, settings.signature.header_name)

    def _read_plan(self, document: Document) -> None:
        """A plan; None stands for one with mistakes, so that no source complains of it too."""
        self.hash.update(document.hash.encode())
        self._check_name(document, "plan")
        data = self._keys(document)
        plan = self._validate(document, Plan, data)
        mistakes = list(check_plan(document, plan)) if plan else []
        self.mistakes += mistakes
        self.plans[str(data.get("plan"))] = PlanStep(plan) if plan and not mistakes else None

    def _find_plan(self, document: Document, name: str | None) -> PlanStep | None:
        if name is None:
            return None
        if name not in self.plans:
            hint = hint_at(name, sorted(self.plans))
            self.mistakes.append(document.error(f"no plan is called {name!r}", hint, at=("plan",)))
        return self.plans.get(name)

    def _index(self, sources: Sequence[Source], settings: TurnoutSettings | None) -> Sources:
        own = f"{settings.prefix}." if settings else ""
        for source in sources:
            for index, topic in enumerate(source.topics):
                if own and topic.startswith(own):
                    document = self.source_rules[source.name].document
                    message = f"topics.{index}: {topic} would be one of Turnout's own, which begin with {own}"
                    self.mistakes.append(document.error(message, at=("topics", index)))
        try:
            return Sources(sources, settings.default_source if settings else None)
        except ValueError as error:
            self.mistakes.append(RuleError(str(error), path=str(self.folder / "sources")))
            return Sources()

    def _read_integration(self, document: Document, consent: ConsentSettings) -> Integration | None:
        before = len(self.mistakes)
        data = self._keys(document)
        self._check_name(document, "integration")
        file = self._validate(document, IntegrationFile, data)
        self._check_sources(document, data.get("sources"))
        forwarder = self._find_forwarder(document, data.get("forwarder"))
        settings = self._read_forwarder_settings(document, forwarder, data.get("settings", {})) if forwarder else None
        if forwarder and (
            ending := find_ending(document, forwarder.contract, data.get("settings"), datetime.now(UTC).date())
        ):
            self.warnings.append(ending)
        rules = self._read_rules(document, forwarder)
        if len(self.mistakes) > before or not (file and forwarder and rules):
            return None
        return Integration(
            document,
            file.integration,
            forwarder,
            settings,
            rules,
            frozenset(file.sources) if file.sources else None,
            file.consent.filter(consent) if file.consent else None,
            file.sample.filter if file.sample else None,
            file.state,
            file.delivery,
            file.mode,
        )

    def _check_name(self, document: Document, key: str) -> None:
        stem = Path(document.path).stem
        name = self._keys(document).get(key)
        if isinstance(name, str) and name != stem:
            self.mistakes.append(
                document.error(f"{key}: the name {name!r} is not that of the file", f"write {stem!r}", at=(key,))
            )

    def _check_sources(self, document: Document, names: object) -> None:
        for index, name in enumerate(names if isinstance(names, list) else ()):
            if isinstance(name, str) and name not in self.source_names:
                hint = hint_at(name, self.source_names)
                self.mistakes.append(document.error(f"no source is called {name!r}", hint, at=("sources", index)))

    def _find_forwarder(self, document: Document, name: object) -> type[Forwarder[Any]] | None:
        try:
            return registry.find(name) if isinstance(name, str) else None
        except registry.UnknownForwarderError as error:
            self.mistakes.append(document.error(str(error), at=("forwarder",)))
            return None

    def _read_forwarder_settings(
        self, document: Document, forwarder: type[Forwarder[Any]], data: object
    ) -> Settings | None:
        model = forwarder.contract.settings
        filled, unknown = self._fill(document, model, data, ("settings",))
        return self._validate(document, model, filled, ("settings",), unknown) if isinstance(filled, dict) else None

    def _read_rules(self, document: Document, forwarder: type[Forwarder[Any]] | None) -> Rules | None:
        preset = self._find_preset(document, forwarder)
        for rule_file in (document, preset) if preset else (document,):
            self.hash.update(rule_file.hash.encode())
        if not {"preset", "rules", "otherwise"} & self._keys(document).keys():
            self.mistakes.append(document.error("nothing says what to send", "write `rules:`, or take a `preset:`"))
        rules, mistakes = read_rules(document, preset=preset)
        self.mistakes += mistakes
        if rules and forwarder:
            findings = check_payload(rules, forwarder.contract)
            self.mistakes += findings.mistakes
            self.warnings += findings.warnings
        return rules

    def _find_preset(self, document: Document, forwarder: type[Forwarder[Any]] | None) -> Document | None:
        name = self._keys(document).get("preset")
        if not (forwarder and isinstance(name, str)):
            return None
        found = forwarder.preset()
        if name == forwarder.contract.name and found is not None:
            try:
                return Document.parse(found.read_bytes(), str(found))
            except RuleError as mistake:
                self.mistakes.append(mistake)
                return None
        hint = f"write {forwarder.contract.name!r}" if found else f"{forwarder.contract.name} brings none along"
        self.mistakes.append(document.error(f"no preset {name!r} for this forwarder", hint, at=("preset",)))
        return None

    def _fill(self, document: Document, model: type[BaseModel], data: Any, at: Place = ()) -> tuple[Any, set[Place]]:
        """The data at `at` with its variables replaced, and the places whose real value is not known.

        A secret must come from a variable. In a forwarder's settings anything may, elsewhere only a secret.
        """
        unknown: set[Place] = set()
        texts = dict(find_texts(data, at))
        secrets = set(find_secrets(model, data, at))
        for place in secrets:
            if not is_reference(texts.get(place)):
                *_, key = [step for step in place if isinstance(step, str)]
                name = f"{Path(document.path).stem}_{key}".replace("-", "_").upper()
                hint = f"set it in the environment, and write '${{{name}}}'"
                self.mistakes.append(document.error(f"{_dotted(place)}: a secret is written out", hint, at=place))
                unknown.add(place)
        for place in texts.keys() - secrets:
            if REFERENCE.search(texts[place]) and not (at and is_reference(texts[place])):
                hint = "it is where it is the whole value" if at else "only secrets are"
                if model is TurnoutSettings:
                    hint = f"set {variable(place)} in the environment"
                self.mistakes.append(document.error(f"{_dotted(place)}: `${{…}}` is not replaced here", hint, at=place))
                unknown.add(place)
        unset: dict[Place, str] = {}
        filled = fill(data, unset, at)
        self.unset += [
            Unset(name, document.error(f"the environment variable {name} is not set", at=place))
            for place, name in unset.items()
        ]
        return filled, unknown | unset.keys()

    def _validate(
        self, document: Document, model: type[Model], data: Any, at: Place = (), unknown: Collection[Place] = ()
    ) -> Model | None:
        """The data as a model, None when that complains. About a value that is not known, few complaints count."""
        try:
            return model.model_validate(data)
        except ValidationError as error:
            for complaint in find_complaints(error, model, at, data):
                if complaint.kind in WANTS_MORE or not any(_touch(complaint.place, place) for place in unknown):
                    self.mistakes.append(complaint.within(document))
            return None


def _never(_body: bytes, _headers: Mapping[bytes, bytes], _now: float) -> bool:
    """The check of signatures whose secret is not set."""
    return False


def _known(keys: Sequence[SecretStr], name: str, unknown: Collection[Place]) -> Iterator[str]:
    """The keys whose variables are set."""
    return (key.get_secret_value() for index, key in enumerate(keys) if (name, index) not in unknown)


def _dotted(place: Place) -> str:
    return ".".join(map(str, place))


def _touch(one: Place, other: Place) -> bool:
    """Whether one place lies within the other."""
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


def _from_environment(complaint: Complaint) -> RuleError | None:
    """The complaint as one about an environment variable, where the value came from there."""
    for length in range(len(complaint.place), 0, -1):
        name = variable(complaint.place[:length])
        if name in os.environ:
            return RuleError(complaint.message, complaint.hint, path=name)
    return None
