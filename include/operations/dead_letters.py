"""Writes dead letters to their topic again, once their cause is fixed."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import NamedTuple

import psycopg
from confluent_kafka import KafkaError as ErrorCode
from confluent_kafka import KafkaException, Message, Producer
from psycopg.rows import class_row

from include.broker.kafka import KafkaError, writer_config
from include.events.strict_json import Reason
from include.settings import Settings
from include.sql import one_row

log = logging.getLogger(__name__)

BATCH = 200  # letters a transaction; each can be as long as the broker's largest record

# A letter that another replay holds is left to it.
_OPEN_LETTERS = """
select reason, topic, partition, "offset", topic_id, key, value from shop.dead_letters
where replayed_at is null and at <= %(before)s and (%(reason)s::text is null or reason = %(reason)s)
order by topic, partition, "offset" limit %(limit)s for update skip locked"""
_MARK = """
update shop.dead_letters set replayed_at = clock_timestamp()
where topic = %s and partition = %s and "offset" = %s and topic_id = %s"""


class ReplayFailed(KafkaError):
    """Kafka did not confirm some dead letters; they stay open for the next replay.

    Attributes:
        counts: for each reason, how many letters were written before that.
    """

    def __init__(self, message: str, counts: dict[str, int]):
        super().__init__(message)
        self.counts = counts


class _Letter(NamedTuple):
    """The columns of `_OPEN_LETTERS`."""

    reason: str
    topic: str
    partition: int
    offset: int
    topic_id: str
    key: bytes | None
    value: bytes | None


class _Delivery(NamedTuple):
    """The letters that Kafka confirmed, and why it did not confirm the others."""

    confirmed: list[_Letter]
    problems: list[str]


def replay(
    settings: Settings, reason: str | None = None, limit: int | None = None, *, timeout: float = 30.0
) -> dict[str, int]:
    """Write the dead letters that were never replayed to their topic and partition, key and value untouched.

    A letter is marked in the transaction that waits for the broker's confirmation. A crash in between only
    means that it is written again, and a transaction is stored once whatever the number of its events. Letters
    that come while the replay runs are left for the next one, so that it ends even if nothing was fixed.

    Args:
        reason: only letters of this reason.
        limit: the most letters to write.
        timeout: seconds to wait for the broker's confirmation.

    Returns:
        for each reason, the number of letters written.

    Raises:
        ValueError: there is no such reason.
        ReplayFailed: the broker did not confirm some letters in time.
        psycopg.Error: PostgreSQL failed; the letters that it did not mark stay open.
    """
    reason = None if reason is None else Reason(reason).value
    config = writer_config(
        settings,
        linger_ms=5,
        message_max_bytes=100_000_000,  # the broker took each of them once: its limit counts, not the client's
        message_timeout_ms=int(timeout * 1000),
    )
    producer = Producer(config, logger=log)
    counts: Counter[str] = Counter()
    with psycopg.connect(settings.conninfo("owner"), autocommit=True) as connection:
        (before,) = one_row(connection.execute("select clock_timestamp()"))
        while limit is None or counts.total() < limit:
            most = BATCH if limit is None else min(BATCH, limit - counts.total())
            with connection.transaction():
                letters = _open_letters(connection, before, reason, most)
                delivery = _send(producer, letters, timeout)
                _mark(connection, delivery.confirmed)
            counts.update(letter.reason for letter in delivery.confirmed)
            if delivery.problems:
                raise ReplayFailed(
                    f"{len(letters) - len(delivery.confirmed)} dead letters were not confirmed and stay open, the "
                    f"first because of: {delivery.problems[0]}. {counts.total()} were written; replay again when "
                    f"{settings.kafka_bootstrap_servers} answers",
                    dict(counts),
                )
            if not letters:
                break
    return dict(counts)


def _open_letters(
    connection: psycopg.Connection, before: datetime, reason: str | None, limit: int
) -> Sequence[_Letter]:
    cursor = connection.cursor(row_factory=class_row(_Letter))
    return cursor.execute(_OPEN_LETTERS, {"before": before, "reason": reason, "limit": limit}).fetchall()


def _send(producer: Producer, letters: Sequence[_Letter], timeout: float) -> _Delivery:
    """Produce letters and wait until each is confirmed or given up."""
    delivery = _Delivery([], [])
    for letter in letters:
        try:
            producer.produce(
                letter.topic,
                key=letter.key,
                value=letter.value,
                partition=letter.partition,
                on_delivery=partial(_note, delivery, letter),
            )
        except KafkaException as error:
            delivery.problems.append(error.args[0].str())
    if producer.flush(timeout + 5):
        producer.purge()
        delivery.problems.append(f"no answer within {timeout:g} s")
    return delivery


def _note(
    delivery: _Delivery, letter: _Letter, error: ErrorCode | None, _message: Message[bytes, bytes]
) -> None:
    if error is None:
        delivery.confirmed.append(letter)
    else:
        delivery.problems.append(error.str())


def _mark(connection: psycopg.Connection, letters: Sequence[_Letter]) -> None:
    if letters:
        keys = [(letter.topic, letter.partition, letter.offset, letter.topic_id) for letter in letters]
        connection.cursor().executemany(_MARK, keys)
