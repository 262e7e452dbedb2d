"""Golden requests: what a forwarder's preset and `request` make of the usual events.

A forwarder's folder has its name. In it, `forwarder.yaml` describes the forwarder (settings that are accepted and
refused, payloads that are refused, answers and what they mean), and a file for each usual event, `NAME.yaml`, has the
outcome of its variants. An outcome may bring an event or settings of its own. `events.yaml`, beside this module, has
the usual events.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import yaml

from forwarders import registry
from forwarders.contract import Delivery, Forwarder, HttpForwarder, WriterForwarder
from streams.events import normalize
from transforms import DROP, Failure, RuleError, Rules, read_rules
from transforms.documents import Document

DESCRIPTION: Final = "forwarder.yaml"
KEYS: Final = ("settings", "accepted", "refused", "events", "most", "refused_payloads", "answers")
"""What a description may hold."""

EVENTS: Final[Mapping[str, Mapping[str, Any]]] = Document.read(Path(__file__).parent / "events.yaml").data
"""The usual events, each in the variants `smallest` and `everything`."""


@dataclass(frozen=True, slots=True)
class Case:
    """One outcome that is written down, and the event that it is of."""

    path: Path
    variant: str
    written: Mapping[str, Any]
    event: Mapping[str, Any]

    @property
    def given(self) -> dict[str, Any]:
        """What the file itself brings: an event, settings."""
        return {key: self.written[key] for key in ("settings", "event") if key in self.written}

    @property
    def name(self) -> str:
        """As in `order-completed-smallest`."""
        return f"{self.path.stem}-{self.variant}"


class Golden:
    """The folder of one forwarder; what is wrong with a file is a RuleError."""

    def __init__(self, folder: Path, forwarder: type[Forwarder[Any]] | None = None) -> None:
        self.folder, self.name = folder, folder.name
        self.forwarder = forwarder or registry.find(folder.name)

    @cached_property
    def description(self) -> Mapping[str, Any]:
        """What `forwarder.yaml` says."""
        document = Document.read(self.folder / DESCRIPTION)
        data = document.data
        if not isinstance(data, dict) or not isinstance(data.get("settings"), dict):
            raise document.error("settings: a mapping of settings that make a forwarder is missing")
        for key in data:
            if key not in KEYS:
                raise document.error(f"unknown key {key!r}", f"there are: {', '.join(KEYS)}", at=(key,))
        return data

    @cached_property
    def preset(self) -> Rules:
        """The compiled rules of the forwarder's preset; raises RuleError where there is none, or one with mistakes."""
        file = self.forwarder.preset()
        if file is None:
            raise RuleError("there is no preset", f"write presets/{self.name}.yaml beside the module")
        rules, mistakes = read_rules(Document.parse(file.read_bytes(), f"{self.name}.yaml"))
        if rules is None:
            raise mistakes[0]
        return rules

    @cached_property
    def cases(self) -> Sequence[Case]:
        """Every outcome that is written down."""
        return [
            Case(path, variant, written, written.get("event") or EVENTS[path.stem][variant])
            for path in sorted(self.folder.glob("*.yaml"))
            if path.name != DESCRIPTION
            for variant, written in Document.read(path).data.items()
        ]

    def usual(self) -> Iterator[tuple[str, str]]:
        """Which usual events and variants need an outcome: all, unless `events` says that a few tell all."""
        for name in self.description.get("events", EVENTS):
            yield from ((name, variant) for variant in EVENTS[name])

    def make(self, **settings: Any) -> Forwarder[Any]:
        """A forwarder with the settings of its description, and some others."""
        return self.make_from({**self.description["settings"], **settings})

    def make_from(self, settings: Mapping[str, Any]) -> Forwarder[Any]:
        """A forwarder with these settings."""
        return self.forwarder(self.forwarder.contract.settings.model_validate(settings))

    def deliveries(self) -> list[Delivery]:
        """A delivery for each case that is sent with the description's settings."""
        return [
            item_of(case.event, case.written["payload"])
            for case in self.cases
            if "payload" in case.written and "settings" not in case.written
        ]

    def outcome(self, event: Mapping[str, Any], **settings: Any) -> dict[str, Any]:
        """The rule, the payload and the request that the forwarder makes of an event."""
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
        """Write today's outcomes into the files: read the difference before you commit it."""
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
    """The delivery of an event."""
    return Delivery(event["messageId"], payload, event["type"], event.get("event"), event["timestamp"])


class _Dumper(yaml.SafeDumper):
    """Plain YAML without aliases, so that each outcome reads on its own."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def shown(data: Any) -> str:
    """Data as the files have it."""
    text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=118)
    return text
