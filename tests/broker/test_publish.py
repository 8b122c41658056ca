"""The publisher on a real broker, which is killed, wiped and starved of topics."""

import os
import signal
import struct
import threading
import time

import pytest
from confluent_kafka import KafkaError
from confluent_kafka.admin import AdminClient

from include.broker import publish
from include.broker.kafka import client_config, ensure_topics
from include.broker.publish import DeliveryFailed, Publisher
from include.platform import ports, temporary
from include.settings import Settings
from tests.generator.topics import own_topics, read_all
from tests.waiting import PATIENCE

pytestmark = pytest.mark.services


@pytest.fixture
def topics(kafka: Settings) -> Settings:
    return own_topics(kafka)


def send(publisher: Publisher, topic: str, numbers: range) -> None:
    for number in numbers:
        publisher.send(topic, b"user_%d" % (number % 50), b"%d" % number)


def values(settings: Settings) -> list[int]:
    return sorted(int(message.value()) for message in read_all(settings, settings.transactions_topic))


def test_everything_sent_is_acknowledged_and_lies_in_order_of_each_user(topics):
    publisher = Publisher(topics, threading.Event())
    send(publisher, topics.transactions_topic, range(2_000))
    assert publisher.flush(PATIENCE) == 0
    assert publisher.sent == publisher.acknowledged == 2_000
    by_user: dict[bytes, list[int]] = {}
    for message in read_all(topics, topics.transactions_topic):
        by_user.setdefault(message.key(), []).append(int(message.value()))
    assert sum(map(len, by_user.values())) == 2_000
    assert all(numbers == sorted(numbers) for numbers in by_user.values())


def murmur2(key: bytes) -> int:
    """Kafka's own partition hash, org.apache.kafka.common.utils.Utils.murmur2, in Python."""
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    h = (0x9747B28C ^ len(key)) & mask
    whole = len(key) & ~3
    for (k,) in struct.iter_unpack("<I", key[:whole]):
        k = k * m & mask
        h = (h * m ^ (k ^ k >> 24) * m & mask) & mask
    tail = key[whole:]
    if tail:
        h = (h ^ int.from_bytes(tail, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return (h ^ h >> 15) & 0x7FFFFFFF


def test_a_user_gets_the_partition_that_java_producers_would_use(topics):
    publisher = Publisher(topics, threading.Event())
    send(publisher, topics.transactions_topic, range(50))
    publisher.flush(PATIENCE)
    for message in read_all(topics, topics.transactions_topic):
        assert message.partition() == murmur2(message.key()) % 2


def test_a_record_that_the_broker_refuses_is_raised(topics):
    publisher = Publisher(topics, threading.Event())
    publisher.send(topics.transactions_topic, b"k", b"x" * 2_000_000)
    with pytest.raises(DeliveryFailed, match=topics.transactions_topic):
        publisher.flush(PATIENCE)


def test_a_full_queue_waits_and_drops_nothing(topics, monkeypatch):
    monkeypatch.setattr(publish, "QUEUE", 50)
    publisher = Publisher(topics, threading.Event())
    send(publisher, topics.transactions_topic, range(1_000))
    assert publisher.flush(PATIENCE) == 0
    assert values(topics) == list(range(1_000))


def test_a_missing_topic_is_waited_for(kafka, monkeypatch):
    topics = own_topics(kafka)
    admin = AdminClient(client_config(topics))
    admin.delete_topics([topics.transactions_topic])[topics.transactions_topic].result()
    publisher = Publisher(topics, threading.Event())
    send(publisher, topics.transactions_topic, range(20))
    publisher.poll(1)
    assert publisher.waiting == 20
    ensure_topics(topics)
    assert publisher.flush(PATIENCE) == 0
    assert values(topics) == list(range(20))


def test_a_client_that_lost_its_place_starts_anew_and_sends_what_it_had(topics):
    publisher = Publisher(topics, threading.Event())
    send(publisher, topics.transactions_topic, range(500))
    publisher._on_error(KafkaError(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, "injected", fatal=True))
    assert publisher.flush(PATIENCE) == 0
    send(publisher, topics.transactions_topic, range(500, 600))
    assert publisher.flush(PATIENCE) == 0
    assert sorted(set(values(topics))) == list(range(600))  # a record may have been there already


def test_a_client_that_never_finds_its_place_gives_up(topics):
    publisher = Publisher(topics, threading.Event())
    with pytest.raises(DeliveryFailed, match="injected"):
        for _ in range(publish.MOST_RESTARTS + 1):
            publisher._on_error(KafkaError(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, "injected", fatal=True))
            publisher.poll()


def test_no_record_is_lost_or_doubled_when_the_broker_is_killed(kafka, tmp_path):
    settings = temporary.temporary_settings(tmp_path)
    with temporary.kafka(settings) as process:
        ensure_topics(settings)
        publisher = Publisher(settings, threading.Event())
        send(publisher, settings.transactions_topic, range(3_000))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        send(publisher, settings.transactions_topic, range(3_000, 4_000))
        deadline = time.monotonic() + 10
        while publisher.problem is None and time.monotonic() < deadline:
            publisher.poll(0.1)
        assert str(settings.kafka_port) in publisher.problem and publisher.waiting >= 1_000
    with temporary.kafka(settings):
        assert publisher.flush(PATIENCE) == 0
        assert publisher.acknowledged == 4_000 and publisher.problem is None
        assert values(settings) == list(range(4_000))


def test_a_stop_ends_waiting(tmp_path):
    stopping = threading.Event()
    nobody = Settings(_env_file=None, home=tmp_path, kafka_port=ports.free(1)[0])
    publisher = Publisher(nobody, stopping)
    publisher.send("t", b"k", b"v")
    threading.Timer(0.3, stopping.set).start()
    assert publisher.flush() == 1
