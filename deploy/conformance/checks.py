"""The conformance checks. Each yields a message per problem of a forwarder, and nothing if it passes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from difflib import unified_diff
from typing import Any, Final, get_args
from urllib.parse import quote_plus, urlsplit

import orjson
from pydantic import BaseModel, SecretStr, ValidationError

from deploy.conformance.golden import Golden, GoldenCase, shown
from forwarders.api import contract
from forwarders.api.contract import (
    Delivery,
    Forwarder,
    HttpForwarder,
    Payload,
    Request,
    Response,
    Result,
    Settings,
    WriterForwarder,
)
from forwarders.api.extras import extra
from streams.plurals import counted

Check = Callable[[Golden], Iterator[str]]

RESULTS: Final = get_args(contract.Result)
SECRET: Final = "s3cret"  # noqa: S105
"""The value that descriptions use for secrets."""


def contract_is_complete(golden: Golden) -> Iterator[str]:
    """The contract has the entry point's name, a link to the vendor's documentation, and consistent limits."""
    facts = golden.forwarder.contract
    if facts.name != golden.name:
        yield f"contract.name is {facts.name!r}, the entry point's name is {golden.name!r}"
    if not facts.title:
        yield "contract.title is empty"
    if not facts.documentation.startswith("https://"):
        yield "contract.documentation must be an https:// link"
    if not issubclass(facts.settings, Settings):
        yield "contract.settings must be a subclass of Settings"
    if facts.payload is not None and not issubclass(facts.payload, Payload):
        yield "contract.payload must be a subclass of Payload"
    if not 1 <= facts.limits.item_bytes <= facts.limits.bytes or facts.limits.items < 1:
        yield "contract.limits: items must be at least 1, and item_bytes at most bytes"
    if facts.validation_setting is not None and facts.validation_setting not in facts.settings.model_fields:
        yield f"contract.validation_setting: unknown setting {facts.validation_setting!r}"
    if golden.forwarder.__doc__ in (None, Forwarder.__doc__, HttpForwarder.__doc__, WriterForwarder.__doc__):
        yield "the forwarder's class has no docstring"


def settings_are_accepted(golden: Golden) -> Iterator[str]:
    """The description's valid settings are accepted."""
    several = (golden.description["settings"], *golden.description.get("valid_settings", ()))
    for number, settings in enumerate(several, 1):
        try:
            golden.make_from(settings)
        except ValidationError as error:
            yield f"valid_settings, {number}: {error}"


def settings_are_rejected(golden: Golden) -> Iterator[str]:
    """Invalid and unknown settings are rejected with the expected error, which quotes no secret."""
    model = golden.forwarder.contract.settings
    unknown = {"settings": {**golden.description["settings"], "no_such_setting": 1}, "error": "Extra inputs"}
    for number, row in enumerate((*golden.description.get("invalid_settings", ()), unknown), 1):
        yield from (f"invalid_settings, {number}: {line}" for line in _refusal(model, row["settings"], row["error"]))


def settings_are_described(golden: Golden) -> Iterator[str]:
    """Every setting has a docstring, which is its description in the documentation."""
    for name in _undescribed(golden.forwarder.contract.settings):
        yield f"{name} has no docstring below it"


def secrets_are_masked(golden: Golden) -> Iterator[str]:
    """The repr of settings and requests shows no secret."""
    forwarder = golden.make()
    shown_text = f"{forwarder.settings!r} {forwarder.settings} {forwarder.settings.model_dump_json()}"
    if isinstance(forwarder, HttpForwarder):
        shown_text += "".join(repr(forwarder.build_request([delivery])) for delivery in golden.deliveries()[:1])
    for secret in {SECRET, *_secrets(forwarder.settings)}:
        if secret in shown_text or quote_plus(secret) in shown_text:
            yield "a repr shows a secret: declare it as SecretStr"


def preset_has_rules(golden: Golden) -> Iterator[str]:
    """The preset exists, is valid, and has at least one rule."""
    if not golden.preset.names:
        yield "the preset has no rules"


