"""The checks: each yields what is missing or wrong with a forwarder, in a line or more, and nothing if it holds."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from difflib import unified_diff
from typing import Any, Final, get_args
from urllib.parse import quote_plus, urlsplit

import orjson
from pydantic import BaseModel, SecretStr, ValidationError

from deploy.conformance.golden import Case, Golden, shown
from forwarders import contract
from forwarders.contract import (
    Answer,
    Forwarder,
    HttpForwarder,
    Item,
    Payload,
    Request,
    Result,
    Settings,
    WriterForwarder,
)
from forwarders.extras import extra
from streams.plurals import counted

Check = Callable[[Golden], Iterator[str]]

RESULTS: Final = get_args(contract.Result)
SECRET: Final = "s3cret"  # noqa: S105
"""What descriptions write for a secret."""


def contract_is_whole(golden: Golden) -> Iterator[str]:
    """The contract has the entry point's name, says where the vendor documents itself, and its limits agree."""
    facts = golden.forwarder.contract
    if facts.name != golden.name:
        yield f"contract.name is {facts.name!r}, the entry point's name is {golden.name!r}"
    if not facts.title:
        yield "contract.title is empty"
    if not facts.documentation.startswith("https://"):
        yield "contract.documentation is no https:// link"
    if not issubclass(facts.settings, Settings):
        yield "contract.settings is no Settings"
    if facts.payload is not None and not issubclass(facts.payload, Payload):
        yield "contract.payload is no Payload"
    if not 1 <= facts.limits.item_bytes <= facts.limits.bytes or facts.limits.items < 1:
        yield "contract.limits: at least one item fits, and an item is no larger than a request"
    if facts.validation is not None and facts.validation not in facts.settings.model_fields:
        yield f"contract.validation names no setting: {facts.validation!r}"
    if golden.forwarder.__doc__ in (None, Forwarder.__doc__, HttpForwarder.__doc__, WriterForwarder.__doc__):
        yield "the forwarder's class has no docstring"


def settings_are_accepted(golden: Golden) -> Iterator[str]:
    """The settings that the description accepts make a forwarder."""
    for number, settings in enumerate((golden.description["settings"], *golden.description.get("accepted", ())), 1):
        try:
            golden.make_from(settings)
        except ValidationError as error:
            yield f"accepted, {number}: {error}"


def settings_are_refused(golden: Golden) -> Iterator[str]:
    """Wrong settings, and unknown ones, are refused with a message that says why and quotes no value."""
    model = golden.forwarder.contract.settings
    unknown = {"settings": {**golden.description["settings"], "no_such_setting": 1}, "says": "Extra inputs"}
    for number, row in enumerate((*golden.description.get("refused", ()), unknown), 1):
        yield from (f"refused, {number}: {line}" for line in _refusal(model, row["settings"], row["says"]))


def settings_are_described(golden: Golden) -> Iterator[str]:
    """Every setting has the text that the documentation shows for it."""
    for name in _undescribed(golden.forwarder.contract.settings):
        yield f"{name} has no docstring below it"


def secrets_are_masked(golden: Golden) -> Iterator[str]:
    """No secret of the settings shows in the text of the settings, nor in that of a request."""
    forwarder = golden.make()
    shown_text = f"{forwarder.settings!r} {forwarder.settings} {forwarder.settings.model_dump_json()}"
    if isinstance(forwarder, HttpForwarder):
        shown_text += "".join(repr(forwarder.request([delivery])) for delivery in golden.deliveries()[:1])
    for secret in {SECRET, *_secrets(forwarder.settings)}:
        if secret in shown_text or quote_plus(secret) in shown_text:
            yield "a secret shows in a repr: is it a SecretStr?"


def preset_has_rules(golden: Golden) -> Iterator[str]:
    """The preset is there, reads without a mistake, and has a rule."""
    if not golden.preset.names:
        yield "the preset has no rule"


def payloads_fit_the_model(golden: Golden) -> Iterator[str]:
    """What the preset makes of the usual events is what the payload model takes."""
    deliveries = golden.deliveries()
    if not deliveries:
        yield "the preset sends nothing of the usual events"
    forwarder = golden.make()
    for delivery in deliveries:
        if complaint := forwarder.complaint(delivery.payload):
            yield f"{delivery.event or delivery.type}: {complaint}"


