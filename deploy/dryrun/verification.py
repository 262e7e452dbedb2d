"""Send an integration's requests for an event to the vendor's validation endpoint, and read the response."""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from deploy.config.configuration import Configuration
from deploy.config.integrations import Integration
from deploy.dryrun.explanation import PayloadField, explain
from deploy.dryrun.masked import make_masked_forwarder
from deploy.dryrun.preview import item_of
from forwarders.api.contract import (
    Delivered,
    Delivery,
    Forwarder,
    HttpForwarder,
    PermanentFailure,
    Result,
    Retry,
)
from forwarders.api.oauth import authorize
from streams.delivery.http.client import Client, RequestSender, UnreachableError, UnsendableError
from streams.delivery.http.tokens import NoTokenError, Tokens
from streams.delivery.outcomes.masking import Mask
from streams.records.delivery import DeliveryRecord
from streams.records.outcomes import FORWARDED

TIMEOUT_SECONDS: Final = 30.0


class UnverifiableError(Exception):
    """The vendor has no validation endpoint, or a setting for it is missing."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The vendor's verdict on one delivery; `result` is None, with a reason, if nothing was sent.

    `lines` are the payload's fields that the vendor's response names, with the lines of the rules that make them.
    """

    rule: str
    result: Result | None
    reason: str = ""
    status: int | None = None
    answer: Any = None
    lines: Sequence[tuple[str, str]] = field(default_factory=tuple)

    def data(self) -> dict[str, Any]:
        """Return JSON data."""
        return {
            "rule": self.rule or None,
            "taken": isinstance(self.result, Delivered),
            "result": self.result and type(self.result).__name__.lower(),
            "reason": self.reason,
            "status": self.status,
            "answer": self.answer,
            "lines": [{"field": name, "where": where} for name, where in self.lines],
        }


def make_validating_forwarder(integration: Integration, code: str | None) -> HttpForwarder[Any]:
    """Create the integration's forwarder, set so that the vendor only validates; raises UnverifiableError."""
    contract = integration.forwarder.contract
    name, settings = contract.validation_setting, integration.settings
    if name is None or settings is None:
        raise UnverifiableError(f"{contract.title} has no validation endpoint; `turnout explain` shows the request")
    boolean = contract.settings.model_fields[name].annotation is bool
    value = True if boolean else code or getattr(settings, name)
    if not value:
        raise UnverifiableError(f"{contract.title} needs the code of its test tool: give --code, or set {name}")
    forwarder: Forwarder[Any] = integration.forwarder(settings.model_copy(update={name: value}))
    assert isinstance(forwarder, HttpForwarder)
    return forwarder


async def verify(
    configuration: Configuration, name: str, value: bytes, code: str | None = None, source: str | None = None
) -> list[Verdict]:
    """Have the vendor validate an integration's deliveries for an event (JSON text); raises UnverifiableError."""
    forwarder = make_validating_forwarder(configuration.integrations[name], code)
    client = Client(1, TIMEOUT_SECONDS)
    await client.open()
    try:
        return await _verify(configuration, _Verifier(name, forwarder, client), value, source)
    finally:
        await client.close()


async def try_out(
    configuration: Configuration, name: str, value: bytes, sender: RequestSender, source: str | None = None
) -> list[Verdict]:
    """Send an integration's deliveries for an event, with masked secrets, to a stand-in for the vendor.

    Raises UnverifiableError.
    """
    forwarder = make_masked_forwarder(configuration.integrations[name])
    if not isinstance(forwarder, HttpForwarder):
        raise UnverifiableError(f"{forwarder.contract.title} has no HTTP interface that could be simulated")
    return await _verify(configuration, _Verifier(name, forwarder, sender), value, source)


async def _verify(
    configuration: Configuration, verifier: "_Verifier", value: bytes, source: str | None
) -> list[Verdict]:
    explanation = explain(configuration, value, integrations=[verifier.integration], source=source)
    if explanation.rejected:
        raise UnverifiableError(f"the event is rejected: {explanation.steps[-1].detail}")
    verdicts = []
    for delivery in explanation.accounts[0].deliveries:
        result = delivery.result
        decided = result.decided
        if decided is None or decided.value is None or result.outcome != FORWARDED:
            verdicts.append(Verdict(result.rule, None, result.reason or str(result.outcome)))
            continue
        item = item_of(DeliveryRecord.decode(decided.value))
        verdicts.append(await verifier.verify(result.rule, item, delivery.fields))
    return verdicts


class _Verifier:
    """Sends requests to one vendor like a forwarder process does."""

    def __init__(self, integration: str, forwarder: HttpForwarder[Any], sender: RequestSender) -> None:
        self.integration = integration
        self._forwarder, self._sender = forwarder, sender
        self._mask = Mask(forwarder.settings)
        self._tokens = Tokens(integration, forwarder, sender, clock=time.time, learn=self._mask.learn)

    async def verify(self, rule: str, item: Delivery, fields: Sequence[PayloadField]) -> Verdict:
        """Send one delivery, and return the vendor's verdict."""
        try:
            token = await self._tokens.get()
            request = self._forwarder.build_request([item])
            response = await self._sender.send(authorize(request, token) if token else request)
        except NoTokenError as error:
            return Verdict(rule, error.result, f"without an access token: {error}")
        except (UnreachableError, UnsendableError) as error:
            return Verdict(rule, Retry(), f"no response: {error}")
        (result,) = self._forwarder.parse_response(response, [item])
        response = replace(response, body=self._mask(response.body.decode(errors="replace")).encode())
        answer = response.json if response.json is not None else response.body[:4096].decode(errors="replace")
        lines = () if isinstance(result, Delivered) else tuple(_lines(answer, fields))
        reason = self._mask(f"{result.reason} {result.detail}".strip()) if isinstance(result, PermanentFailure) else ""
        return Verdict(rule, result, reason, response.status, answer, lines)


def _lines(answer: Any, fields: Sequence[PayloadField]) -> Iterator[tuple[str, str]]:
    """Yield the fields that the vendor's response names, by full path or last step, in any spelling."""
    words = {_plain(word) for text in _texts(answer) for word in re.findall(r"[\w$.\[\]-]+", text)}
    steps = {_plain(step) for word in words for step in re.split(r"[.\[\]]+", word)}
    for each in fields:
        if _plain(each.name) in words or _plain(re.split(r"[.\[\]]+", each.name.rstrip("]"))[-1]) in steps:
            yield each.name, each.where


def _plain(word: str) -> str:
    return word.replace("_", "").lower()


def _texts(answer: Any) -> Iterator[str]:
    if isinstance(answer, str):
        yield answer
    elif isinstance(answer, Mapping | list):
        for value in answer.values() if isinstance(answer, Mapping) else answer:
            yield from _texts(value)
