"""The catalog has names and types of sampled events, bounded, and neither values nor names that identify a person."""

import asyncio
import tracemalloc
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka import KafkaProducer

from streams.kafka.settings import Broker
from streams.ledger import catalog
from streams.ledger.catalog import OTHER, CatalogBounds, CatalogRow, safe_name, sample_of
from streams.ledger.ingester import Ingester
from streams.ledger.sampler import EventSampler
from streams.ledger.sqlite_store import SqliteStore
from streams.ledger.store import LedgerBatch
from streams.records.event import event_headers
from streams.records.run_header import Kind
from streams.topics import Topics
from tests.support import fuzzing
from tests.support.reading import until

ORDER = Kind("web", "track", "Order")


def event(properties: Any, **fields: Any) -> bytes:
    return orjson.dumps({"type": "track", "event": "Order", "userId": "u-1", "properties": properties, **fields})


def test_a_sample_has_paths_and_types_and_no_value():
    """Objects and the first elements of lists are looked into, up to three levels."""
    data = {
        "total": 1.5,
        "ok": True,
        "coupon": None,
        "items": [{"sku": "A-1", "n": 2}, {"sku": 3}],
        "a": {"b": {"c": {}}},
    }
    sample = sample_of(event(data), "web", 7)
    assert sample is not None
    assert (sample.kind, sample.second) == (ORDER, 7)
    assert sorted(sample.properties) == [
        ("properties.a", "object"), ("properties.a.b", "object"), ("properties.a.b.c", "object"),
        ("properties.coupon", "null"), ("properties.items", "array"), ("properties.items[].n", "number"),
        ("properties.items[].sku", "number"), ("properties.items[].sku", "string"), ("properties.ok", "boolean"),
        ("properties.total", "number"),
    ]  # fmt: skip
    assert sample_of(event("text", traits={"email": "a@b.example"}), "web", 7) == (
        ORDER, (("traits.email", "string"),), 7,
    )  # fmt: skip
    for invalid in (None, b"", b"{", b"[]", b'{"type": 3}', b'{"type": "track", "properties": {"a":'):
        assert sample_of(invalid, "web", 7) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("total", "total"), ("utm_source", "utm_source"), ("address2", "address2"), ("Größe", "Größe"),
        ("user_4711", "user_#"), ("2026-11-29", "(id)"), ("jane@mail.example", "(id)"), ("a\x1b[31m", "(id)"),
        ("7f3a0b9c-11aa-4f00-9d2e-aa00bb11cc22", "(id)"), ("cjld2cjxh0000qzrmn831i7rn", "(id)"), ("x" * 65, "(id)"),
    ],
)  # fmt: skip
def test_names_that_look_like_ids_are_replaced(name: str, expected: str):
    """Digits become `#`; addresses, keys and long names are replaced as a whole."""
    assert safe_name(name) == expected


@settings(max_examples=fuzzing.examples(50))
@given(st.recursive(st.one_of(st.none(), st.booleans(), st.integers(-9, 2**70), st.floats(), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner))))  # fmt: skip
def test_any_json_is_sampled(value: Any):
    """Whatever an event contains, names and types come out of it, or nothing."""
    text = orjson.dumps({"type": "track", "properties": value, "traits": value}) if _fits(value) else b"1" * 99
    sample = sample_of(text, "web", 0)
    assert sample is None or all(len(path) < 300 for path, _ in sample.properties)