def payloads_are_refused(golden: Golden) -> Iterator[str]:
    """A payload that the vendor would refuse or lose is refused before it is sent."""
    model = golden.forwarder.contract.payload
    rows = golden.description.get("refused_payloads", ())
    if model is None:
        if rows:
            yield "there are refused_payloads, and no payload model"
        return
    for number, row in enumerate(rows, 1):
        yield from (f"refused_payloads, {number}: {line}" for line in _refusal(model, row["payload"], row["says"]))


def full_batch_keeps_the_limits(golden: Golden) -> Iterator[str]:
    """A request with as much as the contract allows is no larger than `most`, what the vendor documents."""
    forwarder = golden.make()
    if not isinstance(forwarder, HttpForwarder):
        return
    most = golden.description.get("most")
    if not isinstance(most, dict) or not {"items", "bytes"} <= most.keys():
        yield "most: write the vendor's own limits, {items: …, bytes: …}"
        return
    limits = forwarder.limits
    if limits.items > most["items"]:
        yield f"the contract allows {counted(limits.items, 'item')}, the vendor {most['items']}"
    for delivery in golden.deliveries():
        count = max(1, min(limits.items, limits.bytes // len(orjson.dumps(delivery.payload))))
        size = len(_encoded(forwarder.request([delivery] * count)))
        if size > most["bytes"]:
            yield f"{count} times {delivery.event or delivery.type} makes {size} bytes, more than {most['bytes']}"


def groups_are_stable(golden: Golden) -> Iterator[str]:
    """Equal payloads are of one group, which can be hashed."""
    forwarder = golden.make()
    for delivery in golden.deliveries() if isinstance(forwarder, HttpForwarder) else ():
        assert isinstance(forwarder, HttpForwarder)
        again = orjson.loads(orjson.dumps(delivery.payload))
        if hash(forwarder.group(delivery.payload)) != hash(forwarder.group(again)):
            yield f"{delivery.event or delivery.type}: equal payloads have two groups"


def requests_are_pure(golden: Golden) -> Iterator[str]:
    """The same deliveries give the same request on every attempt, and stay as they were."""
    for delivery in golden.deliveries():
        before, forwarders = orjson.dumps(delivery.payload), (golden.make(), golden.make())
        if not isinstance(forwarders[0], HttpForwarder):
            return
        first, second = (each.request([delivery]) for each in forwarders if isinstance(each, HttpForwarder))
        name = delivery.event or delivery.type
        if (first.method, first.url, first.headers, _encoded(first)) != (
            second.method,
            second.url,
            second.headers,
            _encoded(second),
        ):
            yield f"{name}: two attempts are two different requests"
        if orjson.dumps(delivery.payload) != before:
            yield f"{name}: request() changed the payload"


def hosts_are_the_settings_own(golden: Golden) -> Iterator[str]:
    """Whatever a payload says, its request goes to where the settings say."""
    forwarder = golden.make()
    for delivery in golden.deliveries() if isinstance(forwarder, HttpForwarder) else ():
        assert isinstance(forwarder, HttpForwarder)
        elsewhere = replace(delivery, payload=_everywhere(delivery.payload, "@elsewhere.example/#"))
        with suppress(KeyError, ValueError, TypeError):  # where rules could make no such payload
            hosts = [urlsplit(forwarder.request([each]).url).netloc for each in (delivery, elsewhere)]
            if len(set(hosts)) > 1:
                yield f"{delivery.event or delivery.type}: a value of the payload decides where the request goes"


def answers_are_read(golden: Golden) -> Iterator[str]:
    """Each documented answer is read as what it means, one result a delivery; the usual answers are among them."""
    if not issubclass(golden.forwarder, HttpForwarder):
        return
    rows = golden.description.get("answers", ())
    for number, row in enumerate(rows, 1):
        wanted = row["result"] if isinstance(row["result"], list) else [row["result"]] * row.get("items", 2)
        results = _read(golden, row, len(wanted))
        if [repr(result) for result in results] != wanted:
            yield f"answers, {number}: wanted {wanted}, read {results}"
    found = {word for row in rows for word in str(row["result"]).replace("[", "").split("(")[:1]}
    for result in ("Delivered", "Retry"):
        if result not in found:
            yield f"answers: none is read as {result}"


def any_answer_is_read(golden: Golden) -> Iterator[str]:
    """Whatever a vendor or what stands before it answers, there is one result a delivery."""
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
    several = (golden.description["settings"], *golden.description.get("accepted", ()))
    made = [golden.make_from(each) for each in several]
    quick = settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))

    @quick
    @given(st.integers(100, 599), st.binary(max_size=40) | data.map(orjson.dumps), st.integers(1, 4))
    def read(status: int, body: bytes, count: int) -> None:
        items = (golden.deliveries() * count)[:count]
        for forwarder in made:
            assert isinstance(forwarder, HttpForwarder)
            results = forwarder.read(Answer(status, {}, body), items)
            assert len(results) == len(items), (
                f"{counted(len(results), 'result')} for {counted(len(items), 'delivery', 'deliveries')}"
            )
            assert all(isinstance(result, RESULTS) for result in results), f"{results}"

    try:
        read()
    except Exception as error:  # noqa: BLE001  # whatever read() raised, with the answer that hypothesis notes
        notes = " ".join(getattr(error, "__notes__", ()))
        yield f"read() fails: {type(error).__name__}: {error} {notes}"


