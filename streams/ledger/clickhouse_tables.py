"""Define the ledger's tables in ClickHouse.

Everything but the counts is a union: ClickHouse merges rows that are written twice, and until then readers merge them.
Counts are sums of changes, so each insert has a token, and ClickHouse ignores an insert whose token it has seen.
"""

HISTORY_DAYS = 396
"""Days that counts by hour are kept: 13 months."""

TTL_MARGIN_DAYS = 2
"""Days after the retention of events when ClickHouse removes ids and minutes by itself."""

DAILY = ("ids", "users", "bits", "remarks", "dead_letters")
"""Tables whose days are removed when Kafka has no events of that time any more."""

_INDEX = """
CREATE TABLE IF NOT EXISTS {table}(
  day Date, hash UInt64 CODEC(NONE), topic LowCardinality(String), partition UInt32, offset UInt64 CODEC(Delta, ZSTD)
) ENGINE = ReplacingMergeTree PARTITION BY day ORDER BY (hash, topic, partition, offset)
TTL day + INTERVAL {days} DAY SETTINGS index_granularity = 1024
"""
_COUNTS = """
CREATE TABLE IF NOT EXISTS {table}(
  time DateTime('UTC'), source LowCardinality(String), type LowCardinality(String), name LowCardinality(String),
  integration LowCardinality(String), rule LowCardinality(String), outcome LowCardinality(String),
  reason LowCardinality(String), number Int64
) ENGINE = SummingMergeTree(number) PARTITION BY {part}
ORDER BY (time, integration, outcome, rule, reason, source, type, name)
TTL time + INTERVAL {days} DAY SETTINGS non_replicated_deduplication_window = 10000
"""


def statements(retention_days: int) -> list[str]:
    """Return the statements that create the tables."""
    days = retention_days + TTL_MARGIN_DAYS
    return [
        _INDEX.format(table="ids", days=days),
        _INDEX.format(table="users", days=days),
        _COUNTS.format(table="minutes", part="toDate(time)", days=days),
        _COUNTS.format(table="hours", part="toYYYYMM(time)", days=HISTORY_DAYS),
        # `label` is JSON: a kind and its minute, or a combo; `bits` is base64. A row replaces those with fewer bits.
        """
CREATE TABLE IF NOT EXISTS bits(
  day Date, topic LowCardinality(String), partition UInt32, block UInt64, outcome LowCardinality(String), label String,
  bits String, number UInt32
) ENGINE = ReplacingMergeTree(number) PARTITION BY day ORDER BY (topic, partition, block, label)
""",
        """
CREATE TABLE IF NOT EXISTS remarks(
  day Date, topic LowCardinality(String), partition UInt32, offset UInt64, integration LowCardinality(String),
  rule LowCardinality(String), outcome LowCardinality(String), reason LowCardinality(String), detail String
) ENGINE = ReplacingMergeTree PARTITION BY day
ORDER BY (topic, partition, offset, integration, rule, outcome, reason, detail)
""",
        """
CREATE TABLE IF NOT EXISTS dead_letters(
  day Date, topic LowCardinality(String), partition UInt32, offset UInt64, integration LowCardinality(String),
  rule LowCardinality(String), dead_partition UInt32, dead_offset UInt64, reason LowCardinality(String),
  attempts Int64, status Nullable(Int64)
) ENGINE = ReplacingMergeTree PARTITION BY day ORDER BY (topic, partition, offset, dead_partition, dead_offset)
""",
        """
CREATE TABLE IF NOT EXISTS died(
  partition UInt32, offset UInt64, second UInt64, integration LowCardinality(String), rule LowCardinality(String),
  reason LowCardinality(String), status Nullable(Int64), message LowCardinality(String)
) ENGINE = ReplacingMergeTree ORDER BY (partition, offset)
""",
        """
CREATE TABLE IF NOT EXISTS handled(partition UInt32, offset UInt64)
ENGINE = ReplacingMergeTree ORDER BY (partition, offset)
""",
        """
CREATE TABLE IF NOT EXISTS catalog(
  source String, type String, name String, property String, json_type String,
  number SimpleAggregateFunction(sum, UInt64), first SimpleAggregateFunction(min, UInt64),
  last SimpleAggregateFunction(max, UInt64)
) ENGINE = AggregatingMergeTree ORDER BY (source, type, name, property, json_type)
""",
        """
CREATE TABLE IF NOT EXISTS offsets(topic String, partition UInt32, next UInt64, batch UInt64)
ENGINE = ReplacingMergeTree(batch) ORDER BY (topic, partition)
""",
        """
CREATE TABLE IF NOT EXISTS journal(one UInt8, batch UInt64, payload String)
ENGINE = ReplacingMergeTree(batch) ORDER BY one
""",
        """
CREATE TABLE IF NOT EXISTS writer(one UInt8, process String, beat UInt64)
ENGINE = ReplacingMergeTree(beat) ORDER BY one
""",
        """
CREATE TABLE IF NOT EXISTS removed(topic String, partition UInt32, below UInt64)
ENGINE = ReplacingMergeTree(below) ORDER BY (topic, partition)
""",
    ]
