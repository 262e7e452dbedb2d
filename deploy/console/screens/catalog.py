"""Catalog: the events and properties that arrive, their plans, and the rules that read them."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Route

from deploy.catalog.event_samples import PLAN, EventSamples, read_samples
from deploy.catalog.plan_from_seen import NothingSeenError, plan_from_seen
from deploy.catalog.planned import EventPlan, PlannedProperty, find_plans
from deploy.catalog.rule_reads import FieldRead, find_field_reads, is_within
from deploy.catalog.seen_events import CatalogEvent, CatalogProperty, is_name, read_seen
from deploy.config.configuration import Configuration
from deploy.console.access.roles import Role
from deploy.console.file_saving import describe_saved, plan_saving, save_files
from deploy.console.pages import ConsolePage, ConsoleScreen, Done, action, page
from deploy.editing.saving import Change
from deploy.scaffold.scaffold import NAME
from streams.kafka.settings import BrokerError
from streams.ledger.catalog import PARTS, safe_name
from streams.ledger.store import REJECTED
from streams.records.rejected import QUARANTINED_REASON

DAY_SECONDS = 24 * 3600

MAX_PROPERTIES = 200
"""Properties of one event that the page shows; the JSON form has all."""

NEVER = CatalogProperty("", 0, 0.0, {}, "", "")


class CatalogScreen(ConsoleScreen):
    """The ledger's catalog with the plans and rules for it."""

    title: ClassVar[str] = "Catalog"
    path: ClassVar[str] = "/catalog"
    key: ClassVar[str] = "c"

    def routes(self) -> Sequence[Route]:
        """Return the routes."""
        return [
            *page("/catalog", self._show),
            *page("/catalog/plan", self._preview_plan, needs=Role.EDITOR),
            *action("/catalog/plan", self._write_plan, needs=Role.EDITOR),
        ]

    async def _show(self, request: Request) -> ConsolePage:
        configuration, given = self.backend.configuration, request.query_params
        source = given.get("source", "")
        seen, counts, off_plan = await asyncio.gather(
            asyncio.to_thread(read_seen, configuration, source or None),
            self._counts(source),
            self._off_plan(source),
        )
        chosen = _choose(seen, given.get("type"), given.get("event"))
        whole = sum(counts.values()) or 1
        reads = find_field_reads(configuration)
        data = {
            "source": source,
            "sources": list(configuration.source_files),
            "events": [
                {
                    "type": it.type,
                    "event": it.event,
                    "sources": it.sources,
                    "count": counts[it.type, it.event or ""],
                    "share": counts[it.type, it.event or ""] / whole,
                    "sampled": it.sampled,
                    "off_plan": off_plan[it.type, it.event or ""],
                    "chosen": it is chosen,
                }
                for it in seen
            ],
            "waiting": _events_that_never_come(reads, seen),
            "sample_per_second": configuration.settings.ledger.sample_per_second,
            "chosen": await self._describe(chosen, reads) if chosen else None,
        }
        return ConsolePage(chosen.label if chosen else "Catalog", "catalog.html", data)

    async def _counts(self, source: str) -> Counter[tuple[str, str]]:
        """Return the number of events of the last day by type and name."""
        since = int(time.time()) - DAY_SECONDS
        rows = (await self.backend.ask("/counts", since=since, by="source,type,event"))["rows"]
        counts: Counter[tuple[str, str]] = Counter()
        for row in rows:
            if source in ("", row["source"]):
                counts[_key(row)] += row["count"]
        return counts

    async def _off_plan(self, source: str) -> Counter[tuple[str, str]]:
        """Return the number of events of the last day that a plan blocked, by type and name."""
        since = int(time.time()) - DAY_SECONDS
        rows = (await self.backend.ask("/counts", since=since, by="source,type,event,outcome,reason"))["rows"]
        counts: Counter[tuple[str, str]] = Counter()
        for row in rows:
            kept_back = row["outcome"] == REJECTED and row["reason"] in (PLAN, QUARANTINED_REASON)
            if kept_back and source in ("", row["source"]):
                counts[_key(row)] += row["count"]
        return counts

    async def _describe(self, seen: CatalogEvent, every: Sequence[FieldRead]) -> dict[str, Any]:
        """Return one event with its properties."""
        configuration = self.backend.configuration
        samples, problem = EventSamples(), None
        try:
            samples = await asyncio.to_thread(self._read_samples, seen)
        except BrokerError as error:
            problem = str(error)
        plans = find_plans(configuration, seen)
        reads = [it for it in every if it.may_read(seen.type, seen.event, seen.sources)]
        planned_only = [path for plan in plans for path in plan.unseen(seen)]
        # Of an object with properties of its own, these are enough.
        objects = {path for path, it in seen.properties.items() if set(it.types) == {"object"}}
        paths = [path for path in [*seen.properties, *planned_only] if path.partition(".")[0] in PARTS]
        paths = [path for path in paths if path not in objects or not _has_parts(path, seen)]
        rows = [
            _row(path, seen.properties.get(path, NEVER), seen.sampled, samples, plans, reads)
            for path in sorted(set(paths), key=lambda path: (PARTS.index(path.partition(".")[0]), path))
        ]
        return {
            "type": seen.type,
            "event": seen.event,
            "label": seen.label,
            "sources": seen.sources,
            "sampled": seen.sampled,
            "first": seen.first,
            "last": seen.last,
            "cut": seen.is_cut,
            "newest": samples.newest,
            "samples": samples.number,
            "problem": problem,
            "plans": [{"plan": it.name, "where": it.where, "planned": it.entry is not None} for it in plans],
            "properties": rows,
            "lacking": _lacking(seen, samples, reads),
            "ignored": [
                {"path": row["path"], "share": row["share"]}
                for row in rows
                if all(it["whole"] for it in row["read_by"]) and row["share"] and is_name(row["path"])
            ],
        }

    def _read_samples(self, seen: CatalogEvent) -> EventSamples:
        with self.backend.kafka() as kafka:
            return read_samples(self.backend.configuration, kafka, seen.type, seen.event)

    async def _preview_plan(self, request: Request) -> ConsolePage:
        name, source = request.query_params.get("name", ""), request.query_params.get("source", "")
        text, problem = "", None
        if name:
            try:
                text = await asyncio.to_thread(self._plan_text, name, source)
            except HTTPException as error:
                problem = error.detail
        configuration = self.backend.configuration
        data = {
            "name": name,
            "source": source,
            "sources": list(configuration.source_files),
            "text": text,
            "problem": problem,
            "exists": (configuration.folder / "plans" / f"{name}.yaml").exists() if text else False,
            "saving": await plan_saving(self.backend, f"plans/{name}.yaml") if text else None,
        }
        return ConsolePage("Make a tracking plan", "catalog_plan.html", data)

    async def _write_plan(self, request: Request, form: Mapping[str, str]) -> Done:
        name, source = form.get("name", ""), form.get("source", "")
        text = await asyncio.to_thread(self._plan_text, name, source)
        file = f"plans/{name}.yaml"
        if (self.backend.configuration.folder / file).exists():
            raise HTTPException(409, f"{file} exists already. Choose another name.")
        saved = await save_files(self.backend, request, [Change(file, text, "")], f"Plan the seen events as {name}")
        message = f"{describe_saved(saved)} Name the plan in a source's file: plan: {name}"
        return Done(message, {"file": file, "commit": saved.commit, "branch": saved.branch})

    def _plan_text(self, name: str, source: str) -> str:
        """Return the text of a plan; raises HTTPException."""
        configuration: Configuration = self.backend.configuration
        if not NAME.fullmatch(name):
            raise HTTPException(400, f"{name!r} is not a valid name: use a-z, 0-9, - and _.")
        if source and source not in configuration.source_files:
            raise HTTPException(400, f"No source is called {source!r}.")
        try:
            return plan_from_seen(name, read_seen(configuration, source or None))
        except NothingSeenError as error:
            raise HTTPException(409, f"{error}. Send some, and wait a few seconds.") from None