def poison_is_found(golden: Golden) -> Iterator[str]:
    """Of 16 deliveries with one that the vendor refuses, halving finds it in at most 9 requests; the others go in."""
    rows = golden.description.get("answers", ())
    whole = next((row for row in rows if row["result"] == "Split()" and row["status"] in (400, 422)), None)
    alone = next((row for row in rows if row.get("items") == 1 and whole and row["status"] == whole["status"]), None)
    if whole is None or alone is None or golden.forwarder.contract.limits.items < 2:
        return
    items = (golden.deliveries() * 16)[:16]
    for bad in (0, 7, 15):
        requests, dead, delivered = _halve(golden, items, bad, whole, alone)
        if requests > 9 or dead != [bad] or len(delivered) != 15:
            yield f"a bad delivery at {bad}: {counted(requests, 'request')}, dead {dead}, delivered {delivered}"


def _halve(
    golden: Golden, items: Sequence[Item], bad: int, whole: Mapping[str, Any], alone: Mapping[str, Any]
) -> tuple[int, list[int], list[int]]:
    """What delivery does, against a vendor that refuses any request with the bad one in it."""
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
        dead += [number for number, result in zip(batch, results, strict=True) if isinstance(result, contract.Dead)]
        if len(batch) > 1:
            middle = len(batch) // 2
            waiting += [batch[:middle], batch[middle:]]
    return requests, dead, delivered


def writes_are_previewed(golden: Golden) -> Iterator[str]:
    """A writer shows beforehand what it would write."""
    forwarder = golden.make()
    if isinstance(forwarder, WriterForwarder) and forwarder.preview(golden.deliveries()[:1]).method != "WRITE":
        yield "the preview's method is not WRITE"


def usual_events_are_covered(golden: Golden) -> Iterator[str]:
    """Every usual event has its outcome written down, in all its variants."""
    written = {(case.path.stem, case.variant) for case in golden.cases}
    for name, variant in golden.usual():
        if (name, variant) not in written:
            yield f"{name}.yaml has no {variant} (--update writes it)"


CHECKS: Final[tuple[Check, ...]] = (
    contract_is_whole,
    settings_are_accepted,
    settings_are_refused,
    settings_are_described,
    secrets_are_masked,
    preset_has_rules,
    payloads_fit_the_model,
    payloads_are_refused,
    full_batch_keeps_the_limits,
    groups_are_stable,
    requests_are_pure,
    hosts_are_the_settings_own,
    answers_are_read,
    any_answer_is_read,
    poison_is_found,
    writes_are_previewed,
    usual_events_are_covered,
)


def check_case(golden: Golden, case: Case) -> Iterator[str]:
    """The event becomes the rule, payload and request that are written down, to the letter."""
    made = {**case.given, **golden.outcome(case.event, **case.given.get("settings", {}))}
    if made != case.written:
        name = f"{case.path.name}, {case.variant}"
        before, after = shown(case.written).splitlines(), shown(made).splitlines()
        yield "\n".join(unified_diff(before, after, f"{name}: written", f"{name}: made", lineterm="", n=2))


def _refusal(model: type[BaseModel], data: Any, says: str) -> Iterator[str]:
    try:
        model.model_validate(data)
    except ValidationError as error:
        if says not in str(error):
            yield f"says {str(error)!r}, and not {says!r}"
        if SECRET in str(error):
            yield "the message quotes a secret"
    else:
        yield "was taken"


def _undescribed(model: type[BaseModel]) -> Iterator[str]:
    """The fields of a model, and of those within it, that say nothing of themselves."""
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
    """The same data with this text in place of every text."""
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
    return forwarder.read(Answer(row["status"], row.get("headers", {}), content), items)
