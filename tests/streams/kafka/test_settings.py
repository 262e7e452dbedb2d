import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from streams.kafka.acks import PendingAcks
from streams.kafka.admin import Mismatch, check_reachable, create_topics, find_mismatches
from streams.kafka.offsets import RecordBatch
from streams.kafka.producer import Producer
from streams.kafka.settings import Broker, BrokerError
from streams.topics import Topic, Topics
from streams.worker.pipeline import Processor, make_pipeline
from streams.worker.worker import Worker
from tests.support import real_kafka
from tests.support.ports import free_port
from tests.support.reading import read

pytestmark = pytest.mark.anyio

SECURE = """
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller},SECURE://127.0.0.1:{secure}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},SECURE://127.0.0.1:{secure}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL
listener.name.secure.sasl.enabled.mechanisms=PLAIN
listener.name.secure.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
  user_turnout="open sesame";
listener.name.secure.ssl.keystore.location={keys}
listener.name.secure.ssl.keystore.password=changeit
"""


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A Kafka that wants TLS and a password, and how to reach it."""
    reason = real_kafka.why_not()
    if reason and not os.environ.get("TURNOUT_TESTS_NEED_KAFKA"):
        pytest.skip(reason)
    folder: Path = tmp_path_factory.mktemp("secure")
    keys = ["-keystore", str(folder / "keys.p12"), "-storepass", "changeit", "-alias", "kafka"]
    subprocess.run(
        ["keytool", "-genkeypair", *keys, "-keyalg", "RSA", "-dname", "CN=localhost", "-ext", "san=ip:127.0.0.1"],
        check=True,
        capture_output=True,
    )
    exported = subprocess.run(["keytool", "-exportcert", "-rfc", *keys], check=True, capture_output=True)
    (folder / "ca.pem").write_bytes(exported.stdout)
    port = free_port()
    with real_kafka.running(folder / "kafka", SECURE, secure=port, keys=folder / "keys.p12"):
        yield Broker(
            bootstrap=f"127.0.0.1:{port}",
            security="SASL_SSL",
            username="turnout",
            password=SecretStr("open sesame"),
            ca_file=folder / "ca.pem",
            session_timeout=6,
        )


async def test_every_client_speaks_tls_and_logs_in(secure: Broker):
    """Admin, producer and Faust's consumer all reach a broker that wants TLS and a password."""
    topics = Topics(prefix="secure", partitions=3)
    create_topics(secure, topics.declared([]), replication=1, timeout=60)
    assert find_mismatches(secure, topics.declared([])) == []
    producer = Producer(secure, client_id="test")
    worker = Worker(producer)
    seen: list[bytes] = []

    async def work(run: RecordBatch) -> None:
        seen.extend(record.value for record in run.records)
        run.finish()
        worker.stop()

    worker.pipelines = [
        make_pipeline(
            "agent",
            [topics.events],
            lambda _: Processor(work),
            secure,
            fail=worker.fail,
            group="secure",
            commit_interval=1,
            grace=5,
        )
    ]
    await producer.start()
    acks = PendingAcks()
    producer.append(topics.events, 0, acks, key=None, value=b"x")
    await acks.confirmed(120)
    await producer.stop()
    assert [record.value for record in await read(secure, topics.events)] == [b"x"]
    assert await worker.run() == 0
    assert seen == [b"x"]


def test_a_wrong_password_is_one_clear_line(secure: Broker):
    """Being refused says which broker refused, and never the password."""
    wrong = secure.model_copy(update={"password": SecretStr("wrong password")})
    with pytest.raises(BrokerError) as caught:
        find_mismatches(wrong, [Topic("x", 1, 1)], timeout=10)
    assert secure.bootstrap in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "wrong password" not in str(caught.value)


def test_missing_and_mismatched_topics_are_found(broker: Broker):
    """A topic that is not there, and one with another number of partitions, are both named."""
    topics = Topics(prefix="found", partitions=3)
    create_topics(broker, [Topic(topics.events, 2, 3600)], replication=1, timeout=60)
    events, rejected, *_ = find_mismatches(broker, topics.declared([]))
    assert isinstance(events, Mismatch)
    assert str(events) == "topic found.events has 2 partitions, but 3 are declared"
    assert str(rejected) == "topic found.rejected is missing"


def test_creating_topics_leaves_what_is_there(broker: Broker):
    """Creating twice, or over an existing topic, changes nothing and fails nowhere."""
    topics = Topics(prefix="twice", partitions=3).declared([])
    create_topics(broker, topics, replication=1, timeout=60)
    create_topics(broker, topics, replication=1, timeout=60)
    assert find_mismatches(broker, topics) == []


def test_sasl_without_credentials_is_refused():
    """A protocol that logs in needs a name and a password."""
    with pytest.raises(ValidationError, match="security SASL_SSL needs username and password"):
        Broker(security="SASL_SSL")


def test_the_password_is_not_shown():
    """Settings may be logged: their secrets may not."""
    broker = Broker(security="SASL_SSL", username="u", password=SecretStr("open sesame"))
    assert "sesame" not in repr(broker)


def test_a_broker_that_answers_is_reachable(broker: Broker):
    """Nothing is raised."""
    check_reachable(broker, 60)


def test_one_of_several_addresses_is_enough(broker: Broker):
    """An address that refuses connections does not matter if another one answers."""
    check_reachable(Broker(bootstrap=f"127.0.0.1:{free_port()},{broker.bootstrap}"), 60)


def test_a_broker_that_refuses_connections_is_not_reachable():
    """The message has the reason of each address once."""
    bootstrap = f"127.0.0.1:{free_port()},localhost:{free_port()}"
    with pytest.raises(BrokerError) as raised:
        check_reachable(Broker(bootstrap=bootstrap))
    assert str(raised.value) == f"cannot reach Kafka at {bootstrap}: Connection refused"


def test_a_broker_that_never_answers_is_not_reachable():
    """An open port is not enough."""
    with socket.create_server(("127.0.0.1", 0)) as deaf, pytest.raises(BrokerError, match="does not answer within 1 s"):
        check_reachable(Broker(bootstrap=f"127.0.0.1:{deaf.getsockname()[1]}"), 1)


def test_a_name_server_that_never_answers_stops_nothing(monkeypatch: pytest.MonkeyPatch):
    """The check ends while the look-up still hangs in its thread."""
    answered = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answered.wait(60) and [])
    with pytest.raises(BrokerError, match=r"kafka\.example:9092: the host name is not resolved within 0\.5 s"):
        check_reachable(Broker(bootstrap="kafka.example:9092"), 0.5)
    assert not answered.is_set()
    answered.set()


def test_an_address_without_a_number_is_not_reachable():
    """The error says that the port is not a number."""
    with pytest.raises(BrokerError, match="Port could not be cast"):
        check_reachable(Broker(bootstrap="127.0.0.1:kafka"))
