"""Enrichments as steps of a source: what they find goes into the event, whole or not at all."""

import orjson

from streams import events
from streams.events import Event, Note
from streams.observability.internal_error import to_exception
from streams.observability.metrics import ENRICHMENT_FAILURES
from streams.steps.enrichment.contract import Enrich
from streams.steps.enrichment.patches import fill
from streams.steps.source_rules import merge_into
from streams.steps.step import Blocked


class EnrichmentStep:
    """One enrichment of a source. Where it fails the event goes on as it was, with a note, and it is counted."""

    def __init__(self, name: str, enrich: Enrich, *, replaces: bool) -> None:
        self.name = f"enrich.{name}"
        self._called = name
        self._enrich = enrich
        self._put = merge_into if replaces else fill
        self._failures = ENRICHMENT_FAILURES.labels(name)

    def __call__(self, event: Event, note: Note, /) -> Event | Blocked:
        """The event with what the enrichment found put into it in place, or why it goes no further."""
        try:
            found = self._enrich(event)
        except BaseException as error:  # noqa: BLE001  # no error may stop the event, and its text may quote it
            return self._fail(event, note, error)
        if found is None:
            return event
        if isinstance(found, Blocked):
            return found
        self._put(event, found)
        return event

    def _fail(self, event: Event, note: Note, error: BaseException) -> Event:
        to_exception(error)
        self._failures.inc()
        note("enrichment", self._called)
        return event


class OwnEnrichmentStep(EnrichmentStep):
    """An enrichment from another package: it gets a copy of the event, and what it makes of it is checked."""

    def __call__(self, event: Event, note: Note, /) -> Event | Blocked:
        """A copy of the event with what was found, or why it goes no further."""
        try:
            copy: Event = orjson.loads(orjson.dumps(event))
            found = self._enrich(copy)
            if found is None or isinstance(found, Blocked):
                return found or event
            self._put(copy, found)
            orjson.dumps(copy)
            return events.normalize(copy, note)
        except BaseException as error:  # noqa: BLE001
            return self._fail(event, note, error)
