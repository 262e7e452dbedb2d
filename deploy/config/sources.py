"""Read sources/*.yaml, and the tracking plans that they use."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from deploy.config.diagnostics import Place, hint_at
from deploy.config.environment import UNSET
from deploy.config.event_check import check_created, check_repairs
from deploy.config.known_names import KnownNames
from deploy.config.loss_check import check_losses
from deploy.config.models.source import SourceFile
from deploy.config.plan_check import check_plan
from deploy.config.reading import Reading, dotted, keys_of
from deploy.config.settings import TurnoutSettings
from streams.collector.api import WEBHOOKS
from streams.collector.signatures import make_verify
from streams.consent.policy import ConsentSettings
from streams.sources.source import Source, Sources
from streams.sources.webhooks import WebhookEndpoint
from streams.steps.context import DefaultContext
from streams.steps.enrichment import registry as enrichments
from streams.steps.enrichment.contract import Enrichment
from streams.steps.enrichment.files import SettingError
from streams.steps.enrichment.memory import (
    MEMORY,
    MIN_SECRET_CHARACTERS,
    MemorySettings,
    VisitorMemory,
    make_memory_step,
)
from streams.steps.kinds import Kinds
from streams.steps.plan import Plan, PlanStep
from streams.steps.source_rules import SourceRulesStep
from streams.steps.step import Step
from streams.suppression.filter import Suppression
from transforms import RuleError
from transforms.documents import Document
from transforms.rules import Rules, read_rules

_COLLECTOR_KEYS = {"source", "write_keys", "disabled_keys", "state", "origins", "tests"}
"""Keys of a source's file that do not affect events that the collector has accepted."""


@dataclass(frozen=True, slots=True)
class SourceRules:
    """A source's file with its rules, which are None if it has none."""

    document: Document
    rules: Rules | None


