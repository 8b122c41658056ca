"""Reads from the topic how far a history got: the producer keeps no state of its own."""

from __future__ import annotations

import zlib
from typing import NamedTuple

from include.broker import kafka
from include.broker.kafka import Bounds
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
    topic = settings.transactions_topic
    bounds = kafka.bounds(settings, topic)
    if not any(end for _, end in bounds.values()):
        return PublishedHistory(True, None)
    last = {partition: Bounds(end - 1, end) for partition, (begin, end) in bounds.items() if begin < end}
    headers = [message.headers() for message in kafka.records(settings, topic, last, timeout)]
    marks = [mark for mark in map(Mark.read, headers) if mark is not None]
    # the last offset of a partition holds no record, or that of another producer
    if not marks or len(marks) < len(last):
        return PublishedHistory(False, None)
    # a partition without records: where the history stopped there is unknown
    slot = 0 if any(end == 0 for _, end in bounds.values()) else min(mark.slot for mark in marks)
    return PublishedHistory(False, marks[0]._replace(slot=slot))
