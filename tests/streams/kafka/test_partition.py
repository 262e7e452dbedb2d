import pytest

from streams.kafka.partition import make_partitioner

# What org.apache.kafka.common.utils.Utils.murmur2 gives, from Kafka's own UtilsTest.
MURMUR2 = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("key", "hashed"), MURMUR2.items())
@pytest.mark.parametrize("partitions", [1, 12, 1000])
def test_a_key_goes_where_java_clients_put_it(key: bytes, hashed: int, partitions: int):
    """The partition is that of Kafka's Java producer, asked once or twice."""
    find = make_partitioner(partitions)
    assert find(key) == find(key) == (hashed & 0x7FFFFFFF) % partitions
