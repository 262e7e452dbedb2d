"""Read integrations/*.yaml."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from deploy.config.diagnostics import hint_at
from deploy.config.known_names import KnownNames
from deploy.config.loss_check import check_losses
from deploy.config.models.integration import IntegrationFile
from deploy.config.payload_check import check_payload
from deploy.config.reading import Reading, keys_of
from deploy.config.sunset import find_sunset
from forwarders import registry
from forwarders.api.contract import Forwarder, Settings
from forwarders.api.extras import find_missing
from streams.consent.policy import Consent, ConsentSettings
from streams.delivery.flow.settings import DeliverySettings
from streams.routing.eligibility import Sample
from streams.routing.ruleset import Route
from streams.topics import Topics
from transforms import RuleError
from transforms.documents import Document
from transforms.rules import Rules, read_rules
from turnout_tracking.optout import names_of


@dataclass(frozen=True, slots=True)
class Integration:
    """An integration's valid file. `settings` is None if one of its variables is not set."""

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
        """Create the forwarder with its settings."""
        return self.forwarder(self.settings)

    def route(self, topics: Topics, *, takes_new: bool = True) -> Route:
        """Return the integration's route, as the router uses it; unless it `takes_new` events, they are blocked."""
        topic, single = topics.forward(self.name), not self.rules.match_all
        names = names_of(self.name, self.forwarder.contract.names)
        return Route(
            self.name,
            topic,
            self.rules.apply,
            single,
            self.sources,
            self.consent,
            self.sample,
            names,
            draining=not takes_new,
            rules=self.rules,
        )


class IntegrationReader:
    """Reads the integrations of a folder.

    `sources` are the names of the folder's sources, `consent` the shared settings, `known` the names in events.
    """

    def __init__(self, reading: Reading, sources: Collection[str], consent: ConsentSettings, known: KnownNames) -> None:
        self._reading, self._sources, self._consent, self._known = reading, list(sources), consent, known

    def read(self) -> dict[str, Integration]:
        """Return the valid integrations, by name."""
        read = [self._read_integration(document) for document in self._reading.documents("integrations")]
        return {integration.name: integration for integration in read if integration}

    def _read_integration(self, document: Document) -> Integration | None:
        before = len(self._reading.errors)
        data = keys_of(document)
        self._reading.check_name(document, "integration")
        file = self._reading.validate(document, IntegrationFile, data)
        self._check_sources(document, data.get("sources"))
        forwarder = self._find_forwarder(document, data.get("forwarder"))
        settings = None
        if forwarder and not self._reading.recorded:
            settings = self._read_forwarder_settings(document, forwarder, data.get("settings", {}))
            today = datetime.now(UTC).date()
            if ending := find_sunset(document, forwarder.contract, data.get("settings"), today):
                self._reading.warnings.append(ending)
            self._check_libraries(document, forwarder, data.get("settings"))
        rules = self._read_rules(document, forwarder)
        if len(self._reading.errors) > before or not (file and forwarder and rules):
            return None
        return Integration(
            document,
            file.integration,
            forwarder,
            settings,
            rules,
            frozenset(file.sources) if file.sources else None,
            file.consent.filter(self._consent) if file.consent else None,
            file.sample.filter if file.sample else None,
            file.state,
            file.delivery,
            file.mode,
        )

    def _check_sources(self, document: Document, names: object) -> None:
        for index, name in enumerate(names if isinstance(names, list) else ()):
            if isinstance(name, str) and name not in self._sources:
                hint = hint_at(name, self._sources)
                self._reading.report(document, f"no source is called {name!r}", hint, at=("sources", index))

    def _check_libraries(self, document: Document, forwarder: type[Forwarder[Any]], settings: object) -> None:
        """Warn about missing libraries; no error, because the collector, the router and `check` do not need them."""
        missing = find_missing(forwarder.required_modules(settings if isinstance(settings, dict) else {}))
        if missing:
            module, hint = missing
            message = f"{forwarder.contract.name} needs {module}, which is not installed here"
            self._reading.warnings.append(document.error(message, hint, at=("forwarder",)))

    def _find_forwarder(self, document: Document, name: object) -> type[Forwarder[Any]] | None:
        try:
            return registry.find(name) if isinstance(name, str) else None
        except registry.UnknownForwarderError as error:
            self._reading.report(document, str(error), at=("forwarder",))
            return None

    def _read_forwarder_settings(
        self, document: Document, forwarder: type[Forwarder[Any]], data: object
    ) -> Settings | None:
        model = forwarder.contract.settings
        filled, unknown = self._reading.fill(document, model, data, ("settings",))
        return (
            self._reading.validate(document, model, filled, ("settings",), unknown)
            if isinstance(filled, dict)
            else None
        )

    def _read_rules(self, document: Document, forwarder: type[Forwarder[Any]] | None) -> Rules | None:
        preset = self._find_preset(document, forwarder)
        for rule_file in (document, preset) if preset else (document,):
            self._reading.hash.update(rule_file.hash.encode())
        if not {"preset", "rules", "otherwise"} & keys_of(document).keys():
            self._reading.report(document, "the file has no rules", "add `rules:`, or a `preset:`")
        rules, errors = read_rules(document, preset=preset)
        self._reading.errors += errors
        if rules and forwarder:
            findings = check_payload(rules, forwarder.contract)
            losses = check_losses(rules, self._known)
            warned = {(it.path, it.line, it.column) for it in findings.warnings}
            self._reading.errors += [*findings.errors, *losses.errors]
            self._reading.warnings += findings.warnings
            self._reading.warnings += [it for it in losses.warnings if (it.path, it.line, it.column) not in warned]
        return rules

    def _find_preset(self, document: Document, forwarder: type[Forwarder[Any]] | None) -> Document | None:
        name = keys_of(document).get("preset")
        if not (forwarder and isinstance(name, str)):
            return None
        recorded, found = self._reading.recorded, forwarder.preset()
        if recorded and name in recorded.presets:
            return Document.parse(recorded.presets[name], str(found or f"{name}.yaml"))
        if name == forwarder.contract.name and found is not None:
            try:
                preset = self._reading.presets[name] = Document.parse(found.read_bytes(), str(found))
            except RuleError as error:
                self._reading.errors.append(error)
                return None
            return preset
        hint = f"write {forwarder.contract.name!r}" if found else f"{forwarder.contract.name} has no preset"
        self._reading.report(document, f"no preset {name!r} for this forwarder", hint, at=("preset",))
        return None
