"""Turn other systems' webhooks into events by rules."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from streams.events import DEPTH, Event, EventError, check_depth, is_absent_id
from transforms import DROP, Failure, Rules

UNSEEN = frozenset({"authorization", "cookie"})
"""Headers that rules do not see, besides the signature: secrets."""


class Made(NamedTuple):
    """What a rule made of a delivery: an event that is not checked yet, an error where it failed, None where it drops.

    The rule is "" where none took the delivery.
    """

    rule: str
    event: Event | EventError | None


@dataclass(frozen=True, slots=True)
class WebhookEndpoint:
    """Where a source's deliveries are posted, and what becomes of them.

    A delivery is `{"headers": …, "body": …}`: the request's headers by their names in lower case, and its JSON.
    `verify` is None where no signature tells who sends.
    """

    path: str
    rules: Rules
    verify: Callable[[bytes, Mapping[bytes, bytes], float], bool] | None = None
    signature_header: str = ""
    depth: int = DEPTH

    def make(self, delivery: Mapping[str, Any]) -> Iterator[Made]:
        """What the rules make of a delivery, one thing a rule that takes it; an error if its body is too deep.

        Where all rules may match, a messageId that the map gives gets `:rule` behind it, so that its events are not
        taken for repeats of each other.
        """
        try:
            check_depth(delivery.get("body"), self.depth)
        except EventError as too_deep:
            yield Made("", too_deep)
            return
        for rule, event in self.rules.apply(delivery):
            if event is DROP:
                yield Made(rule, None)
            elif isinstance(event, Failure):
                where = f"{event.path}:{event.line}:{event.column}"
                error = EventError("webhook", "", f"the rule {rule} of the source: {where}: {event.error}")
                yield Made(rule, error)
            else:
                made = dict(event)
                if self.rules.match_all and not is_absent_id(made.get("messageId")):
                    made["messageId"] = f"{made['messageId']}:{rule}"
                yield Made(rule, made)

    def headers_of(self, headers: Mapping[bytes, bytes]) -> dict[str, str]:
        """The headers that rules see."""
        hidden = {*UNSEEN, self.signature_header.lower()}
        named = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers.items()}
        return {name: value for name, value in named.items() if name not in hidden}
