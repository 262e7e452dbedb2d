"""Golden requests: what each forwarder's preset and `request` make of the usual events.

`tests/cases/requests/events.yaml` has the events. Beside it, each forwarder's folder has `forwarder.yaml` (settings
accepted and refused, payloads refused, answers and what they mean) and a file for each event, `NAME.yaml`, with the
outcome of its variants. An outcome may bring an event of its own. `python -m tests.forwarders.golden [FORWARDER…]`
writes what comes out today into the files: read the difference before you commit it.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from forwarders import registry
from forwarders.contract import Forwarder, HttpForwarder, Item, WriterForwarder
from transforms.documents import Document
from transforms.rules import DROP, Rules, read_rules

FOLDER = Path(__file__).parents[1] / "cases" / "requests"
DESCRIPTION = "forwarder.yaml"
EVENTS: Mapping[str, Mapping[str, Any]] = Document.read(FOLDER / "events.yaml").data


@cache
def description(name: str) -> Mapping[str, Any]:
    """What `forwarder.yaml` says of a forwarder."""
    data: Mapping[str, Any] = Document.read(FOLDER / name / DESCRIPTION).data
    return data


@cache
def preset(name: str) -> Rules:
    """The compiled rules of a forwarder's preset."""
    file = registry.find(name).preset()
    assert file is not None, f"{name} has no preset"
    rules, mistakes = read_rules(Document.parse(file.read_bytes(), f"{name}.yaml"))
    assert rules is not None, "\n".join(map(str, mistakes))
    return rules


def make(name: str, **settings: Any) -> Forwarder[Any]:
    """A forwarder with the settings of its description, and some others."""
    found = registry.find(name)
    return found(found.contract.settings.model_validate({**description(name)["settings"], **settings}))


def item(event: Mapping[str, Any], payload: Mapping[str, Any]) -> Item:
    """The delivery of an event."""
    return Item(event["messageId"], payload, event["type"], event.get("event"), event["timestamp"])


def outcome(name: str, event: Mapping[str, Any], **settings: Any) -> dict[str, Any]:
    """The rule, the payload and the request that a forwarder makes of an event."""
    ((rule, payload),) = preset(name).apply(event)
    if payload is DROP:
        return {"rule": rule or "none"}
    forwarder = make(name, **settings)
    items = [item(event, payload)]
    assert isinstance(forwarder, HttpForwarder | WriterForwarder)
    request = forwarder.request(items) if isinstance(forwarder, HttpForwarder) else forwarder.preview(items)
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


def usual_events(name: str) -> Iterable[str]:
    """Which of the usual events must have an outcome: all, unless the description says that these few tell it all."""
    few: Iterable[str] = description(name).get("events", EVENTS)
    return few


@cache
def cases(name: str) -> Sequence[tuple[Path, str, Mapping[str, Any], Mapping[str, Any]]]:
    """Of each outcome that is written down: its file, variant, what is written, and the event."""
    return [
        (path, variant, written, written.get("event") or EVENTS[path.stem][variant])
        for path in sorted((FOLDER / name).glob("*.yaml"))
        if path.name != DESCRIPTION
        for variant, written in Document.read(path).data.items()
    ]


class _Dumper(yaml.SafeDumper):
    """Plain YAML without aliases, so that each outcome reads on its own."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def update(name: str) -> None:
    """Write today's outcomes into the files of a forwarder."""
    files: dict[Path, dict[str, Any]] = {
        FOLDER / name / f"{usual}.yaml": {variant: {} for variant in EVENTS[usual]} for usual in usual_events(name)
    }
    for path, variant, written, _ in cases(name):
        files.setdefault(path, {})[variant] = {key: written[key] for key in ("settings", "event") if key in written}
    for path, variants in files.items():
        for variant, given in variants.items():
            event = given.get("event") or EVENTS[path.stem][variant]
            variants[variant] = {**given, **outcome(name, event, **given.get("settings", {}))}
        text = yaml.dump(variants, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=118)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    for forwarder_name in sys.argv[1:] or [path.parent.name for path in sorted(FOLDER.glob(f"*/{DESCRIPTION}"))]:
        update(forwarder_name)
