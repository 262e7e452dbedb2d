"""What every forwarder must hold: one suite over the whole registry, with the data of each one's `forwarder.yaml`."""

from collections.abc import Iterator, Mapping
from typing import Any, get_args
from urllib.parse import quote_plus

import orjson
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr, ValidationError

from forwarders import contract, registry
from forwarders.contract import Answer, Forwarder, HttpForwarder, Item, Payload, Request, Settings, WriterForwarder
from tests.forwarders import golden

NAMES = registry.names()
HTTP = [name for name in NAMES if issubclass(registry.find(name), HttpForwarder)]
RESULTS = contract.Delivered | contract.Retry | contract.Throttled | contract.Dead | contract.Split | contract.Auth


def of(key: str) -> list[Any]:
    """The rows under a key of each description, each with the forwarder's name."""
    return [
        pytest.param(name, row, id=f"{name}-{number}")
        for name in NAMES
        for number, row in enumerate(golden.description(name).get(key, ()), 1)
    ]


def make_http(name: str, **settings: Any) -> HttpForwarder[Any]:
    forwarder = golden.make(name, **settings)
    assert isinstance(forwarder, HttpForwarder)
    return forwarder


def make_from(name: str, settings: Mapping[str, Any]) -> HttpForwarder[Any]:
    found = registry.find(name)
    assert issubclass(found, HttpForwarder)
    return found(found.contract.settings.model_validate(settings))


def deliveries(name: str) -> list[Item]:
    """A delivery for each usual event that the preset sends."""
    return [
        golden.item(event, written["payload"])
        for _, _, written, event in golden.cases(name)
        if "payload" in written and "settings" not in written
    ]


@pytest.mark.parametrize("name", NAMES)
def test_contract(name: str) -> None:
    """The contract is whole: its name is the entry point's, and it says where the vendor documents itself."""
    forwarder = registry.find(name)
    facts = forwarder.contract
    assert facts.name == name
    assert facts.title
    assert facts.documentation.startswith("https://")
    assert issubclass(facts.settings, Settings)
    assert facts.payload is None or issubclass(facts.payload, Payload)
    assert facts.limits.items >= 1
    assert 1 <= facts.limits.item_bytes <= facts.limits.bytes
    assert forwarder.__doc__ not in (None, Forwarder.__doc__)


@pytest.mark.parametrize(("name", "row"), of("accepted"))
def test_settings_accepted(name: str, row: Mapping[str, Any]) -> None:
    """Documented settings make a forwarder."""
    found = registry.find(name)
    found(found.contract.settings.model_validate(row))


@pytest.mark.parametrize(("name", "row"), of("refused"))
def test_settings_refused(name: str, row: Mapping[str, Any]) -> None:
    """Wrong settings are refused with a message that says why, and that quotes no value."""
    with pytest.raises(ValidationError) as refused:
        registry.find(name).contract.settings.model_validate(row["settings"])
    assert row["says"] in str(refused.value)
    assert "s3cret" not in str(refused.value)