def payloads_fit_the_model(golden: Golden) -> Iterator[str]:
    """The payloads that the preset makes of the usual events are valid."""
    deliveries = golden.deliveries()
    if not deliveries:
        yield "the preset sends none of the usual events"
    forwarder = golden.make()
    for delivery in deliveries:
        if error := forwarder.validate(delivery.payload):
            yield f"{delivery.event or delivery.type}: {error}"


def payloads_are_rejected(golden: Golden) -> Iterator[str]:
    """The description's invalid payloads are rejected with the expected error."""
    model = golden.forwarder.contract.payload
    rows = golden.description.get("invalid_payloads", ())
    if model is None:
        if rows:
            yield "invalid_payloads: the contract has no payload model"
        return
    for number, row in enumerate(rows, 1):
        yield from (f"invalid_payloads, {number}: {line}" for line in _refusal(model, row["payload"], row["error"]))


def full_batch_keeps_the_limits(golden: Golden) -> Iterator[str]:
    """The largest request that the contract allows is within `vendor_limits`, which the vendor documents."""
    forwarder = golden.make()
    if not isinstance(forwarder, HttpForwarder):
        return
    vendor = golden.description.get("vendor_limits")
    if not isinstance(vendor, dict) or not {"items", "bytes"} <= vendor.keys():
        yield "vendor_limits: write the limits that the vendor documents, {items: …, bytes: …}"
        return
    limits = forwarder.limits
    if limits.items > vendor["items"]:
        yield f"the contract allows {counted(limits.items, 'item')}, the vendor {vendor['items']}"
    for delivery in golden.deliveries():
        count = max(1, min(limits.items, limits.bytes // len(orjson.dumps(delivery.payload))))
        size = len(_encoded(forwarder.build_request([delivery] * count)))
        if size > vendor["bytes"]:
            name = delivery.event or delivery.type
            yield f"a request with {count} deliveries of {name} has {size} bytes, more than {vendor['bytes']}"


def group_keys_are_stable(golden: Golden) -> Iterator[str]:
    """Equal payloads have the same group key, and it is hashable."""
    forwarder = golden.make()
    for delivery in golden.deliveries() if isinstance(forwarder, HttpForwarder) else ():
        assert isinstance(forwarder, HttpForwarder)
        again = orjson.loads(orjson.dumps(delivery.payload))
        if hash(forwarder.group_key(delivery.payload)) != hash(forwarder.group_key(again)):
            yield f"{delivery.event or delivery.type}: equal payloads have different group keys"


def requests_are_pure(golden: Golden) -> Iterator[str]:
    """The same deliveries give the same request on every attempt, and are not modified."""
    for delivery in golden.deliveries():
        before, forwarders = orjson.dumps(delivery.payload), (golden.make(), golden.make())
        if not isinstance(forwarders[0], HttpForwarder):
            return
        first, second = (each.build_request([delivery]) for each in forwarders if isinstance(each, HttpForwarder))
        name = delivery.event or delivery.type
        if (first.method, first.url, first.headers, _encoded(first)) != (
            second.method,
            second.url,
            second.headers,
            _encoded(second),
        ):
            yield f"{name}: two attempts build different requests"
        if orjson.dumps(delivery.payload) != before:
            yield f"{name}: build_request() changed the payload"


def payload_cannot_change_host(golden: Golden) -> Iterator[str]:
    """No value of a payload changes the host that the request is sent to."""
    forwarder = golden.make()
    for delivery in golden.deliveries() if isinstance(forwarder, HttpForwarder) else ():
        assert isinstance(forwarder, HttpForwarder)
        elsewhere = replace(delivery, payload=_everywhere(delivery.payload, "@elsewhere.example/#"))
        with suppress(KeyError, ValueError, TypeError):  # if rules cannot make such a payload
            hosts = [urlsplit(forwarder.build_request([each]).url).netloc for each in (delivery, elsewhere)]
            if len(set(hosts)) > 1:
                yield f"{delivery.event or delivery.type}: a value of the payload changes the host of the request"


def responses_are_parsed(golden: Golden) -> Iterator[str]:
    """Each documented response gives the expected results; a success and a temporary failure are among them."""
    if not issubclass(golden.forwarder, HttpForwarder):
        return
    rows = golden.description.get("responses", ())
    for number, row in enumerate(rows, 1):
        expected = row["result"] if isinstance(row["result"], list) else [row["result"]] * row.get("items", 2)
        for old in {name for each in expected if (name := str(each).split("(")[0]) in contract.RENAMED}:
            yield f"responses, {number}: {old} was renamed to {contract.RENAMED[old]}"
        results = _read(golden, row, len(expected))
        if [repr(result) for result in results] != expected:
            yield f"responses, {number}: expected {expected}, got {results}"
    found = {word for row in rows for word in str(row["result"]).replace("[", "").split("(")[:1]}
    for result in ("Delivered", "Retry"):
        if result not in found:
            yield f"responses: add a response that gives {result}"


def any_response_is_parsed(golden: Golden) -> Iterator[str]:
    """Any response, even from a proxy, gives one result per delivery."""
    if not issubclass(golden.forwarder, HttpForwarder) or not golden.deliveries():
        return
    with extra("conformance"):
        from hypothesis import HealthCheck, given, settings
        from hypothesis import strategies as st
    words = "code data elements error errors events failed_records fieldPath index message status validationMessages"
    leaves = st.none() | st.booleans() | st.integers(-9, 3000) | st.text(max_size=5)
    keys = st.sampled_from(words.split()) | st.text(max_size=5)
    data = st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4), max_leaves=8
    )
    several = (golden.description["settings"], *golden.description.get("valid_settings", ()))
    made = [golden.make_from(each) for each in several]
    quick = settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))

    @quick
    @given(st.integers(100, 599), st.binary(max_size=40) | data.map(orjson.dumps), st.integers(1, 4))
    def parse(status: int, body: bytes, count: int) -> None:
        items = (golden.deliveries() * count)[:count]
        for forwarder in made:
            assert isinstance(forwarder, HttpForwarder)
            results = forwarder.parse_response(Response(status, {}, body), items)
            assert len(results) == len(items), (
                f"{counted(len(results), 'result')} for {counted(len(items), 'delivery', 'deliveries')}"
            )
            assert all(isinstance(result, RESULTS) for result in results), f"{results}"

    try:
        parse()
    except Exception as error:  # noqa: BLE001  # a forwarder's code may raise anything
        notes = " ".join(getattr(error, "__notes__", ()))
        yield f"parse_response() fails: {type(error).__name__}: {error} {notes}"


