"""The ledger of a real router and its deliveries: every event has its story, and the books balance."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from forwarders.api.contract import Response
from streams.ledger.audit import KafkaBounds, audit, resolve
from streams.ledger.intake import RecordIntake
from streams.ledger.lookup import places_of_message, places_of_user, story_of
from streams.ledger.sqlite_store import SqliteStore
from streams.records.event import Origin
from streams.routing.ruleset import Route, RuleSet
from streams.sources.source import Source, Sources
from tests.support import golden
from tests.support.in_process import TOPICS, Pipeline
from tests.support.local_producer import LocalRecord
from transforms import read_rules
from transforms.documents import Document

pytestmark = pytest.mark.anyio

TIME_MS = 1_790_000_000_000
RULES = """
rules:
  - {name: beat, when: 'event = "Heartbeat"', drop: true}
  - {name: broken, when: 'event = "Broken"', map: {a: {"@number": $.properties.text}}}
otherwise: {event: $.event}
"""


def event(offset: int, message_id: str, name: str, **fields: Any) -> LocalRecord:
    value = {
        "type": "track",
        "event": name,
        "userId": f"u-{offset}",
        "messageId": message_id,
        "properties": {"text": "x"},
        **fields,
    }
    return record(offset, orjson.dumps(value))


def record(offset: int, value: bytes | None, *headers: tuple[str, bytes]) -> LocalRecord:
    named = headers or (("turnout-source", b"web"),)
    return LocalRecord(TOPICS.events, 0, offset, TIME_MS, b"u-%d" % offset, value, named)


EVENTS = [
    event(0, "m-0", "Order"),
    event(1, "m-1", "Heartbeat"),
    event(2, "m-0", "Order"),
    record(3, b"{broken"),
    record(4, None),
    record(5, b"{}", ("turnout-version", b"99")),
    event(6, "m-6", "Broken"),
    event(7, "m-7", "Order", type="unknown"),
    # Transaction markers take offsets.
    event(20, "m-20", "Order"),
]


@pytest.fixture
async def pipeline(tmp_path: Path):
    rules, errors = read_rules(Document.parse(RULES, "webhook.yaml"))
    assert rules, errors
    route = Route("webhook", TOPICS.forward("webhook"), rules.apply)
    sources = Sources([Source.of("web", [])])
    (tmp_path / "file").mkdir()
    pipeline = Pipeline(RuleSet("v1", sources, [route]), {"webhook": golden.of("webhook").make()}, tmp_path / "file")
    await pipeline.start()
    yield pipeline
    await pipeline.stop()


async def test_every_event_of_a_run_is_in_the_ledger(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Delivered, dropped, repeated, broken, empty and dead events: all were read, and each has one end."""

    async def answer(*_: object) -> Response:
        return Response(200, {}, b"{}")

    monkeypatch.setattr("streams.delivery.http.client.Client.send", answer)
    fates = await pipeline.take(EVENTS)
    store = SqliteStore(tmp_path / "ledger", b"key", 7)
    intake = RecordIntake(TOPICS)
    for topic in intake.topics:
        for kept in pipeline.producer.records.get(topic, []):
            intake.take(kept._replace(timestamp=TIME_MS))
    store.write(intake.finish())

    report = audit(store, KafkaBounds({(TOPICS.events, 0): (0, 21)}, {}, {}), {"v1": ["webhook"]}.get)
    assert report.gaps == {(TOPICS.events, 0): [(8, 19)]}
    resolve(report, lambda *_: [])
    assert report.balanced
    assert (report.events, report.rejected) == (len(EVENTS), 3)

    assert [place.offset for place in places_of_message(store, "m-0")] == [0, 2]
    assert [place.offset for place in places_of_message(store, "m-7")] == [7], "a rejected event's id is read leniently"
    assert [place.offset for place in places_of_user(store, "u-3")] == [3], "the key of a broken event is known"
    for offset, fate in fates.items():
        story = story_of(store, Origin(TOPICS.events, 0, offset))
        assert story is not None
        assert story.rules == ["v1"]
        assert {story.rejected} - {None} == fate.get("", set())
        assert {outcome.outcome for outcome in story.outcomes} == fate.get("webhook", set())
    story = story_of(store, Origin(TOPICS.events, 0, 20))
    assert story is not None
    assert story.kind == ("web", "track", "Order")
    store.close()
