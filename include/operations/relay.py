"""The relay sends what is in the outbox: a thread for each channel, so that one that is slow holds up no other.

It is a service of its own, outside Airflow, and tells of a dead Airflow, too.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import timedelta
from threading import Event

import psycopg
from confluent_kafka import KafkaError, KafkaException, Producer

from include.broker.kafka import QUIET, writer_config
from include.operations import incidents, outbox
from include.operations.outbox import Message, Sender, SendFailed, SendRefused
from include.settings import Settings

log = logging.getLogger(__name__)

LABELS = "labels"
IDLE_SECONDS = 1.0  # between two looks at a channel without messages
AWAY_SECONDS = 2.0  # between two attempts to reach PostgreSQL
BEAT_SECONDS = 90.0  # a thread that was silent for longer hangs
KAFKA_SECONDS = 15.0  # for the acknowledgement of a batch
ID_HEADER = "idempotency-key"


class Topic:
    """Sends a channel's messages to a Kafka topic: the value as JSON, the message's id as a header."""

    batch = 500
    patience: timedelta | None = None

    def __init__(self, settings: Settings, topic: str):
        self._topic = topic
        self._producer = Producer(
            writer_config(
                settings,
                client_id="fraudstream-relay",
                partitioner="murmur2_random",
                message_timeout_ms=int(KAFKA_SECONDS * 1000),
            ),
            logger=QUIET,
        )

    def send(self, messages: Sequence[Message]) -> None:
        errors: list[KafkaError] = []

        def note(error: KafkaError | None, _: object) -> None:
            if error is not None:
                errors.append(error)

        for message in messages:
            value = json.dumps(message.value, separators=(",", ":")).encode()
            header: list[tuple[str, str | bytes | None]] = [(ID_HEADER, str(message.id))]
            try:
                self._producer.produce(
                    self._topic, value, message.key.encode() or None, headers=header, on_delivery=note
                )
            except (KafkaException, BufferError) as error:
                problem = error.args[0]
                errors.append(problem if isinstance(problem, KafkaError) else KafkaError(KafkaError._FAIL))
        left = self._producer.flush(KAFKA_SECONDS + 5)
        if errors or left:
            text = f"topic {self._topic}: {errors[0].str() if errors else 'not acknowledged in time'}"
            final = any(error.code() == KafkaError.MSG_SIZE_TOO_LARGE for error in errors)
            raise SendRefused(text) if final else SendFailed(text)


class Nobody:
    """Takes alarms where nobody is to be told: they are seen on the pages."""

    batch = 500
    patience: timedelta | None = None

    def send(self, messages: Sequence[Message]) -> None:
        pass


def senders(settings: Settings) -> dict[str, Sender]:
    """Who sends the messages of which channel."""
    return {LABELS: Topic(settings, settings.labels_topic), incidents.CHANNEL: Nobody()}


@dataclass
class Relay:
    """Sends until `stopping` is set.

    Args:
        senders: by channel.
    """

    settings: Settings
    senders: Mapping[str, Sender]
    stopping: Event

    def __post_init__(self) -> None:
        self._beats = dict.fromkeys(self.senders, time.monotonic())

    @property
    def works(self) -> bool:
        """True while no thread hangs."""
        return time.monotonic() - min(self._beats.values()) < BEAT_SECONDS

    def run(self) -> None:
        """Returns when `stopping` is set and each thread has finished its batch; raises what ended a thread."""
        with ThreadPoolExecutor(len(self.senders)) as pool:
            threads = [pool.submit(self._serve, channel) for channel in self.senders]
            done, _ = wait(threads, return_when=FIRST_COMPLETED)
            self.stopping.set()
        for thread in done:
            thread.result()

    def _serve(self, channel: str) -> None:
        while not self.stopping.is_set():
            try:
                self._send(channel)
            except psycopg.OperationalError as error:
                log.warning("%s: PostgreSQL: %s", channel, str(error).strip())
                self._beats[channel] = time.monotonic()
                self.stopping.wait(AWAY_SECONDS)

    def _send(self, channel: str) -> None:
        with psycopg.connect(self.settings.conninfo("relay"), autocommit=True) as connection:
            while not self.stopping.is_set():
                self._beats[channel] = time.monotonic()
                if not outbox.deliver(connection, channel, self.senders[channel]):
                    self.stopping.wait(IDLE_SECONDS)