def undescribed(model: type[BaseModel]) -> Iterator[str]:
    """The fields of a model, and of those within it, that say nothing of themselves."""
    for field, facts in model.model_fields.items():
        if field != "type" and not facts.description:
            yield f"{model.__name__}.{field}"
        for inner in (facts.annotation, *get_args(facts.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from undescribed(inner)


@pytest.mark.parametrize("name", NAMES)
def test_settings_are_described(name: str) -> None:
    """Every setting has the text that the documentation shows for it."""
    assert not list(undescribed(registry.find(name).contract.settings))


@pytest.mark.parametrize("name", NAMES)
def test_unknown_setting_refused(name: str) -> None:
    """A setting that the forwarder does not have is refused."""
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        golden.make(name, no_such_setting=1)


def secrets(model: BaseModel) -> Iterator[str]:
    for value in dict(model).values():
        if isinstance(value, SecretStr):
            yield value.get_secret_value()
        elif isinstance(value, BaseModel):
            yield from secrets(value)


@pytest.mark.parametrize("name", NAMES)
def test_secrets_masked(name: str) -> None:
    """No secret of the settings shows in the text of the settings or of a request."""
    forwarder = golden.make(name)
    shown = f"{forwarder.settings!r} {forwarder.settings} {forwarder.settings.model_dump_json()}"
    if isinstance(forwarder, HttpForwarder):
        shown += repr(forwarder.request(deliveries(name)[:1]))
    for secret in secrets(forwarder.settings):
        assert secret not in shown
        assert quote_plus(secret) not in shown


@pytest.mark.parametrize("name", NAMES)
def test_preset_reads_without_mistakes(name: str) -> None:
    """The preset is there, compiles, and has a rule."""
    assert golden.preset(name).names


@pytest.mark.parametrize("name", NAMES)
def test_preset_payloads_fit_the_model(name: str) -> None:
    """What the preset makes of the usual events is what the vendor's payload model takes."""
    model = registry.find(name).contract.payload
    made = deliveries(name)
    assert made
    for delivery in made:
        if model is not None:
            model.model_validate(delivery.payload)


@pytest.mark.parametrize(("name", "row"), of("refused_payloads"))
def test_payload_refused(name: str, row: Mapping[str, Any]) -> None:
    """A payload that the vendor would refuse or lose is refused before it is sent."""
    model = registry.find(name).contract.payload
    assert model is not None
    with pytest.raises(ValidationError) as refused:
        model.model_validate(row["payload"])
    assert row["says"] in str(refused.value)


def encoded(request: Request) -> bytes:
    return request.body if isinstance(request.body, bytes) else orjson.dumps(request.body)


@pytest.mark.parametrize("name", HTTP)
def test_full_batch_keeps_the_vendors_limits(name: str) -> None:
    """A request with as many items and bytes as the contract allows is no larger than the vendor documents."""
    forwarder = make_http(name)
    limits, most = forwarder.limits, golden.description(name)["most"]
    assert limits.items <= most["items"]
    for delivery in deliveries(name):
        size = len(orjson.dumps(delivery.payload))
        count = max(1, min(limits.items, limits.bytes // size))
        assert len(encoded(forwarder.request([delivery] * count))) <= most["bytes"]


@pytest.mark.parametrize("name", HTTP)
def test_group_of_equal_payloads(name: str) -> None:
    """A group can be compared and hashed, and equal payloads are of one group."""
    forwarder = make_http(name)
    for delivery in deliveries(name):
        again = orjson.loads(orjson.dumps(delivery.payload))
        assert hash(forwarder.group(delivery.payload)) == hash(forwarder.group(again))
        assert forwarder.group(delivery.payload) == forwarder.group(again)


@pytest.mark.parametrize("name", HTTP)
def test_request_is_pure(name: str) -> None:
    """The same items give the same request, whoever made it, and stay as they were."""
    for delivery in deliveries(name):
        before = orjson.dumps(delivery.payload)
        first, second = make_http(name).request([delivery]), make_http(name).request([delivery])
        assert (first.method, first.url, first.headers) == (second.method, second.url, second.headers)
        assert encoded(first) == encoded(second)
        assert orjson.dumps(delivery.payload) == before


@pytest.mark.parametrize(("name", "row"), of("answers"))
def test_answer(name: str, row: Mapping[str, Any]) -> None:
    """Each documented answer is read as what it means, one result an item."""
    forwarder = make_http(name, **row.get("settings", {}))
    body = row.get("body", b"")
    content = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else orjson.dumps(body)
    wanted = row["result"] if isinstance(row["result"], list) else [row["result"]] * row.get("items", 2)
    made = deliveries(name)
    items = (made * len(wanted))[: len(wanted)]
    results = forwarder.read(Answer(row["status"], row.get("headers", {}), content), items)
    assert [repr(result) for result in results] == wanted


KEYS = "code data error errors events failed_records fieldPath index message status validationCode validationMessages"
ANSWERS = st.binary(max_size=40) | st.recursive(
    st.none() | st.booleans() | st.integers(-9, 3000) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS.split()) | st.text(max_size=5),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
).map(orjson.dumps)


@pytest.mark.parametrize("name", HTTP)
@hypothesis_settings(max_examples=40)
@given(status=st.integers(100, 599), body=ANSWERS, count=st.integers(1, 4))
def test_any_answer_is_read(name: str, status: int, body: bytes, count: int) -> None:
    """Whatever a vendor or what stands before it answers, there is one result an item."""
    items = (deliveries(name) * count)[:count]
    description = golden.description(name)
    for settings in (description["settings"], *description["accepted"]):
        results = make_from(name, settings).read(Answer(status, {}, body), items)
        assert len(results) == count
        assert all(isinstance(result, RESULTS) for result in results)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in HTTP])
def test_preview(name: str) -> None:
    """A writer shows beforehand what it would write."""
    forwarder = golden.make(name)
    assert isinstance(forwarder, WriterForwarder)
    assert forwarder.preview(deliveries(name)[:1]).method == "WRITE"
