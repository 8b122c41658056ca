"""Whether a topic's producers put a key into the partition into which fraudstream puts it."""

from __future__ import annotations

from typing import NamedTuple

from include.broker import kafka
from include.settings import Settings

NEWEST = 200  # offsets of each partition that are looked at
_MASK = 0xFFFFFFFF


class Keys(NamedTuple):
    """What the newest records of a topic say of their producers.

    elsewhere: records whose key another partitioner has placed.
    without: records without a key.
    """

    records: int
    elsewhere: int
    without: int

    def problem(self, topic: str) -> str:
        """What is wrong and what to do; empty when nothing is."""
        what = []
        if self.elsewhere:
            what.append(
                f"{self.elsewhere} of its {self.records} newest records lie in another partition than their key"
            )
        if self.without:
            what.append(f"{self.without} of its {self.records} newest records have no key")
        if not what:
            return ""
        return (
            f"{topic}: {' and '.join(what)}. A customer's past follows into the other partition, but payments in two "
            "partitions at the same time are scored apart. Let the producer send user_id as key and hash it as Java's "
            "client does, in librdkafka by `partitioner=murmur2_random`"
        )


def newest_keys(settings: Settings, topic: str) -> Keys:
    """Looks at the newest records of each partition.

    Raises:
        KafkaError
    """
    bounds = kafka.bounds(settings, topic)
    ranges = {
        partition: kafka.Bounds(max(begin, end - NEWEST), end) for partition, (begin, end) in bounds.items()
    }
    records = elsewhere = without = 0
    for message in kafka.records(settings, topic, ranges):
        records += 1
        key = message.key()
        if not key:
            without += 1
        elif partition_of(key, len(bounds)) != message.partition():
            elsewhere += 1
    return Keys(records, elsewhere, without)


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key by Kafka's default partitioner: murmur2 without its sign, modulo the partitions."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def murmur2(data: bytes) -> int:
    """The 32-bit hash of Kafka's Java client (org.apache.kafka.common.utils.Utils.murmur2)."""
    factor, length = 0x5BD1E995, len(data)
    result = 0x9747B28C ^ length
    for start in range(0, length - length % 4, 4):
        word = int.from_bytes(data[start : start + 4], "little") * factor & _MASK
        word = (word ^ word >> 24) * factor & _MASK
        result = (result * factor & _MASK) ^ word
    if rest := data[length - length % 4 :]:
        result = (result ^ int.from_bytes(rest, "little")) * factor & _MASK
    result = (result ^ result >> 13) * factor & _MASK
    return result ^ result >> 15
