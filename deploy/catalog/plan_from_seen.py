"""Draft a tracking plan from the events that were seen, for a person to correct."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from deploy.catalog.seen_events import CatalogEvent, CatalogProperty, is_name
from deploy.config.yaml_edit import on_one_line
from deploy.scaffold.folder import schema_comment
from streams.plurals import counted
from streams.steps.plan.model import SECTIONS

RARE_SHARE = 0.1
"""A type in a smaller share of a property's events is probably an error, and is not planned."""

MIN_SAMPLED = 20
"""Sampled events from which on a property that all of them have is planned as required."""


class NothingSeenError(Exception):
    """No seen event can be used for a plan."""


@dataclass
class _PlanNode:
    """A property with its nested properties; `items` are those of the objects in a list."""

    seen: CatalogProperty | None = None
    below: "dict[str, _PlanNode]" = field(default_factory=dict)
    items: "dict[str, _PlanNode]" = field(default_factory=dict)


def plan_from_seen(name: str, events: Iterable[CatalogEvent]) -> str:
    """Return the text of a plan with these events; raises NothingSeenError if none can be named."""
    planned = [seen for seen in events if seen.type in SECTIONS and is_name(seen.label)]
    if not planned:
        raise NothingSeenError("no event was seen that a plan can name")
    sampled = sum(seen.sampled for seen in planned)
    lines = [
        schema_comment("plan"),
        f"# Made from {counted(sampled, 'sampled event')}. Check which properties are required, and their types.",
        f"# Name the plan in a source's file: `plan: {name}`.",
        f"plan: {on_one_line(name)}",
        "on_violation: warn",
        "unplanned_events: warn",
        "unplanned_properties: warn",
        "",
        "events:",
    ]
    for seen in sorted(planned, key=lambda each: (each.type != "track", -each.sampled, each.label)):
        lines += _event(seen)
    return "\n".join(lines) + "\n"


def _event(seen: CatalogEvent) -> Iterator[str]:
    first = f"event: {_text(seen.event)}" if seen.type == "track" and seen.event else f"type: {seen.type}"
    yield f"  - {first}  # in {counted(seen.sampled, 'sampled event')}"
    section = SECTIONS[seen.type]
    fields = _tree(seen, section)
    if fields:
        yield f"    {section}:"
        yield from _object(fields, seen.sampled, "      ")


def _tree(seen: CatalogEvent, section: str) -> dict[str, _PlanNode]:
    root: dict[str, _PlanNode] = {}
    for path, each in seen.properties.items():
        if is_name(path) and path.startswith(f"{section}."):
            level, name, prefix = root, "", section
            for step in path.split(".")[1:]:
                name = f"{name}.{step}" if name else step
                outer = f"{prefix}.{name}"
                # A name may have dots itself.
                if outer != path and outer.removesuffix("[]") in seen.properties:
                    holder = level.setdefault(name.removesuffix("[]"), _PlanNode())
                    level = holder.items if name.endswith("[]") else holder.below
                    name, prefix = "", outer
            level.setdefault(name, _PlanNode()).seen = each
    return root


def _object(fields: Mapping[str, _PlanNode], whole: int | None, indent: str) -> Iterator[str]:
    """Yield the lines of an object's schema; `whole` is the number of objects, None if unknown."""
    required = [
        name
        for name, it in fields.items()
        if it.seen and whole and it.seen.number == whole >= MIN_SAMPLED and set(it.seen.types) != {"null"}
    ]
    if required:
        yield f"{indent}required: [{', '.join(map(_text, required))}]"
    yield f"{indent}properties:"
    for name, it in fields.items():
        yield from _property(name, it, f"{indent}  ")


def _property(name: str, it: _PlanNode, indent: str) -> Iterator[str]:
    types, rare = _split_types(it)
    if types == ["null"]:
        yield f"{indent}{_text(name)}: {{}}  # only null was seen"
        return
    written = types[0] if len(types) == 1 else f"[{', '.join(map(_type, types))}]"
    comment = f"  # also {'; '.join(rare)}" if rare else ""
    below = it.below if "object" in types else {}
    items = it.items if "array" in types else {}
    if not below and not items:
        yield f"{indent}{_text(name)}: {{type: {_type(written)}}}{comment}"
        return
    yield f"{indent}{_text(name)}:{comment}"
    yield f"{indent}  type: {_type(written)}"
    if below:
        objects = it.seen.types.get("object") if it.seen else None
        yield from _object(below, objects, f"{indent}  ")
    if items:
        yield f"{indent}  items:"
        yield f"{indent}    type: object"
        yield from _object(items, None, f"{indent}    ")


def _split_types(it: _PlanNode) -> tuple[list[str], list[str]]:
    """Return the types to plan, and the rare ones in words."""
    if it.seen is None:
        return (["array"] if it.items else ["object"]), []
    whole = sum(it.seen.types.values()) or 1
    usual = [name for name, number in it.seen.types.items() if number / whole >= RARE_SHARE or name == "null"]
    rare = [f"{name}, in {number / whole:.1%}" for name, number in it.seen.types.items() if name not in usual]
    return usual or [next(iter(it.seen.types))], rare


def _type(name: str) -> str:
    return "'null'" if name == "null" else name


def _text(text: str | None) -> str:
    """Return a text as YAML, also as a key or within a list."""
    written = on_one_line(text)
    return json.dumps(text, ensure_ascii=False) if any(it in written for it in ",[]{}") else written