class SourceReader:
    """Reads the sources of a folder.

    `files` and `rules` are those of valid sources, by name; `names` includes invalid sources; `known` are the names in
    events.
    """

    def __init__(self, reading: Reading, suppression: Suppression) -> None:
        self._reading, self._suppression = reading, suppression
        self.files: dict[str, SourceFile] = {}
        self.names: list[str] = []
        self.rules: dict[str, SourceRules] = {}
        self.known = KnownNames.of()
        self._readable_plans: list[Plan] = []
        self._memory = VisitorMemory()
        self._settings: TurnoutSettings | None = None
        self._plans: dict[str, PlanStep | None] = {}

    def read(self, settings: TurnoutSettings | None) -> Sources:
        """Read the plans and then the sources; returns no sources if two contradict each other."""
        self._settings = settings
        for document in self._reading.documents("plans"):
            self._read_plan(document)
        self.known = KnownNames.of(self._readable_plans)
        sources = [self._read_source(document) for document in self._reading.documents("sources")]
        return self._index([source for source in sources if source], settings)

    def _read_source(self, document: Document) -> Source | None:
        self._reading.check_name(document, "source")
        keys = keys_of(document)
        data, unknown = self._reading.fill(
            document, SourceFile, {name: keys[name] for name in keys if name != "enrich"}
        )
        if "enrich" in keys:
            data["enrich"] = keys["enrich"]
        file = self._reading.validate(document, SourceFile, data, (), unknown)
        name = document.data and document.data.get("source")
        if isinstance(name, str):
            self.names.append(name)
        if file is None:
            return None
        self.files[file.source] = file
        self.rules[file.source] = SourceRules(document, None)
        if keys_of(document).keys() - _COLLECTOR_KEYS:
            self._reading.hash.update(document.hash.encode())
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
        data = keys_of(document)
        if not {"map", "rules", "otherwise"} & data.keys():
            return None
        rules, errors = read_rules(document)
        self._reading.errors += errors
        if rules is not None:
            self._reading.errors += check_created(rules, file.kinds or ()) if file.webhook else check_repairs(rules)
            losses = check_losses(rules, self.known, of_events=file.webhook is None)
            self._reading.errors += losses.errors
            self._reading.warnings += losses.warnings
            self.rules[file.source] = SourceRules(document, rules)
        return rules

    def _make_steps(
        self, document: Document, file: SourceFile, kinds: Kinds | None, rules: Rules | None
    ) -> Iterator[Step]:
        """Yield the steps for the source's events, in their order."""
        if kinds:
            yield kinds
        if file.context:
            yield DefaultContext(file.context)
        if rules and not file.webhook:
            yield SourceRulesStep(rules, keep_unmatched="otherwise" not in keys_of(document))
        yield self._suppression
        if plan := self._find_plan(document, file.plan):
            yield plan
        yield from self._make_enrichments(document, file)
        if file.enrich:
            # Enrichments may have normalized an ID, or found another one.
            yield self._suppression

    def _make_enrichments(self, document: Document, file: SourceFile) -> Iterator[Step]:
        for name in file.enrich.keys() - enrichments.names():
            hint = hint_at(name, enrichments.names())
            place = document.where_key("enrich", name)
            self._reading.errors.append(RuleError(f"no enrichment is called {name!r}", hint, *place, document.path))
        for name in enrichments.names():
            if name not in file.enrich:
                continue
            at: Place = ("enrich", name)
            try:
                enrichment = enrichments.find(name)
                written = {} if file.enrich[name] is None else file.enrich[name]
                data, unknown = self._reading.fill(document, enrichment.settings, written, at)
                settings = self._reading.validate(document, enrichment.settings, data, at, unknown)
                if settings is not None and not unknown:
                    yield self._make_enrichment(document, file, enrichment, settings)
                elif self._reading.recorded and unknown:
                    message = f"{dotted(at)} is left out, because its variables are not set here"
                    self._reading.warnings.append(document.error(message, at=at))
            except enrichments.UnknownEnrichmentError as error:
                self._reading.report(document, str(error), at=at)
            except SettingError as error:
                message = f"{dotted((*at, *error.key))}: {error.message}"
                if self._reading.recorded:
                    # The file may have been recorded by its hash alone.
                    self._reading.warnings.append(document.error(message, at=(*at, *error.key)))
                else:
                    self._reading.report(document, message, error.hint, at=(*at, *error.key))

    def _make_enrichment(
        self, document: Document, file: SourceFile, enrichment: Enrichment[Any], settings: Any
    ) -> Step:
        if isinstance(settings, MemorySettings):
            return self._make_memory(document, file, settings)
        return enrichments.make_step(enrichment, settings, self._reading.files)

    def _make_memory(self, document: Document, file: SourceFile, settings: MemorySettings) -> Step:
        at: Place = ("enrich", MEMORY.name)
        if file.topics:
            hint = "send these events to Turnout's collector, or leave out `memory`"
            message = f"{dotted(at)}: the source reads topics of other systems, whose partitions are not those of users"
            self._reading.report(document, message, hint, at=at)
        if self._settings is not None and not self._reading.recorded:
            secret = self._settings.memory.secret
            if secret is None:
                hint = "write `memory: {secret: '${TURNOUT_MEMORY_SECRET}'}` in turnout.yaml"
                self._reading.report(document, f"{dotted(at)}: the memory has no secret", hint, at=at)
            elif secret.get_secret_value() != UNSET and len(secret.get_secret_value()) < MIN_SECRET_CHARACTERS:
                hint = "make one: openssl rand -base64 32"
                message = f"{dotted(at)}: memory.secret has fewer than {MIN_SECRET_CHARACTERS} characters"
                self._reading.report(document, message, hint, at=at)
        consent = self._settings.consent if self._settings else ConsentSettings()
        assume = file.consent.assume if file.consent else None
        return make_memory_step(settings, consent, assume, self._memory)

    def _make_webhook(
        self, document: Document, file: SourceFile, rules: Rules | None, unknown: Collection[Place]
    ) -> WebhookEndpoint | None:
        settings = file.webhook
        if settings is None:
            return None
        if not {"rules", "otherwise"} & keys_of(document).keys():
            self._reading.report(document, "the webhook has no rules that make events", "add `rules:`", at=("webhook",))
        if settings.signature is None and not file.write_keys:
            hint = "add `signature` to it, or `write_keys` to the source"
            self._reading.report(
                document, "webhook: without a signature or write key, anybody could send events", hint, at=("webhook",)
            )
        path = settings.path or WEBHOOKS + file.source
        if rules is None:
            return None
        if settings.signature is None:
            return WebhookEndpoint(path, rules, depth=file.limits.depth)
        place = ("webhook", "signature", "secret")
        try:
            verify = make_verify(settings.signature) if place not in unknown else _never
        except ValueError:
            hint = "write base64 after `whsec_`"
            self._reading.report(document, f"{dotted(place)}: is not valid for the scheme", hint, at=place)
            return None
        return WebhookEndpoint(path, rules, verify, settings.signature.header_name, file.limits.depth)

    def _read_plan(self, document: Document) -> None:
        """Read a plan; an invalid one is stored as None, so that sources that use it do not report it again."""
        self._reading.hash.update(document.hash.encode())
        self._reading.check_name(document, "plan")
        data = keys_of(document)
        plan = self._reading.validate(document, Plan, data)
        errors = list(check_plan(document, plan)) if plan else []
        self._reading.errors += errors
        self._plans[str(data.get("plan"))] = PlanStep(plan) if plan and not errors else None
        if plan and not errors:
            self._readable_plans.append(plan)

    def _find_plan(self, document: Document, name: str | None) -> PlanStep | None:
        if name is None:
            return None
        if name not in self._plans:
            hint = hint_at(name, sorted(self._plans))
            self._reading.report(document, f"no plan is called {name!r}", hint, at=("plan",))
        return self._plans.get(name)

    def _index(self, sources: Sequence[Source], settings: TurnoutSettings | None) -> Sources:
        own = f"{settings.prefix}." if settings else ""
        for source in sources:
            for index, topic in enumerate(source.topics):
                if own and topic.startswith(own):
                    document = self.rules[source.name].document
                    message = f"topics.{index}: {topic} is reserved: topics that begin with {own} are Turnout's own"
                    self._reading.report(document, message, at=("topics", index))
        try:
            return Sources(sources, settings.default_source if settings else None)
        except ValueError as error:
            self._reading.errors.append(RuleError(str(error), path=str(self._reading.folder / "sources")))
            return Sources()


def _never(_body: bytes, _headers: Mapping[bytes, bytes], _now: float) -> bool:
    """Reject every signature, because the secret is not set."""
    return False


def _known(keys: Sequence[SecretStr], name: str, unknown: Collection[Place]) -> Iterator[str]:
    """Return the keys whose variables are set."""
    return (key.get_secret_value() for index, key in enumerate(keys) if (name, index) not in unknown)
