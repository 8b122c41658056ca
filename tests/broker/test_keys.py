"""A producer that hashes keys otherwise than fraudstream is detected by its records."""

from __future__ import annotations

from threading import Event

import pytest
from confluent_kafka import Producer

from include.broker.kafka import client_config
from include.broker.keys import Keys, murmur2, newest_keys, partition_of
from include.broker.publish import Publisher
from tests.generator.topics import own_topics


@pytest.mark.parametrize(
    ("data", "hashed"),  # of Kafka's own test, UtilsTest.testMurmur2
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"abc", 479470107),
    ],
)
def test_the_hash_is_kafkas(data, hashed):
    assert murmur2(data) == hashed & 0xFFFFFFFF


@pytest.mark.services
def test_records_of_the_publisher_lie_where_their_keys_belong_and_those_of_another_partitioner_are_counted(
    kafka,
):
    settings = own_topics(kafka, kafka_partitions=4)
    keys = [f"user-{i}".encode() for i in range(100)]
    publisher = Publisher(settings, Event())
    for key in keys:
        publisher.send(settings.transactions_topic, key, b"{}")
    publisher.flush()
    assert newest_keys(settings, settings.transactions_topic) == Keys(100, 0, 0)
    assert Keys(100, 0, 0).problem("t") == ""

    other = Producer(client_config(settings))  # librdkafka's default hashes by CRC32
    for key in keys:
        other.produce(settings.transactions_topic, b"{}", key)
    other.produce(settings.transactions_topic, b"{}")
    other.flush()
    result = newest_keys(settings, settings.transactions_topic)
    assert (result.records, result.without) == (201, 1) and 40 < result.elsewhere < 100
    assert "lie in another partition than their key" in result.problem(
        "t"
    ) and "murmur2_random" in result.problem("t")

    mended = Producer(client_config(settings, partitioner="murmur2_random"))  # as the message says
    settings = own_topics(kafka, kafka_partitions=4)
    for key in keys:
        mended.produce(settings.transactions_topic, b"{}", key)
    mended.flush()
    assert newest_keys(settings, settings.transactions_topic) == Keys(100, 0, 0)


def test_keys_are_spread():
    assert {partition_of(str(i).encode(), 3) for i in range(50)} == {0, 1, 2}
