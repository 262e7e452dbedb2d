"""Golden requests: the requests that a forwarder builds from the usual events with its preset.

A forwarder's folder has the forwarder's name. Its file `forwarder.yaml` lists valid and invalid settings, invalid
payloads, and responses with their results. One file per usual event, `NAME.yaml`, contains the expected outcome of each
variant of the event, and may override the event or the settings. The usual events are in `events.yaml` beside this
module.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NoReturn

import yaml

from forwarders import registry
from forwarders.api.contract import Delivery, Forwarder, HttpForwarder, WriterForwarder
from streams.events import normalize
from transforms import DROP, Failure, RuleError, Rules, read_rules
from transforms.documents import Document

DESCRIPTION: Final = "forwarder.yaml"
KEYS: Final = (
    "settings",
    "valid_settings",
    "invalid_settings",
    "events",
    "vendor_limits",
    "invalid_payloads",
    "responses",
)
"""The keys of a description."""

RENAMED_KEYS: Final[Mapping[str, str]] = {
    "accepted": "valid_settings",
    "answers": "responses",
    "most": "vendor_limits",
    "refused": "invalid_settings",
    "refused_payloads": "invalid_payloads",
    "says": "error",
}
"""Old keys of a description and of its rows, and the keys that replace them."""

EVENTS: Final[Mapping[str, Mapping[str, Any]]] = Document.read(Path(__file__).parent / "events.yaml").data
"""The usual events, each in the variants `smallest` and `everything`."""


@dataclass(frozen=True, slots=True)
class GoldenCase:
    """One expected outcome, and its event."""

    path: Path
    variant: str
    written: Mapping[str, Any]
    event: Mapping[str, Any]

    @property
    def given(self) -> dict[str, Any]:
        """Return the event and the settings that the file overrides."""
        return {key: self.written[key] for key in ("settings", "event") if key in self.written}

    @property
    def name(self) -> str:
        """Return the name of the case, such as `order-completed-smallest`."""
        return f"{self.path.stem}-{self.variant}"


class Golden:
    """The folder of one forwarder. Raises RuleError for errors in its files."""

    def __init__(self, folder: Path, forwarder: type[Forwarder[Any]] | None = None) -> None:
        self.folder, self.name = folder, folder.name
        self.forwarder = forwarder or registry.find(folder.name)

    @cached_property
    def description(self) -> Mapping[str, Any]:
        """Return the content of `forwarder.yaml`; raises RuleError."""
        document = Document.read(self.folder / DESCRIPTION)
        data = document.data
        if not isinstance(data, dict) or not isinstance(data.get("settings"), dict):
            raise document.error("settings: a mapping of settings that make a forwarder is missing")
        for key in data:
            if key not in KEYS:
                self._refuse_key(document, key)
        for key in ("invalid_settings", "invalid_payloads"):
            for index, row in enumerate(data.get(key) or ()):
                if "says" in row:
                    self._refuse_key(document, key, index, "says")
        return data

    @staticmethod
    def _refuse_key(document: Document, *keys: str | int) -> NoReturn:
        name = str(keys[-1])
        new = RENAMED_KEYS.get(name)
        message = f"{name} was renamed to {new}" if new else f"unknown key {name!r}"
        hint = None if new else f"known: {', '.join(KEYS)}"
        raise RuleError(message, hint, *document.where_key(*keys), document.path)

    @cached_property
    def preset(self) -> Rules:
        """Return the compiled rules of the forwarder's preset; raises RuleError if it is missing or invalid."""
        file = self.forwarder.preset()
        if file is None:
            raise RuleError("the forwarder has no preset", f"write presets/{self.name}.yaml beside the module")
        rules, errors = read_rules(Document.parse(file.read_bytes(), f"{self.name}.yaml"))
        if rules is None:
            raise errors[0]
        return rules

    @cached_property
    def cases(self) -> Sequence[GoldenCase]:
        """Return every expected outcome."""
        return [
            GoldenCase(path, variant, written, written.get("event") or EVENTS[path.stem][variant])
            for path in sorted(self.folder.glob("*.yaml"))
            if path.name != DESCRIPTION
            for variant, written in Document.read(path).data.items()
        ]

    def usual(self) -> Iterator[tuple[str, str]]:
        """Yield the usual events and variants that need an outcome: all, or those that `events` lists."""
        for name in self.description.get("events", EVENTS):
            yield from ((name, variant) for variant in EVENTS[name])

    def make(self, **settings: Any) -> Forwarder[Any]:
        """Create a forwarder with the description's settings, and these in their place."""
        return self.make_from({**self.description["settings"], **settings})

    def make_from(self, settings: Mapping[str, Any]) -> Forwarder[Any]:
        """Create a forwarder with exactly these settings."""
        return self.forwarder(self.forwarder.contract.settings.model_validate(settings))

    def deliveries(self) -> list[Delivery]:
        """Return a delivery for each case that uses the description's settings and sends something."""
        return [
            item_of(case.event, case.written["payload"])
            for case in self.cases
            if "payload" in case.written and "settings" not in case.written
        ]

    def outcome(self, event: Mapping[str, Any], **settings: Any) -> dict[str, Any]:
        """Return the matching rule, the payload and the request for an event."""
        ((rule, payload),) = self.preset.apply(normalize(deepcopy(dict(event))))
        if payload is DROP:
            return {"rule": rule or "none"}
        if isinstance(payload, Failure):
            return {"rule": rule, "failure": payload.error}
        forwarder, items = self.make(**settings), [item_of(event, payload)]
        assert isinstance(forwarder, HttpForwarder | WriterForwarder)
        request = forwarder.build_request(items) if isinstance(forwarder, HttpForwarder) else forwarder.preview(items)
        return {
            "rule": rule,
            "payload": payload,
            "request": {
                "method": request.method,
                "url": request.url,
                "headers": dict(request.headers),
                "body": request.body.decode() if isinstance(request.body, bytes) else request.body,
            },
        }

    def update(self) -> None:
        """Write the current outcomes into the files. Review the diff before you commit it."""
        files: dict[Path, dict[str, Any]] = {}
        for name, variant in self.usual():
            files.setdefault(self.folder / f"{name}.yaml", {})[variant] = {}
        for case in self.cases:
            files.setdefault(case.path, {})[case.variant] = case.given
        for path, variants in files.items():
            for variant, given in variants.items():
                event = given.get("event") or EVENTS[path.stem][variant]
                variants[variant] = {**given, **self.outcome(event, **given.get("settings", {}))}
            path.write_text(shown(variants), encoding="utf-8")


def item_of(event: Mapping[str, Any], payload: Mapping[str, Any]) -> Delivery:
    """Return the delivery of an event's payload."""
    return Delivery(event["messageId"], payload, event["type"], event.get("event"), event["timestamp"])


class _GoldenDumper(yaml.SafeDumper):
    """Writes YAML without aliases, so that each outcome can be read on its own."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def shown(data: Any) -> str:
    """Return data as YAML text in the style of the files."""
    text: str = yaml.dump(data, Dumper=_GoldenDumper, sort_keys=False, allow_unicode=True, width=118)
    return text
