"""Topics of a test's own, and what stands in them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

from confluent_kafka import Consumer, Message, TopicPartition

from include.broker.kafka import client_config, end_offsets, ensure_topics
from include.settings import Settings
from tests.waiting import PATIENCE


def own_topics(settings: Settings, **changed: Any) -> Settings:
    """Settings with two fresh topics, which are created."""
    name = uuid.uuid4().hex[:8]
    changed |= {"transactions_topic": f"transactions-{name}", "labels_topic": f"labels-{name}"}
    settings = settings.model_copy(update=changed)
    ensure_topics(settings)
    return settings


def read_all(settings: Settings, topic: str) -> list[Message[bytes, bytes]]:
    """All records of a topic, by partition and offset."""
    return sorted(_read(settings, topic), key=lambda message: (message.partition(), message.offset()))


def _read(settings: Settings, topic: str) -> Iterator[Message[bytes, bytes]]:
    ends = {partition: end for partition, end in end_offsets(settings, topic).items() if end}
    consumer = Consumer(client_config(settings, group_id="test"))
    consumer.assign([TopicPartition(topic, partition, 0) for partition in ends])
    left = sum(ends.values())
    while left:
        message = consumer.poll(PATIENCE)
        assert message is not None and message.error() is None
        left -= 1
        yield message
    consumer.close()


WORLD = {
    "customers": 5_000,
    "merchants": 50,
    "history_days": 5,
    "history_events": 3_000,
    "rate_per_second": 20.0,
}


def ids(settings: Settings) -> list[str]:
    records = read_all(settings, settings.transactions_topic)
    return [json.loads(record.value() or b"")["transaction_id"] for record in records]


def sent(settings: Settings) -> int:
    return sum(end_offsets(settings, settings.transactions_topic).values())
