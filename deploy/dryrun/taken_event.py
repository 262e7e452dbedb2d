"""Find a recent event that matches an integration's rules, to try the rules on."""

from typing import Any, NamedTuple

from deploy.config.configuration import Configuration
from deploy.config.integrations import Integration
from deploy.dryrun.explanation import ExplainedDelivery, explain
from deploy.dryrun.masked import mask_references
from deploy.dryrun.recorded_events import RecordedEvent, read_newest
from streams.records.outcomes import FORWARDED

MAX_TRIED = 60
"""The newest events that are tried; each is mapped by all rules."""


class TakenEvent(NamedTuple):
    """An event as it was recorded, and the first delivery that the rules make of it."""

    event: RecordedEvent
    delivery: ExplainedDelivery
    integration: Integration

    def data(self) -> dict[str, Any]:
        """Return JSON data, with `***` for values that settings refer to."""
        result = self.delivery.result.data()
        request = mask_references(result["request"], self.integration)
        return {"at": self.event.place, "received": self.event.data(), **result, "request": request}


def find_taken_event(configuration: Configuration, integration: str) -> TakenEvent | None:
    """Return the newest event that matches a rule; None without a recent one. Blocking; raises BrokerError."""
    for event in read_newest(configuration, MAX_TRIED, lambda event: event.data() is not None):
        source = event.source if event.source in configuration.source_files else None
        explained = explain(configuration, event.value, integrations=[integration], source=source)
        for account in explained.accounts:
            for delivery in account.deliveries:
                if delivery.result.outcome == FORWARDED:
                    return TakenEvent(event, delivery, configuration.integrations[integration])
    return None