def _key(row: Mapping[str, str]) -> tuple[str, str]:
    """Return the type and name of a row of the ledger's counts, as in the catalog."""
    return safe_name(row["type"]), safe_name(row["event"])


def _choose(seen: Sequence[CatalogEvent], type_: str | None, event: str | None) -> CatalogEvent | None:
    """Return the requested event, or the most frequent one; raises HTTPException."""
    if type_ is None:
        return seen[0] if seen else None
    found = next((it for it in seen if (it.type, it.event or "") == (type_, event or "")), None)
    if found is None:
        raise HTTPException(404, f"No {type_} event of this name is in the catalog.")
    return found


def _row(
    path: str,
    seen: CatalogProperty,
    sampled: int,
    samples: EventSamples,
    plans: Sequence[EventPlan],
    reads: Sequence[FieldRead],
) -> dict[str, Any]:
    """Return a property; `path` and `values` have the names by which values of personal fields are masked."""
    compared = [plan.compare(path, seen if seen.number else None, sampled) for plan in plans]
    # The worst of several plans.
    order = ("wrong type", "missing", "not in plan", "planned", "")
    plan = min(compared, key=lambda each: order.index(each.state), default=PlannedProperty(""))
    return {
        "path": path,
        "share": seen.share,
        "number": seen.number,
        "types": {name: number / (seen.number or 1) for name, number in seen.types.items()},
        "values": samples.values.get(path, []),
        "plan": plan.state,
        "plan_where": plan.where,
        "violations": dict(samples.violations.get(path, {})),
        "read_by": _readers(path, reads),
        "first": seen.first,
        "last": seen.last,
    }


