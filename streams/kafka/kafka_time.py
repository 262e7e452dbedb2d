"""Ask Kafka for the time."""

import time

from streams.kafka.admin import AdminConnection
from streams.kafka.settings import Broker, BrokerError

NEEDS = "Kafka 3.3 or newer with KRaft, and the permission Describe on the cluster"
"""The requirements of reading Kafka's time."""


def find_clock_difference(broker: Broker, timeout: float = 10.0) -> tuple[float, float]:
    """Return Kafka's time in seconds since 1970, and by how many seconds this machine's clock is ahead of it.

    The leader of Kafka's metadata reports itself as caught up at the time of the response (KIP-836). This needs no
    record and no write permission. Blocking. Raises BrokerError if Kafka does not report it.
    """
    with AdminConnection(broker, timeout) as admin:
        before = time.time()
        answer = admin.describe_metadata_quorum()
        after = time.time()
    try:
        (partition,) = answer["topics"][0]["partitions"]
        (leader,) = [each for each in partition["current_voters"] if each["replica_id"] == partition["leader_id"]]
        told = leader["last_caught_up_timestamp"] / 1000
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise BrokerError(f"Kafka at {broker.bootstrap} does not report its time") from error
    if told <= 0:
        raise BrokerError(f"Kafka at {broker.bootstrap} does not report its time")
    return told + (after - before) / 2, (before + after) / 2 - told
