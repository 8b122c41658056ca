"""Reads small topics on the driver, from the ledger's place to their present end, before a batch is scored.

What was acknowledged before a record of the batch was sent is thus written before that record is. Each piece is a
range of `include.streams.store.write`: exactly once, fenced, in the ledger.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from include.broker import kafka
from include.streams import store
from include.streams.store import Handler, Range, Record, Writer

PIECE = 10_000  # records of one write
ANSWER = 2.0  # seconds that the broker has for an answer, before
PAUSE = 0.2  # seconds later it is asked again


class ReadAhead:
    """Topics that are read to their end.

    Args:
        handlers: what writes the records of each topic.
        topic_ids: of the topics; the caller keeps them up to date.
        places: the next offset of each partition of a topic by the ledger.
    """

    def __init__(
        self,
        writer: Writer,
        handlers: Mapping[str, Handler],
        topic_ids: Mapping[str, str],
        places: Callable[[str], dict[int, int]],
    ):
        self._writer, self._handlers, self._topic_ids, self._places = writer, handlers, topic_ids, places
        config = kafka.client_config(
            writer.settings,
            group_id=f"fraudstream-{writer.stream}-ahead",
            enable_auto_commit=False,
            enable_auto_offset_store=False,
            auto_offset_reset="error",
        )
        self._consumer = Consumer(config, logger=kafka.QUIET)
        self._next = {topic: places(topic) for topic in handlers}
        self.at = 0.0
        """When it was last at the end, by the monotonic clock."""

    def close(self) -> None:
        self._consumer.close()

    def catch_up(self, timeout: float, stopped: Callable[[], bool] = lambda: False) -> bool:
        """Reads to the ends as they are now; False when `stopped` came first.

        Raises:
            KafkaUnavailable: the broker gave nothing for `timeout` seconds.
            StoreError, psycopg.Error: from `include.streams.store.write`.
        """
        deadline = time.monotonic() + timeout
        while True:
            try:
                done = all(self._read(topic, timeout, stopped) for topic in self._handlers)
            except KafkaException as error:  # a leader is being chosen, or no broker answers
                if time.monotonic() > deadline:
                    raise self._unavailable(error.args[0].str()) from error
                if stopped():
                    return False
                time.sleep(PAUSE)
            else:
                self.at = time.monotonic()
                return done

    def _read(self, topic: str, timeout: float, stopped: Callable[[], bool]) -> bool:
        following = self._next[topic]
        found = self._consumer.list_topics(topic, timeout=ANSWER).topics[topic]
        if not found.error and len(found.partitions) > len(following):
            following = self._next[topic] = self._places(topic)
        ends = {}
        for partition, offset in following.items():
            begin, end = self._consumer.get_watermark_offsets(
                TopicPartition(topic, partition), timeout=ANSWER
            )
            if not begin <= offset <= end:
                self._places(topic)  # says what is lost and what to do
            ends[partition] = end
        behind = [partition for partition, end in ends.items() if following[partition] < end]
        if not behind:
            return True
        self._consumer.assign([TopicPartition(topic, each, following[each]) for each in behind])
        try:
            heard = time.monotonic()
            while any(following[each] < ends[each] for each in behind):
                if stopped():
                    return False
                messages = self._consumer.consume(PIECE, timeout=0.5)
                if self._write(topic, following, messages):
                    heard = time.monotonic()
                elif time.monotonic() - heard > timeout:
                    raise self._unavailable(f"nothing of {topic} came within {timeout:.0f} s")
        finally:
            self._consumer.unassign()
        return True

    def _write(self, topic: str, following: dict[int, int], messages: list[Message]) -> int:
        """Writes what came, by partition; returns how many records that were."""
        records: dict[int, list[Record]] = {}
        for message in messages:
            if message.error():
                raise KafkaException(message.error())
            seconds = min(max(message.timestamp()[1] / 1000, store.EARLIEST_TIME), store.LATEST_TIME)
            at = datetime.fromtimestamp(seconds, UTC)
            record = Record(message.offset(), at, message.key(), message.value())
            records.setdefault(message.partition(), []).append(record)
        for partition, those in sorted(records.items()):
            span = Range(self._writer.stream, topic, self._topic_ids[topic], partition, those)
            with store.connection(self._writer.settings) as connection:
                store.write(connection, self._writer, span, self._handlers[topic])
            following[partition] = those[-1].offset + 1
        return sum(map(len, records.values()))

    def _unavailable(self, why: str) -> kafka.KafkaUnavailable:
        return kafka.KafkaUnavailable(
            f"{self._writer.stream}: {', '.join(self._handlers)} at "
            f"{self._writer.settings.kafka_bootstrap_servers} could not be read: {why}"
        )
