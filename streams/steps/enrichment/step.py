"""Run enrichments as steps of a source. A patch is applied completely or not at all."""

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
    """One enrichment of a source. If it fails, the event continues unchanged with a note; failures are counted."""

    def __init__(self, name: str, enrich: Enrich, *, replaces: bool) -> None:
        self._called = name
        self._enrich = enrich
        self._put = merge_into if replaces else fill
        self._failures = ENRICHMENT_FAILURES.labels(name)

    @property
    def name(self) -> str:
        """The name in `turnout explain`."""
        return f"enrich.{self._called}"

    def __call__(self, event: Event, note: Note, /) -> Event | Blocked:
        """Apply the enrichment to the event in place, or return why the event is blocked."""
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
    """An enrichment from another package. It gets a copy of the event, and the result is validated."""

    def __call__(self, event: Event, note: Note, /) -> Event | Blocked:
        """Apply the enrichment to a copy of the event, or return why the event is blocked."""
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