def poison_is_found(golden: Golden) -> Iterator[str]:
    """Bisection finds one invalid delivery among 16 in at most 9 requests, and delivers the others."""
    rows = golden.description.get("responses", ())
    whole = next((row for row in rows if row["result"] == "Split()" and row["status"] in (400, 422)), None)
    alone = next((row for row in rows if row.get("items") == 1 and whole and row["status"] == whole["status"]), None)
    if whole is None or alone is None or golden.forwarder.contract.limits.items < 2:
        return
    items = (golden.deliveries() * 16)[:16]
    for bad in (0, 7, 15):
        requests, dead, delivered = _halve(golden, items, bad, whole, alone)
        if requests > 9 or dead != [bad] or len(delivered) != 15:
            yield f"an invalid delivery at {bad}: {counted(requests, 'request')}, dead {dead}, delivered {delivered}"


def _halve(
    golden: Golden, items: Sequence[Delivery], bad: int, whole: Mapping[str, Any], alone: Mapping[str, Any]
) -> tuple[int, list[int], list[int]]:
    """Bisect like delivery does, against a vendor that rejects any request with the invalid delivery."""
    requests = 0
    dead: list[int] = []
    delivered: list[int] = []
    waiting = [range(len(items))]
    while waiting:
        batch = waiting.pop()
        requests += 1
        if bad not in batch:
            delivered += batch
            continue
        results = _read(golden, alone if len(batch) == 1 else whole, len(batch))
        dead += [
            number
            for number, result in zip(batch, results, strict=True)
            if isinstance(result, contract.PermanentFailure)
        ]
        if len(batch) > 1:
            middle = len(batch) // 2
            waiting += [batch[:middle], batch[middle:]]
    return requests, dead, delivered


