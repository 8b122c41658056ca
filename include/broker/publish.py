"""Sends records to Kafka: acknowledged by all replicas, in order for each key, and never dropped."""

from __future__ import annotations

import logging
import time
from collections import deque
from threading import Event
from typing import NamedTuple, cast

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from include.broker.kafka import UNAUTHENTICATED, writer_config
from include.settings import Settings

log = logging.getLogger(__name__)

Headers = list[tuple[str, str | bytes | None]] | dict[str, str | bytes | None]

QUEUE = 100_000  # records in memory while no broker answers; when it is full, `send` waits
PAUSE = 0.5  # seconds before a failed record is sent again
MOST_RESTARTS = 5  # of the client, within a minute

# Errors that pass by themselves or with a new client: the record is sent again.
TRANSIENT = {
    KafkaError._MSG_TIMED_OUT,
    KafkaError._TRANSPORT,
    KafkaError._PURGE_QUEUE,
    KafkaError._PURGE_INFLIGHT,
    KafkaError._FATAL,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.UNKNOWN_PRODUCER_ID,
    KafkaError.NOT_ENOUGH_REPLICAS,
    KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
}


class DeliveryFailed(RuntimeError):
    """The brokers refuse a record or its sender for good; the message names where and why."""


class Record(NamedTuple):
    """A record to send."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers | None


class Publisher:
    """An idempotent producer that counts acknowledged records.

    While no broker answers, records wait. A record that failed with a transient error is sent again; any other
    error raises `DeliveryFailed` at the next call.

    Args:
        stopping: when set, calls that wait return.

    Attributes:
        sent: records that were queued.
        acknowledged: records that all replicas have.
        failed: attempts that ended with an error.
        problem: why records wait, while they do.
    """

    def __init__(self, settings: Settings, stopping: Event):
        self._settings = settings
        self._stopping = stopping
        self._retries: deque[Record] = deque()
        self._retry_at = 0.0  # of the monotonic clock
        self._restarts: deque[float] = deque(maxlen=MOST_RESTARTS)
        self._failed: DeliveryFailed | None = None
        self._fatal: KafkaError | None = None
        self.sent = 0
        self.acknowledged = 0
        self.failed = 0
        self.problem: str | None = None
        self._producer = self._client()

    def _client(self) -> Producer:
        config = writer_config(
            self._settings,
            client_id="fraudstream-producer",
            partitioner="murmur2_random",  # as Java's: a key gets the same partition whoever writes
            compression_type="lz4",
            linger_ms=5,
            message_timeout_ms=0,  # never given up: an outage may last
            queue_buffering_max_messages=QUEUE,
            reconnect_backoff_max_ms=2_000,
            error_cb=self._on_error,
        )
        return Producer(config, logger=logging.getLogger(f"{__name__}.librdkafka"))

    @property
    def waiting(self) -> int:
        """Records that are not acknowledged yet."""
        return len(self._producer) + len(self._retries)

    def send(self, topic: str, key: bytes, value: bytes, headers: Headers | None = None) -> bool:
        """Queues a record; waits while the queue is full. False when stopped while waiting.

        Raises:
            DeliveryFailed: an earlier record was refused for good.
        """
        if not self._queue(Record(topic, key, value, headers)):
            return False
        self.sent += 1
        return True

    def poll(self, seconds: float = 0.0) -> None:
        """Takes in acknowledgements, and sends records again that failed with a transient error.

        Raises:
            DeliveryFailed: a record was refused for good.
        """
        self._producer.poll(seconds)
        if self._failed:
            raise self._failed
        if self._fatal:
            self._restart(self._fatal)
        if self._retries and time.monotonic() > self._retry_at:
            for _ in range(len(self._retries)):
                self._queue(self._retries.popleft())

    def flush(self, timeout: float | None = None) -> int:
        """Waits until every record is acknowledged, until `timeout` (seconds), or without one until `stopping` is set.

        Returns:
            the number of records that are not acknowledged.

        Raises:
            DeliveryFailed: a record was refused for good.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while self.waiting:
            if (end is None and self._stopping.is_set()) or (end is not None and time.monotonic() > end):
                break
            self.poll(0.05)
        return self.waiting

    def _queue(self, record: Record) -> bool:
        while True:
            try:
                self._producer.produce(
                    record.topic,
                    record.value,
                    record.key,
                    on_delivery=self._on_delivery,
                    headers=record.headers,
                )
                return True
            except BufferError:
                self._producer.poll(0.05)
                if self._failed:
                    raise self._failed from None
                if self._stopping.is_set():
                    self._send_again(record)
                    return False
            except KafkaException as error:
                self._on_failure(record, error.args[0], f"topic {record.topic}")
                return True

    def _on_delivery(self, error: KafkaError | None, message: Message[bytes, bytes]) -> None:
        if error is None:
            self.acknowledged += 1
            self.problem = None
            return
        topic = cast(str, message.topic())  # a delivery report always has one
        record = Record(topic, message.key(), message.value(), message.headers())
        self._on_failure(record, error, f"topic {topic}, partition {message.partition()}")

    def _on_failure(self, record: Record, error: KafkaError, where: str) -> None:
        self.failed += 1
        self.problem = f"{where} at {self._settings.kafka_bootstrap_servers}: {error.str()}"
        if error.code() not in TRANSIENT:
            self._failed = self._failed or DeliveryFailed(self.problem)
        if error.fatal():
            self._fatal = self._fatal or error
        self._send_again(record)

    def _send_again(self, record: Record) -> None:
        self._retries.append(record)
        self._retry_at = time.monotonic() + PAUSE

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._fatal = error
        elif error.code() in UNAUTHENTICATED:
            self._failed = DeliveryFailed(
                f"{self._settings.kafka_bootstrap_servers}: {error.str()}: check the user who writes events, "
                "FRAUDSTREAM_KAFKA_WRITER_SASL_USERNAME or else FRAUDSTREAM_KAFKA_SASL_USERNAME, and the password"
            )
        elif self.problem is None:
            self.problem = f"{self._settings.kafka_bootstrap_servers}: {error.str()}"
            log.warning("Kafka: %s", self.problem)

    def _restart(self, error: KafkaError) -> None:
        """Replaces a client that can no longer send in sequence; the new one sends the records of the old one."""
        now = time.monotonic()
        if len(self._restarts) == MOST_RESTARTS and now - self._restarts[0] < 60:
            raise DeliveryFailed(f"{self._settings.kafka_bootstrap_servers}: {error.str()}")
        self._restarts.append(now)
        log.warning("the Kafka client is replaced, with %d records to send: %s", self.waiting, error.str())
        self._producer.purge()
        self._producer.flush(5)
        self._fatal = None
        self._producer = self._client()
