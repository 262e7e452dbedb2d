"""Turn deliveries from other systems' webhooks into events with rules."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from streams.events import DEPTH, Event, EventError, check_depth, is_absent_id
from transforms import DROP, Failure, Rules

HIDDEN_HEADERS = frozenset({"authorization", "cookie"})
"""Headers with secrets, which rules cannot see; so is the signature header."""


class WebhookResult(NamedTuple):
    """The result of a rule for a delivery: an event to check, an error if the rule failed, or None if it dropped it.

    `rule` is "" if no rule applied.
    """

    rule: str
    event: Event | EventError | None


@dataclass(frozen=True, slots=True)
class WebhookEndpoint:
    """A source's webhook: its path, rules and signature.

    A delivery is `{"headers": …, "body": …}`: the request's headers with lower-case names, and its JSON. `verify` is
    None if deliveries are not signed.
    """

    path: str
    rules: Rules
    verify: Callable[[bytes, Mapping[bytes, bytes], float], bool] | None = None
    signature_header: str = ""
    depth: int = DEPTH

    def make(self, delivery: Mapping[str, Any]) -> Iterator[WebhookResult]:
        """Yield one result per rule that applies to a delivery, or one error if its body is nested too deeply.

        If several rules may match, `:rule` is appended to a mapped messageId, so that the events are not deduped.
        """
        try:
            check_depth(delivery.get("body"), self.depth)
        except EventError as too_deep:
            yield WebhookResult("", too_deep)
            return
        for rule, event in self.rules.apply(delivery):
            if event is DROP:
                yield WebhookResult(rule, None)
            elif isinstance(event, Failure):
                where = f"{event.path}:{event.line}:{event.column}"
                error = EventError("webhook", "", f"the rule {rule} of the source: {where}: {event.error}")
                yield WebhookResult(rule, error)
            else:
                made = dict(event)
                if self.rules.match_all and not is_absent_id(made.get("messageId")):
                    made["messageId"] = f"{made['messageId']}:{rule}"
                yield WebhookResult(rule, made)

    def headers_of(self, headers: Mapping[bytes, bytes]) -> dict[str, str]:
        """Return the headers that rules can see."""
        hidden = {*HIDDEN_HEADERS, self.signature_header.lower()}
        named = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers.items()}
        return {name: value for name, value in named.items() if name not in hidden}
