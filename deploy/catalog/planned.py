"""Compare the seen properties of an event with the tracking plans of its sources."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.catalog.seen_events import CatalogEvent, CatalogProperty
from deploy.config.configuration import Configuration
from deploy.ledger.plan_notes import Keys, find_schema, value_at
from streams.steps.plan.model import NAMED_BY
from transforms.documents import Document


@dataclass(frozen=True, slots=True)
class PlannedProperty:
    """A property compared with a plan.

    Attributes:
        state: `planned`, `not in plan`, `wrong type`, `missing`, or empty if the plan does not say.
        where: The plan's file and line.

    """

    state: str
    where: str | None = None


class EventPlan:
    """The entry of one plan for an event; `entry` is None if the plan does not have the event."""

    def __init__(self, document: Document, seen: CatalogEvent) -> None:
        self._document, self.name = document, str(document.data["plan"])
        self.entry = _find_entry(document.data["events"], seen)

    @property
    def where(self) -> str:
        """The plan's file, and the line of the event if there is one."""
        return self._where(() if self.entry is None else ("events", self.entry))

    def compare(self, path: str, seen: CatalogProperty | None, sampled: int) -> PlannedProperty:
        """Compare a property with the plan; `seen` is None if no event had it."""
        if self.entry is None:
            return PlannedProperty("")
        keys: Keys = ()
        for step in path.split("."):
            keys = (*keys, step.removesuffix("[]"), 0) if step.endswith("[]") else (*keys, step)
        found = find_schema(self._document, ("events", self.entry), keys)
        if found is None:
            return PlannedProperty("not in plan" if self._names_others(keys) else "")
        schema = value_at(self._document.data, found[1])
        where = self._where(found[0])
        if (seen is None or seen.number < sampled) and self._is_required(keys):
            return PlannedProperty("missing", where)
        wrong = set(seen.types if seen else ()) - set(_types(schema))
        return PlannedProperty("wrong type" if wrong else "planned", where)

    def unseen(self, seen: CatalogEvent) -> list[str]:
        """Return the planned properties that no event had."""
        if self.entry is None:
            return []
        planned = self._document.data["events"][self.entry]
        return [
            f"{part}.{name}"
            for part in ("properties", "traits")
            if isinstance(planned.get(part), dict)
            for name in planned[part].get("properties") or ()
            if f"{part}.{name}" not in seen.properties
        ]

    def _names_others(self, keys: Keys) -> bool:
        """Return whether the plan names this property's siblings, so that the property itself is unplanned."""
        outer = keys[:-1]
        found = find_schema(self._document, ("events", self.entry or 0), outer)
        schema = value_at(self._document.data, found[1]) if found else None
        return isinstance(schema, dict) and bool(schema.get("properties"))

    def _is_required(self, keys: Keys) -> bool:
        found = find_schema(self._document, ("events", self.entry or 0), keys[:-1])
        schema = value_at(self._document.data, found[1]) if found else None
        # Elements of lists are counted by event.
        return isinstance(schema, dict) and 0 not in keys and keys[-1] in (schema.get("required") or ())

    def _where(self, keys: Keys) -> str:
        return f"plans/{Path(self._document.path).name}:{self._document.where_key(*keys)[0]}"


def find_plans(configuration: Configuration, seen: CatalogEvent) -> list[EventPlan]:
    """Return the plans of the sources that an event came from."""
    names = {configuration.source_files[name].plan for name in seen.sources if name in configuration.source_files}
    documents = [
        each for each in configuration.documents if isinstance(each.data, dict) and each.data.get("plan") in names
    ]
    return [EventPlan(each, seen) for each in documents if "events" in each.data]


def _find_entry(events: Sequence[Mapping[str, Any]], seen: CatalogEvent) -> int | None:
    by = NAMED_BY.get(seen.type)
    # The catalog does not keep pages apart by name.
    fits = [at for at, each in enumerate(events) if each.get("type", "track") == seen.type]
    named = [at for at in fits if by == "event" and events[at].get("event") == seen.event]
    others = [at for at in fits if not (by and events[at].get(by))]
    return next(iter([*named, *others]), None)


def _types(schema: Any) -> Sequence[str]:
    """Return the JSON types that a schema allows, as the catalog names them."""
    given = schema.get("type") if isinstance(schema, dict) else None
    if given is None:
        return ("string", "number", "boolean", "object", "array", "null")
    return ["number" if each == "integer" else each for each in ([given] if isinstance(given, str) else given)]
