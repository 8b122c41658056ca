"""Sends generated records to Kafka: acknowledged by all replicas, in order for each user, and never dropped."""

from __future__ import annotations

import logging
import time
from collections import deque
from threading import Event

from confluent_kafka import KafkaError, KafkaException, Producer

from include.broker.kafka import UNAUTHENTICATED, writer_config
from include.settings import Settings

log = logging.getLogger(__name__)

Record = tuple[str, bytes, bytes, list | None]  # topic, key, value, headers

QUEUE = 100_000  # records that wait in memory while no broker answers; then sending waits
PAUSE = 0.5  # seconds before a failed record is sent again
MOST_RESTARTS = 5  # of the client, within a minute

# Failures of a record that end by themselves, or with a new client: such a record is sent again.
PASSING = {
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


class Publisher:
    """An idempotent producer that counts what was acknowledged.

    While no broker answers, records wait; a record that failed for a passing reason is sent again; any other
    failure raises `DeliveryFailed` at the next call.

    Args:
        stopping: when set, calls that wait return.
    """

    def __init__(self, settings: Settings, stopping: Event):
        self._settings = settings
        self._stopping = stopping
        self._again: deque[Record] = deque()
        self._again_at = 0.0
        self._restarts: deque[float] = deque(maxlen=MOST_RESTARTS)
        self._failed: DeliveryFailed | None = None
        self._fatal: KafkaError | None = None
        self.sent = 0
        self.acknowledged = 0
        self.failed = 0
        self.problem: str | None = None
        """Why records wait, while they do."""
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
        return len(self._producer) + len(self._again)

    def send(self, topic: str, key: bytes, value: bytes, headers: list | None = None) -> bool:
        """Queues a record; waits while the queue is full. False when asked to stop while waiting.

        Raises:
            DeliveryFailed: an earlier record was refused for good.
        """
        if not self._queue((topic, key, value, headers)):
            return False
        self.sent += 1
        return True

    def poll(self, seconds: float = 0.0) -> None:
        """Takes in acknowledgements, and sends again what failed for a passing reason."""
        self._producer.poll(seconds)
        if self._failed:
            raise self._failed
        if self._fatal:
            self._restart()
        if self._again and time.monotonic() > self._again_at:
            for _ in range(len(self._again)):
                self._queue(self._again.popleft())

    def flush(self, timeout: float | None = None) -> int:
        """Waits until all is acknowledged, `timeout` is over, or (without one) it is asked to stop.

        Returns the number of records that are not acknowledged.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while self.waiting:
            if (end is None and self._stopping.is_set()) or (end is not None and time.monotonic() > end):
                break
            self.poll(0.05)
        return self.waiting

    def _queue(self, record: Record) -> bool:
        topic, key, value, headers = record
        while True:
            try:
                self._producer.produce(topic, value, key, on_delivery=self._on_delivery, headers=headers)
                return True
            except BufferError:
                self._producer.poll(0.05)
                if self._failed:
                    raise self._failed from None
                if self._stopping.is_set():
                    self._send_again(record)
                    return False
            except KafkaException as problem:
                self._not_sent(record, problem.args[0], f"topic {topic}")
                return True

    def _on_delivery(self, error: KafkaError | None, message) -> None:
        if error is None:
            self.acknowledged += 1
            self.problem = None
            return
        record = message.topic(), message.key(), message.value(), message.headers()
        self._not_sent(record, error, f"topic {message.topic()}, partition {message.partition()}")

    def _not_sent(self, record: Record, error: KafkaError, where: str) -> None:
        self.failed += 1
        self.problem = f"{where} at {self._settings.kafka_bootstrap_servers}: {error.str()}"
        if error.code() not in PASSING:
            self._failed = self._failed or DeliveryFailed(self.problem)
        if error.fatal():
            self._fatal = self._fatal or error
        self._send_again(record)

    def _send_again(self, record: Record) -> None:
        self._again.append(record)
        self._again_at = time.monotonic() + PAUSE

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

    def _restart(self) -> None:
        """A client that lost its place in the brokers' sequence is replaced; what it had is sent by the new one."""
        now = time.monotonic()
        if len(self._restarts) == MOST_RESTARTS and now - self._restarts[0] < 60:
            raise DeliveryFailed(f"{self._settings.kafka_bootstrap_servers}: {self._fatal.str()}")
        self._restarts.append(now)
        log.warning(
            "the Kafka client starts anew, with %d records to send: %s", self.waiting, self._fatal.str()
        )
        self._producer.purge()
        self._producer.flush(5)
        self._fatal = None
        self._producer = self._client()
