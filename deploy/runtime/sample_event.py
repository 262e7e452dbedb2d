"""Choose the event that `turnout up` shows how to send."""

from collections.abc import Iterator, Mapping
from typing import Any

from deploy.config.configuration import Configuration
from deploy.config.models.tests import Case
from deploy.dryrun.preview import decide_now, decode_event, encode
from deploy.dryrun.rule_test_suite import RuleTestSuite
from streams.events import EventError
from streams.records.outcomes import FORWARDED

ORDER = {
    "type": "track",
    "userId": "u-1",
    "event": "Order Completed",
    "properties": {
        "order_id": "A-1001",
        "total": 59.9,
        "currency": "EUR",
        "email": "ann@example.com",
        "products": [{"product_id": "B-7", "sku": "B-7", "name": "Kettle", "price": 59.9, "quantity": 1}],
    },
}
"""The event if the folder has no better one."""

FIXED_FIELDS = ("messageId", "timestamp", "originalTimestamp", "sentAt")
"""Fields of a test's event without which it can be sent again and is new."""


def choose_sample(configuration: Configuration, source: str) -> Mapping[str, Any]:
    """Return an event of a source that its plan accepts and an integration receives, from the folder's rule tests.

    An order is preferred; it is also returned if no event fits.
    """
    return next((event for event in _candidates(configuration) if _fits(event, configuration, source)), ORDER)


def _candidates(configuration: Configuration) -> Iterator[Mapping[str, Any]]:
    yield ORDER
    for entry in RuleTestSuite(configuration).entries:
        if isinstance(entry.case, Case):
            yield {key: value for key, value in entry.case.event.items() if key not in FIXED_FIELDS}


def _fits(event: Mapping[str, Any], configuration: Configuration, source: str) -> bool:
    notes: list[str] = []
    try:
        incoming = decode_event(encode(event), configuration.sources, source)
    except EventError:
        return False
    decision = decide_now(incoming, configuration.rule_set(), None, lambda reason, _: notes.append(reason))
    return not notes and any(outcome.outcome == FORWARDED for outcome in decision.outcomes)