def writes_are_previewed(golden: Golden) -> Iterator[str]:
    """A writer can show what it would write."""
    forwarder = golden.make()
    if isinstance(forwarder, WriterForwarder) and forwarder.preview(golden.deliveries()[:1]).method != "WRITE":
        yield "the method of preview() is not WRITE"


def usual_events_are_covered(golden: Golden) -> Iterator[str]:
    """Every variant of every usual event has an expected outcome."""
    written = {(case.path.stem, case.variant) for case in golden.cases}
    for name, variant in golden.usual():
        if (name, variant) not in written:
            yield f"{name}.yaml has no {variant} (--update writes it)"


CHECKS: Final[tuple[Check, ...]] = (
    contract_is_complete,
    settings_are_accepted,
    settings_are_rejected,
    settings_are_described,
    secrets_are_masked,
    preset_has_rules,
    payloads_fit_the_model,
    payloads_are_rejected,
    full_batch_keeps_the_limits,
    group_keys_are_stable,
    requests_are_pure,
    payload_cannot_change_host,
    responses_are_parsed,
    any_response_is_parsed,
    poison_is_found,
    writes_are_previewed,
    usual_events_are_covered,
)


def check_case(golden: Golden, case: GoldenCase) -> Iterator[str]:
    """The event gives exactly the expected rule, payload and request."""
    made = {**case.given, **golden.outcome(case.event, **case.given.get("settings", {}))}
    if made != case.written:
        name = f"{case.path.name}, {case.variant}"
        before, after = shown(case.written).splitlines(), shown(made).splitlines()
        yield "\n".join(unified_diff(before, after, f"{name}: expected", f"{name}: actual", lineterm="", n=2))


def _refusal(model: type[BaseModel], data: Any, message: str) -> Iterator[str]:
    try:
        model.model_validate(data)
    except ValidationError as error:
        if message not in str(error):
            yield f"the error is {str(error)!r}, expected {message!r}"
        if SECRET in str(error):
            yield "the error quotes a secret"
    else:
        yield "was accepted"


def _undescribed(model: type[BaseModel]) -> Iterator[str]:
    """Yield the fields of a model and its nested models that have no description."""
    for field, facts in model.model_fields.items():
        if field != "type" and not facts.description:
            yield f"{model.__name__}.{field}"
        for inner in (facts.annotation, *get_args(facts.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from _undescribed(inner)


def _secrets(model: BaseModel) -> Iterator[str]:
    for value in dict(model).values():
        if isinstance(value, SecretStr):
            yield value.get_secret_value()
        elif isinstance(value, BaseModel):
            yield from _secrets(value)


def _everywhere(data: Any, text: str) -> Any:
    """Return the data with every text replaced."""
    if isinstance(data, Mapping):
        return {key: _everywhere(value, text) for key, value in data.items()}
    if isinstance(data, list):
        return [_everywhere(value, text) for value in data]
    return text if isinstance(data, str) else data


def _encoded(request: Request) -> bytes:
    return request.body if isinstance(request.body, bytes) else orjson.dumps(request.body)


def _read(golden: Golden, row: Mapping[str, Any], count: int) -> Sequence[Result]:
    forwarder = golden.make(**row.get("settings", {}))
    assert isinstance(forwarder, HttpForwarder)
    body = row.get("body", b"")
    content = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else orjson.dumps(body)
    items = (golden.deliveries() * count)[:count]
    return forwarder.parse_response(Response(row["status"], row.get("headers", {}), content), items)
