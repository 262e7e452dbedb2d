"""Sends what an integration makes of an event to the vendor's validation endpoint, and reads what the vendor says."""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from deploy.config.configuration import Configuration
from deploy.config.integrations import Integration
from deploy.dryrun.explanation import PayloadField, explain
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
from streams.delivery.http.client import Client, UnreachableError, UnsendableError
from streams.delivery.http.tokens import NoTokenError, Tokens
from streams.delivery.outcomes.masking import Mask
from streams.records.delivery import DeliveryRecord
from streams.records.outcomes import FORWARDED

SECONDS: Final = 30.0


class UnverifiableError(Exception):
    """The vendor has nothing that only checks, or more has to be known to use it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the vendor says of one delivery: `result` and its status, None and a reason where nothing was sent.

    `lines` are the fields of the payload that the vendor names, and where the rules make them.
    """

    rule: str
    result: Result | None
    reason: str = ""
    status: int | None = None
    answer: Any = None
    lines: Sequence[tuple[str, str]] = field(default_factory=tuple)

    def data(self) -> dict[str, Any]:
        """As JSON data."""
        return {
            "rule": self.rule or None,
            "taken": isinstance(self.result, Delivered),
            "result": self.result and type(self.result).__name__.lower(),
            "reason": self.reason,
            "status": self.status,
            "answer": self.answer,
            "lines": [{"field": name, "where": where} for name, where in self.lines],
        }


def checking(integration: Integration, code: str | None) -> HttpForwarder[Any]:
    """The integration's forwarder, set so that the vendor checks what it gets; raises UnverifiableError."""
    contract = integration.forwarder.contract
    name, settings = contract.validation_setting, integration.settings
    if name is None or settings is None:
        raise UnverifiableError(f"{contract.title} has no endpoint that only checks: see `turnout explain`")
    boolean = contract.settings.model_fields[name].annotation is bool
    value = True if boolean else code or getattr(settings, name)
    if not value:
        raise UnverifiableError(f"{contract.title} wants the code of its test tool: give --code, or set {name}")
    forwarder: Forwarder[Any] = integration.forwarder(settings.model_copy(update={name: value}))
    assert isinstance(forwarder, HttpForwarder)
    return forwarder


async def verify(configuration: Configuration, name: str, value: bytes, code: str | None = None) -> list[Verdict]:
    """Ask the vendor about each delivery that an integration makes of an event (JSON text).

    Raises UnverifiableError.
    """
    forwarder = checking(configuration.integrations[name], code)
    explanation = explain(configuration, value, integrations=[name])
    if explanation.rejected:
        raise UnverifiableError(f"the event is rejected: {explanation.steps[-1].detail}")
    asking = _Asking(name, forwarder)
    await asking.client.open()
    try:
        verdicts = []
        for delivery in explanation.accounts[0].deliveries:
            taken = delivery.taken
            decided = taken.decided
            if decided is None or decided.value is None or taken.outcome != FORWARDED:
                verdicts.append(Verdict(taken.rule, None, taken.reason or str(taken.outcome)))
                continue
            item = item_of(DeliveryRecord.decode(decided.value))
            verdicts.append(await asking.ask(taken.rule, item, delivery.fields))
        return verdicts
    finally:
        await asking.client.close()


class _Asking:
    """Sends to one vendor like delivery does."""

    def __init__(self, name: str, forwarder: HttpForwarder[Any]) -> None:
        self._forwarder = forwarder
        self._mask = Mask(forwarder.settings)
        self.client = Client(1, SECONDS)
        self._tokens = Tokens(name, forwarder, self.client, clock=time.time, learn=self._mask.learn)

    async def ask(self, rule: str, item: Delivery, fields: Sequence[PayloadField]) -> Verdict:
        """Send one delivery, and return the vendor's verdict."""
        try:
            token = await self._tokens.get()
            request = self._forwarder.build_request([item])
            response = await self.client.send(authorize(request, token) if token else request)
        except NoTokenError as error:
            return Verdict(rule, error.result, f"without an access token: {error}")
        except (UnreachableError, UnsendableError) as error:
            return Verdict(rule, Retry(), f"no response: {error}")
        (result,) = self._forwarder.parse_response(response, [item])
        response = replace(response, body=self._mask(response.body.decode(errors="replace")).encode())
        said = response.json if response.json is not None else response.body[:4096].decode(errors="replace")
        lines = () if isinstance(result, Delivered) else tuple(_lines(said, fields))
        reason = self._mask(f"{result.reason} {result.detail}".strip()) if isinstance(result, PermanentFailure) else ""
        return Verdict(rule, result, reason, response.status, said, lines)


def _lines(said: Any, fields: Sequence[PayloadField]) -> Iterator[tuple[str, str]]:
    """The fields that the vendor's words name, by their whole place or its last step, however it spells them."""
    words = {_plain(word) for text in _texts(said) for word in re.findall(r"[\w$.\[\]-]+", text)}
    steps = {_plain(step) for word in words for step in re.split(r"[.\[\]]+", word)}
    for each in fields:
        if _plain(each.name) in words or _plain(re.split(r"[.\[\]]+", each.name.rstrip("]"))[-1]) in steps:
            yield each.name, each.where


def _plain(word: str) -> str:
    return word.replace("_", "").lower()


def _texts(said: Any) -> Iterator[str]:
    if isinstance(said, str):
        yield said
    elif isinstance(said, Mapping | list):
        for value in said.values() if isinstance(said, Mapping) else said:
            yield from _texts(value)
