"""Reads from the topic how far a history got: the producer keeps no state of its own."""

from __future__ import annotations

import time
import zlib
from typing import NamedTuple

from confluent_kafka import Consumer, Message, TopicPartition

from include.broker.kafka import KafkaUnavailable, begin_offsets, client_config, end_offsets
from include.broker.publish import Headers
from include.generator.config import Config
from include.settings import Settings

HEADER = "history"


class Mark(NamedTuple):
    """Header of each record of a history.

    Attributes:
        end: of the history, microseconds since 1970.
        slot: start of the record's slot, likewise.
        config: fingerprint of the generator's configuration.
    """

    end: int
    slot: int
    config: int

    def headers(self) -> Headers:
        return [(HEADER, b"%d %d %d" % self)]

    @classmethod
    def read(cls, headers: Headers | None) -> Mark | None:
        value = dict(headers or ()).get(HEADER)
        return None if value is None else cls(*map(int, value.split()))


def fingerprint(config: Config) -> int:
    return zlib.crc32(repr(config).encode())


class PublishedHistory(NamedTuple):
    """Whether the topic is empty, and the mark of an unfinished history; without one the history is done."""

    empty: bool
    unfinished: Mark | None


def published_history(settings: Settings, timeout: float = 20.0) -> PublishedHistory:
    """Reads the last record of each partition of the transactions topic.

    A history is unfinished when every partition ends with one of its records; `unfinished.slot` is the earliest
    of their slots. Sending from there again is harmless: equal transactions have equal ids.

    Raises:
        KafkaError: the topic cannot be read (`include.broker.kafka`).
    """
    ends = end_offsets(settings, settings.transactions_topic)
    if not any(ends.values()):
        return PublishedHistory(True, None)
    begins = begin_offsets(settings, settings.transactions_topic)
    wanted = {partition: end - 1 for partition, end in ends.items() if end > begins[partition]}
    headers = [message.headers() for message in _last_records(settings, wanted, timeout)]
    marks = [mark for mark in map(Mark.read, headers) if mark is not None]
    if not marks or len(marks) < len(headers):
        return PublishedHistory(False, None)
    # a partition without records: where the history stopped there is unknown
    slot = 0 if 0 in ends.values() else min(mark.slot for mark in marks)
    return PublishedHistory(False, marks[0]._replace(slot=slot))


def _last_records(settings: Settings, offsets: dict[int, int], timeout: float) -> list[Message[bytes, bytes]]:
    topic = settings.transactions_topic
    consumer = Consumer(client_config(settings, group_id="fraudstream-progress", enable_auto_commit=False))
    try:
        consumer.assign([TopicPartition(topic, partition, offset) for partition, offset in offsets.items()])
        last: dict[int | None, Message[bytes, bytes]] = {}
        deadline = time.monotonic() + timeout
        while len(last) < len(offsets):
            message = consumer.poll(0.2)
            if message is not None and message.error() is None:
                last.setdefault(message.partition(), message)
            if time.monotonic() > deadline:
                raise KafkaUnavailable(
                    f"the last records of {topic} at {settings.kafka_bootstrap_servers} could not be read within "
                    f"{timeout:.0f} s: see the broker's log"
                )
        return list(last.values())
    finally:
        consumer.close()
