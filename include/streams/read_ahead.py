"""Reads small topics on the driver, from the ledger's end to their present end, before a batch is scored.

What was acknowledged before a record of the batch was sent is thus written before that record is. Each piece is a
range of `include.streams.store.write`: exactly once, fenced, in the ledger.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from confluent_kafka import KafkaError as ErrorCode

from include.broker import kafka
from include.streams import store
from include.streams.store import Handler, Range, Record, Writer

PIECE = 10_000  # records of one write
REQUEST_SECONDS = 2.0  # timeout of one request to the broker
RETRY_SECONDS = 0.2  # pause before it is repeated


class ReadAhead:
    """Topics that are read to their end: to where committed records end, which an open transaction holds back.

    Args:
        handlers: what writes the records of each topic.
        topic_ids: of the topics; the caller keeps them up to date.
        next_offsets: opens the ledger of a topic and returns the next offset of each partition.
    """

    def __init__(
        self,
        writer: Writer,
        handlers: Mapping[str, Handler],
        topic_ids: Mapping[str, str],
        next_offsets: Callable[[str], dict[int, int]],
    ):
        self._writer, self._handlers, self._topic_ids = writer, handlers, topic_ids
        self._open = next_offsets
        config = kafka.reader_config(writer.settings, f"fraudstream-{writer.stream}-ahead")
        # A broker that is away is named by the error raised.
        self._consumer = Consumer(config, logger=kafka.QUIET)
        self._next = {topic: next_offsets(topic) for topic in handlers}
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
                time.sleep(RETRY_SECONDS)
            else:
                self.at = time.monotonic()
                return done

    def _read(self, topic: str, timeout: float, stopped: Callable[[], bool]) -> bool:
        ends = self._ends(topic)
        position = self._next[topic]
        behind = [partition for partition, end in ends.items() if position[partition] < end]
        if not behind:
            return True
        self._consumer.assign([TopicPartition(topic, partition, position[partition]) for partition in behind])
        try:
            progress_at = time.monotonic()
            while any(position[partition] < ends[partition] for partition in behind):
                if stopped():
                    return False
                first = self._consumer.poll(0.5)  # a message without a value is false
                if first is not None and self._write(
                    topic, [first, *self._consumer.consume(PIECE - 1, timeout=0)]
                ):
                    progress_at = time.monotonic()
                elif time.monotonic() - progress_at > timeout:
                    raise self._unavailable(f"nothing of {topic} came within {timeout:.0f} s")
        finally:
            self._consumer.unassign()
        return True

    def _ends(self, topic: str) -> dict[int, int]:
        """Where the committed records of each partition end now.

        Raises:
            StoreError: the broker and the ledger do not fit.
        """
        metadata = self._consumer.list_topics(topic, timeout=REQUEST_SECONDS).topics[topic]
        if not metadata.error and len(metadata.partitions) > len(self._next[topic]):
            self._next[topic] = self._open(topic)
        ends = {}
        for partition, offset in self._next[topic].items():
            begin, end = self._consumer.get_watermark_offsets(
                TopicPartition(topic, partition), timeout=REQUEST_SECONDS
            )
            if not begin <= offset <= end:
                self._open(topic)  # raises what is lost and what to do
            ends[partition] = end
        return ends

    def _write(self, topic: str, messages: Sequence[Message]) -> bool:
        """Writes what came, by partition; False when that brought no partition forward."""
        records: dict[int, list[Record]] = defaultdict(list)
        ends: dict[int, int] = {}
        for message in messages:
            error, partition, offset = message.error(), message.partition(), message.offset()
            if error is not None and error.code() == ErrorCode.GROUP_AUTHORIZATION_FAILED:
                continue  # no right to a group is needed
            if error is not None and error.code() != ErrorCode._PARTITION_EOF:
                raise KafkaException(error)
            assert partition is not None and offset is not None  # a record and an end have both
            if error is None:
                seconds = min(max(message.timestamp()[1] / 1000, store.EARLIEST_TIME), store.LATEST_TIME)
                broker_time = datetime.fromtimestamp(seconds, UTC)
                records[partition].append(Record(offset, broker_time, message.key(), message.value()))
                ends[partition] = offset + 1
            else:
                ends[partition] = offset
        position, advanced = self._next[topic], False
        for partition, end in sorted(ends.items()):
            first = position[partition]
            if first < end:
                topic_id = self._topic_ids[topic]
                span = Range(self._writer.stream, topic, topic_id, partition, first, end, records[partition])
                with store.connection(self._writer.settings) as connection:
                    store.write(connection, self._writer, span, self._handlers[topic])
                position[partition] = end
                advanced = True
        return advanced

    def _unavailable(self, reason: str) -> kafka.KafkaUnavailable:
        return kafka.KafkaUnavailable(
            f"{self._writer.stream}: {', '.join(self._handlers)} at "
            f"{self._writer.settings.kafka_bootstrap_servers} could not be read: {reason}"
        )
