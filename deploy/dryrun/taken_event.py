"""Find a recent event that the rules of an integration take, to try them on."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from deploy.config.configuration import Configuration
from deploy.config.environment import UNSET, fill, find_texts, is_reference
from deploy.dryrun.explanation import ExplainedDelivery, explain
from deploy.dryrun.recorded_events import RecordedEvent, open_recorded
from streams.kafka.admin import check_reachable
from streams.records.outcomes import FORWARDED

MAX_TRIED = 60
"""The newest events that are tried; each is mapped by all rules."""


class TakenEvent(NamedTuple):
    """An event as it was recorded, and the first delivery that the rules make of it.

    `referred` are the values of all references in the settings: not only of secrets, since a draft may name any
    variable.
    """

    event: RecordedEvent
    delivery: ExplainedDelivery
    referred: Sequence[str]

    def data(self) -> dict[str, Any]:
        """Return JSON data, with `***` for values that settings refer to."""
        result = self.delivery.result.data()
        request = _masked(result["request"], self.referred)
        return {"at": self.event.place, "received": self.event.data(), **result, "request": request}


def find_taken_event(configuration: Configuration, integration: str) -> TakenEvent | None:
    """Return the newest event that a rule takes; None if there is none among the last. Blocking; raises BrokerError."""
    check_reachable(configuration.settings.broker)
    with open_recorded(configuration) as recorded:
        newest = recorded.newest(MAX_TRIED, lambda event: event.data() is not None, lambda _: None)
    for event in reversed(newest):
        source = event.source if event.source in configuration.source_files else None
        explained = explain(configuration, event.value, integrations=[integration], source=source)
        for account in explained.accounts:
            for delivery in account.deliveries:
                if delivery.result.outcome == FORWARDED:
                    settings = configuration.integrations[integration].document.data.get("settings")
                    return TakenEvent(event, delivery, list(_find_referred(settings)))
    return None


def _find_referred(settings: Any) -> Iterator[str]:
    """Yield the values of the references in settings, the longest first."""
    values = {fill(text, {}) for _, text in find_texts(settings) if is_reference(text)}
    yield from sorted((value for value in values if value not in ("", UNSET)), key=len, reverse=True)


def _masked(data: Any, values: Sequence[str]) -> Any:
    if isinstance(data, Mapping):
        return {_masked(key, values): _masked(value, values) for key, value in data.items()}
    if isinstance(data, list):
        return [_masked(value, values) for value in data]
    if isinstance(data, str):
        for value in values:
            data = data.replace(value, UNSET)
    return UNSET if str(data) in values else data
