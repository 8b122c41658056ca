"""Messages to others: written in the transaction that they tell of, sent afterwards by the relay.

A message is sent at least once. Its id is the same each time, so that a receiver can tell that it has it already. One
that could not be sent for too long, or that is refused for good, stays in the table as undeliverable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol
from uuid import UUID

import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from include.sql import statement

LONGEST_ERROR = 500  # characters that are kept
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=1), timedelta(minutes=5)


class SendFailed(RuntimeError):
    """A receiver did not take a message; it is sent again later."""


class SendRefused(SendFailed):
    """A receiver will never take this message."""


class Message(NamedTuple):
    """A row of shop.outbox that is to be sent.

    key: that of the record, for a channel that is a Kafka topic.
    attempts: those before this one, which failed.
    """

    id: UUID
    channel: str
    key: str
    value: dict[str, Any]
    created_at: datetime
    attempts: int


class Sender(Protocol):
    """Sends messages of one channel.

    batch: how many it takes at once.
    patience: how long after a message was written it is still sent again; None: for ever.
    """

    @property
    def batch(self) -> int: ...
    @property
    def patience(self) -> timedelta | None: ...

    def send(self, messages: Sequence[Message]) -> None:
        """Returns when the receiver has all of them.

        Raises:
            SendFailed: it may lack some of them.
        """


def put(connection: psycopg.Connection[Any], channel: str, value: Mapping[str, Any], key: str = "") -> None:
    """Queues a message; it is sent when the caller's transaction has been committed.

    Args:
        channel: a name of `include.operations.relay.senders`.
        value: what JSON can say.
        key: that of the record, for a channel that is a Kafka topic.
    """
    connection.execute(
        "insert into shop.outbox (channel, key, value) values (%s, %s, %s)", (channel, key, Jsonb(value))
    )


def deliver(connection: psycopg.Connection[Any], channel: str, sender: Sender) -> int:
    """Sends the messages of a channel that are due, a batch of them; returns how many there were.

    Their rows are locked until the outcome is committed: two relays do not send the same message, and after a crash
    it is sent again.
    """
    with connection.transaction(), connection.cursor(row_factory=class_row(Message)) as cursor:
        due = cursor.execute(statement("outbox/due"), {"channel": channel, "batch": sender.batch}).fetchall()
        if due:
            _send(connection, sender, due)
    return len(due)


def _send(connection: psycopg.Connection[Any], sender: Sender, messages: Sequence[Message]) -> None:
    try:
        sender.send(messages)
    except SendRefused as refusal:
        if len(messages) > 1:  # one of them is refused: which?
            for message in messages:
                _send(connection, sender, [message])
        else:
            _failed(connection, sender, messages, refusal)
    except SendFailed as failure:
        _failed(connection, sender, messages, failure)
    else:
        connection.execute(
            "update shop.outbox set sent_at = clock_timestamp(), attempts = attempts + 1 where id = any(%s)",
            [[message.id for message in messages]],
        )


def _failed(
    connection: psycopg.Connection[Any], sender: Sender, messages: Sequence[Message], error: SendFailed
) -> None:
    for message in messages:
        connection.execute(
            statement("outbox/failed"),
            {
                "id": message.id,
                "error": str(error)[:LONGEST_ERROR],
                "pause": pause(message.attempts),
                "refused": isinstance(error, SendRefused),
                "patience": sender.patience,
            },
        )


def pause(attempts: int) -> timedelta:
    """How long after a failed attempt a message is sent again: twice as long each time."""
    doubled: timedelta = FIRST_PAUSE * 2 ** min(attempts, 20)
    return min(doubled, LONGEST_PAUSE)
