"""Events that go to Kafka directly, on a real broker."""

import re
import subprocess
import sys
from uuid import uuid4

import orjson
import pytest

from streams.kafka.admin import create_topics
from streams.kafka.partition import make_partitioner
from streams.kafka.settings import Broker
from streams.topics import Topics
from tests.support import tansu
from tests.support.ports import free_port
from tests.support.reading import read
from turnout_tracking import Kafka, Tracker, destinations

pytestmark = pytest.mark.anyio


async def test_events_are_in_the_events_topic():
    """Each is one record, of the source, under its user's key, in the partition that the collector would choose."""
    with tansu.running() as broker:
        topics = Topics(prefix=f"t{uuid4().hex[:8]}", partitions=3)
        create_topics(broker, topics.declared([]), replication=1, timeout=60)
        tracker = Tracker(
            Kafka(broker.bootstrap, source="web", prefix=topics.prefix, options={"enable_idempotence": False})
        )
        for number in range(20):
            tracker.send({"type": "track", "event": "E", "userId": f"u{number}", "anonymousId": "a"})
        tracker.send({"type": "track", "event": "E", "anonymousId": "a"})
        assert tracker.flush(15)
        records = await read(broker, topics.events)
    assert tracker.counts == {"sent": 21}
    assert sorted(record.key for record in records) == sorted([b"a", *(b"u%d" % number for number in range(20))])
    assert all(orjson.loads(record.value).get("userId", "a").encode() == record.key for record in records)
    assert {record.headers for record in records} == {(("turnout-source", b"web"), ("turnout-version", b"1"))}
    partition = make_partitioner(3)
    assert all(record.partition == partition(record.key) for record in records)


async def test_while_kafka_is_away_events_wait():
    """Where no broker answers nothing is lost but time: the batch is tried again."""
    tracker = Tracker(Kafka(f"127.0.0.1:{free_port()}", source="web", timeout=0.5), flush_timeout=0.1)
    tracker.send({"type": "track", "event": "E", "userId": "u"})
    assert not tracker.flush(1.5)
    assert tracker.counts.keys() == {"retries"}
    tracker._sender.finish(0)
    assert tracker.counts["exit"] == 1


def test_sending_to_kafka_imports_no_faust():
    """kafka-python is imported with the first event, and neither Faust nor aiokafka ever."""
    program = """
import sys
from turnout_tracking import Kafka, Tracker, destinations
tracker = Tracker(Kafka("127.0.0.1:9", source="web", timeout=0.2), interval=0, flush_timeout=0)
assert "kafka" not in sys.modules
tracker.send({"type": "track", "event": "E", "userId": "u"})
while not tracker.counts.get("retries"):
    tracker.flush(0.05)
assert "kafka" in sys.modules
print(*(name for name in ("faust", "mode", "aiokafka", "aiohttp") if name in sys.modules))
"""
    output = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=120)
    assert output.stdout.split() == []


def test_a_kafka_destination_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch):
    """A settings object in place of the address, and a missing kafka-python, are refused when the app starts."""
    with pytest.raises(TypeError, match=r"options=\{'security_protocol'"):
        Kafka(Broker(bootstrap="kafka-1:9092"), source="web")  # type: ignore[arg-type]
    monkeypatch.setattr(destinations, "find_spec", lambda _: None)
    with pytest.raises(ImportError, match=re.escape("pip install 'turnout-tracking[kafka]'")):
        Kafka("kafka-1:9092", source="web")