def _fits(value: Any) -> bool:
    try:
        orjson.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def test_hostile_events_are_bounded(tmp_path: Path):
    """10,000 fields of each event, with names of their own: rows and memory stay within the bounds."""
    store = SqliteStore(tmp_path, None, 7)
    letters = "abcdefghijklmnopqrstuvwxyz"

    def word(number: int) -> str:
        return "".join(letters[number // 26**place % 26] for place in range(5))

    def send(first: int, count: int) -> None:
        for number in range(first, first + count):
            properties = dict.fromkeys((word(number * 10_000 + at) for at in range(10_000)), 1)
            sample = sample_of(event(properties, event=word(number)), "web", 0)
            assert sample is not None
            assert len(sample.properties) == catalog.MAX_VISITED
            store.write(LedgerBatch(samples=[sample]))

    monkeypatched = catalog.MAX_KINDS, catalog.MAX_PROPERTIES, catalog.MAX_ROWS
    catalog.MAX_KINDS, catalog.MAX_PROPERTIES, catalog.MAX_ROWS = 20, 30, 400
    try:
        send(0, 25)
        tracemalloc.start()
        send(25, 3)
        grown = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
    finally:
        catalog.MAX_KINDS, catalog.MAX_PROPERTIES, catalog.MAX_ROWS = monkeypatched
    rows = store.catalog()
    assert len(rows) <= 400 + 2 * 21
    assert sum(row.number for row in rows if row.property == "") == 28
    assert {row.kind.name for row in rows} >= {OTHER}
    assert any(row.property == OTHER for row in rows)
    assert grown < 1_000_000
    store.close()


def test_the_catalog_survives_a_restart_and_expires(tmp_path: Path):
    """Numbers accumulate, first and last time are kept, and unseen properties are removed after 13 months."""
    for second, properties in ((100, {"a": 1}), (200, {"a": "x", "b": 1})):
        with closing(SqliteStore(tmp_path, None, 7)) as store:
            sample = sample_of(event(properties), "web", second)
            assert sample is not None
            store.write(LedgerBatch(samples=[sample]))
    with closing(SqliteStore(tmp_path, None, 7)) as store:
        assert sorted(store.catalog()) == [
            CatalogRow(ORDER, "", "object", 2, 100, 200),
            CatalogRow(ORDER, "properties.a", "number", 1, 100, 100),
            CatalogRow(ORDER, "properties.a", "string", 1, 200, 200),
            CatalogRow(ORDER, "properties.b", "number", 1, 200, 200),
        ]
        store.expire(150 + 396 * 24 * 3600)
        assert sorted(row.property for row in store.catalog()) == ["", "properties.a", "properties.b"]


def test_a_property_counts_once_per_event():
    """Several properties beyond the bound are one `(other)` of the event, so that no share exceeds 1."""
    bounds = CatalogBounds([(ORDER, f"p{number}") for number in range(catalog.MAX_PROPERTIES)])
    sample = sample_of(event({"x": 1, "y": 2}), "web", 5)
    assert sample is not None
    assert [row[1:4] for row in bounds.sums([sample, sample])] == [("", "object", 2), (OTHER, "number", 2)]


@pytest.mark.anyio
async def test_the_sample_is_bounded_however_many_events_come(broker: Broker, topics: Topics, tmp_path: Path):
    """Of 2,000 events at most the set number per second is taken; names and sources come from the records."""
    store = SqliteStore(tmp_path, None, 7)
    sampler = EventSampler(broker, {topics.events: None}, 20)
    ingester = Ingester(broker, topics, store, sampler)
    running = asyncio.create_task(ingester.run())
    producer = KafkaProducer(**broker.client(), enable_idempotence=broker.idempotent)

    def sampled() -> int:
        return sum(row.number for row in store.catalog() if row.property == "")

    ticks = 0
    async with asyncio.timeout(120):
        while not sampled():
            ticks += 1
            for number in range(1000):
                value = event({"total": number})
                producer.send(topics.events, value, headers=event_headers("web"), partition=number % 3)
            await asyncio.to_thread(producer.flush)
            await asyncio.sleep(0.5)
    await until(lambda: sampled() >= 20)
    ingester.stop()
    await running
    producer.close()
    assert {row[:3] for row in store.catalog()} == {
        (ORDER, "", "object"), (ORDER, "properties.total", "number"),
    }  # fmt: skip
    assert sampled() <= 20 * (ticks + 2)
    store.close()