def _readers(path: str, reads: Sequence[FieldRead]) -> list[dict[str, Any]]:
    """Return the readers of a property, one line each; lines that name it precede lines that read its parent object.

    Lines of the folder's files come before those of presets.
    """
    found: dict[str, FieldRead] = {}
    for each in sorted(reads, key=lambda it: (not is_within(it.path, path), it.preset)):
        if each.covers(path):
            found.setdefault(each.reader, each)
    rows = [
        {"reader": it.reader, "where": it.where, "hashed": it.hashed, "whole": not is_within(it.path, path)}
        for _, it in sorted(found.items())
    ]
    return sorted(rows, key=lambda row: row["whole"])


def _lacking(seen: CatalogEvent, samples: EventSamples, reads: Sequence[FieldRead]) -> list[dict[str, Any]]:
    """Return the fields that rules read but no event has, even after the steps of its source."""
    if seen.is_cut:
        return []
    there = {*seen.properties, *samples.for_rules}
    found: dict[str, dict[str, FieldRead]] = {}
    for each in sorted(reads, key=lambda it: it.preset):
        part, _, below = each.path.partition(".")
        if part in PARTS and below and not any(is_within(path, each.path) for path in there):
            found.setdefault(each.path, {}).setdefault(each.reader, each)
    rows = [
        {
            "path": path,
            "preset": all(it.preset for it in by_reader.values()),
            "readers": [{"reader": it.reader, "rule": it.rule, "where": it.where} for it in by_reader.values()],
        }
        for path, by_reader in found.items()
    ]
    return sorted(rows, key=lambda row: (row["preset"], row["path"]))


def _has_parts(path: str, seen: CatalogEvent) -> bool:
    return any(each != path and is_within(each, path) for each in seen.properties)


def _events_that_never_come(reads: Sequence[FieldRead], seen: Sequence[CatalogEvent]) -> list[dict[str, str]]:
    """Return the rules in the folder's own files for events that no source sends."""
    if not seen:
        return []
    found = {
        (it.reader, it.rule): it
        for it in reads
        if not it.preset
        and (it.selector.events is not None or it.selector.words is not None)
        and not any(it.may_read(each.type, each.event, each.sources) for each in seen)
    }
    return [
        {
            "reader": it.reader,
            "rule": it.rule,
            "where": it.where,
            "events": ", ".join(sorted(it.selector.events or it.selector.spellings)),
        }
        for it in found.values()
    ]
