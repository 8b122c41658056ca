"""Compares, for each Kafka partition, the broker with the ledger and the ledger with the rows that it counts.

A record that waits is normal; one that has waited for `open_difference_minutes` is an alarm. Rows and ledger are
written in one transaction, so a difference between them is an alarm at once. What was right is remembered in
shop.reconciled: each run counts only the rows since, whatever the size of the tables, and rows that retention
deletes later are not missed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import psycopg
from psycopg.rows import namedtuple_row

from include.broker import kafka
from include.broker.kafka import Bounds
from include.operations.incidents import Kind, close_incident, open_incident
from include.settings import Settings
from include.sql import statement
from include.streams import FRAUD_STREAM, STREAMS, TRANSACTION_STREAM

MOST_LINES = 20  # of an incident's evidence
ACCEPT = "if you know why and accept it: fraudstream reconcile --accept"

_REMEMBER = """
insert into shop.reconciled (stream, topic, partition, topic_id, next_offset, stored, dead_letters)
values (%s, %s, %s, %s, %s, %s, %s)
on conflict (stream, topic, partition) do update
set topic_id = excluded.topic_id, next_offset = excluded.next_offset, stored = excluded.stored,
    dead_letters = excluded.dead_letters, checked_at = excluded.checked_at"""


class BooksOpen(RuntimeError):
    """Something is lost, stored twice, or waits for too long; the message has a line for each partition and range."""


@dataclass(frozen=True)
class OpenRange:
    """Offsets [first, end) of a partition for which a stream's books are open, and why."""

    stream: str
    topic: str
    partition: int
    first: int
    end: int
    why: str

    def __str__(self) -> str:
        offsets = f"offsets {self.first} to {self.end - 1} of partition {self.partition} of {self.topic}"
        return f"{self.stream}: {offsets}: {self.why}"


def reconcile(settings: Settings, *, accept: bool = False) -> list[OpenRange]:
    """Compares, and remembers how far the rows were right; returns what is open.

    Args:
        accept: remember the rows as right that are wrong: they are reported this once.

    Raises:
        include.broker.kafka.KafkaError, psycopg.Error: the broker or PostgreSQL cannot be read.
    """
    broker = _broker(settings)
    with _snapshot(settings) as connection:
        ledger = connection.execute(statement("reconcile/ledger")).fetchall()
        wrong = _count(connection, settings, ledger)
        _remember(connection, ledger, [] if accept else wrong)
    against_the_broker = _against_the_broker(settings, ledger, broker)
    _tell(settings, [*([] if accept else wrong), *against_the_broker])
    return [*wrong, *against_the_broker]


def _tell(settings: Settings, ranges: Sequence[OpenRange]) -> None:
    """Opens an incident for each stream whose books are open, and closes that of the others."""
    with psycopg.connect(settings.conninfo("owner")) as connection:
        for stream in STREAMS:
            lines = [str(range_) for range_ in ranges if range_.stream == stream]
            if lines:
                open_incident(connection, Kind.BOOKS_OPEN, stream, lines[0], {"ranges": lines[:MOST_LINES]})
            else:
                close_incident(connection, Kind.BOOKS_OPEN, stream)


def open_ranges(settings: Settings) -> list[OpenRange]:
    """What is open now; changes nothing. Raises as `reconcile`."""
    broker = _broker(settings)
    with _snapshot(settings) as connection:
        ledger = connection.execute(statement("reconcile/ledger")).fetchall()
        wrong = _count(connection, settings, ledger)
    return [*wrong, *_against_the_broker(settings, ledger, broker)]


def require(ranges: Sequence[OpenRange]) -> None:
    """Raises BooksOpen when something is open."""
    if ranges:
        raise BooksOpen("\n".join(map(str, ranges)))


def _snapshot(settings: Settings) -> psycopg.Connection:
    """A connection whose transaction sees ledger and rows of one moment."""
    connection = psycopg.connect(settings.conninfo("owner"), row_factory=namedtuple_row)
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    return connection


# The broker and the ledger


def _broker(settings: Settings) -> dict[str, dict[int, Bounds]]:
    return {
        topic: kafka.bounds(settings, topic) for topic in (settings.transactions_topic, settings.labels_topic)
    }


def _against_the_broker(
    settings: Settings, ledger: Sequence[Any], broker: Mapping[str, Mapping[int, Bounds]]
) -> list[OpenRange]:
    rows = {(row.stream, row.topic, row.partition): row for row in ledger}
    states = {row.stream: f"it is {row.state}" + (f", {row.detail}" if row.detail else "") for row in ledger}
    ranges = []
    for topic, partitions in broker.items():
        for (partition, (begin, end)), stream in product(partitions.items(), STREAMS):
            row = rows.get((stream, topic, partition))
            next_offset = row.next_offset if row else begin
            if next_offset < begin:
                first, why = next_offset, "the broker deleted them before they were read"
                ranges.append(OpenRange(stream, topic, partition, first, begin, why))
            elif next_offset > end and next_offset > _end_now(settings, topic, partition):
                why = "the ledger has them and the broker has lost them, or the topic was created again"
                ranges.append(OpenRange(stream, topic, partition, end, next_offset, why))
            elif _waits_too_long(settings, topic, partition, Bounds(next_offset, end)):
                limit, state = settings.open_difference_minutes, states.get(stream, "it has never run")
                why = f"the first of them has waited for more than {limit} minutes; {state}"
                ranges.append(OpenRange(stream, topic, partition, next_offset, end, why))
    return ranges


def _waits_too_long(settings: Settings, topic: str, partition: int, waiting: Bounds) -> bool:
    """Whether the first record of a range is older than the limit; one without a record does not wait."""
    first = next(kafka.records(settings, topic, {partition: waiting}), None)
    if first is None:
        return False
    at = datetime.fromtimestamp(first.timestamp()[1] / 1000, UTC)
    return at < datetime.now(UTC) - timedelta(minutes=settings.open_difference_minutes)


def _end_now(settings: Settings, topic: str, partition: int) -> int:
    """The end after the ledger was read, which may have grown since the first look."""
    return kafka.end_offsets(settings, topic)[partition]


# The ledger and the rows


def _count(connection: psycopg.Connection, settings: Settings, ledger: Sequence[Any]) -> list[OpenRange]:
    """Partitions whose rows since the last run are not those that the ledger counts."""
    moved = [row for row in ledger if row.next_offset > row.checked_offset]
    ranges = [
        (
            *(row.stream, row.topic, row.partition, row.topic_id, row.generation),
            *(row.checked_offset, row.next_offset),
        )
        for row in moved
    ]
    since = min((row.checked_at for row in moved), default=None)
    counts: Counter[tuple[Any, ...]] = Counter()
    if moved:
        names = ("streams", "topics", "partitions", "topic_ids", "generations", "firsts", "ends")
        arguments = dict(zip(names, map(list, zip(*ranges, strict=True)), strict=True)) | {"since": since}
        for *key, number in connection.execute(statement("reconcile/counts"), arguments).fetchall():
            counts[tuple(key)] = number
    wrong = []
    for row in ledger:
        where = row.stream, row.topic, row.partition
        if row.next_offset < row.checked_offset:
            why = "the ledger had them and was set back"
            wrong.append(OpenRange(*where, row.next_offset, row.checked_offset, why))
            continue
        expected = (
            {"dead_letters": row.dead_letters - row.checked_dead_letters}
            if row.stream == TRANSACTION_STREAM
            else {}
        )
        if row.topic == settings.transactions_topic:
            table = "transactions" if row.stream == TRANSACTION_STREAM else "fraud_scores"
            expected[table] = row.stored - row.checked_stored
        for table, number in expected.items():
            count = counts[*where, table]
            if count != number:
                why = f"the ledger counts {number} rows in shop.{table}, there are {count}; {ACCEPT}"
                wrong.append(OpenRange(*where, row.checked_offset, row.next_offset, why))
    return wrong + _unscored(connection, settings, ledger, since)


def _unscored(
    connection: psycopg.Connection, settings: Settings, ledger: Sequence[Any], since: datetime | None
) -> list[OpenRange]:
    """Transactions that both streams have passed and that have no score."""
    rows = {(row.stream, row.partition): row for row in ledger if row.topic == settings.transactions_topic}
    ranges = []
    for (stream, partition), stored in rows.items():
        scored = rows.get((FRAUD_STREAM, partition))
        if stream == TRANSACTION_STREAM and scored is not None and scored.generation == stored.generation:
            first = max(min(stored.checked_offset, scored.checked_offset), scored.first_offset)
            end = min(stored.next_offset, scored.next_offset)
            ranges.append((stored.topic, partition, stored.generation, first, end))
    if not ranges or since is None:
        return []
    names = ("topics", "partitions", "generations", "firsts", "ends")
    arguments = dict(zip(names, map(list, zip(*ranges, strict=True)), strict=True)) | {"since": since}
    return [
        OpenRange(
            FRAUD_STREAM,
            topic,
            partition,
            first,
            last + 1,
            f"{number} stored transactions have no score; {ACCEPT}",
        )
        for topic, partition, first, last, number in connection.execute(
            statement("reconcile/unscored"), arguments
        ).fetchall()
    ]


def _remember(connection: psycopg.Connection, ledger: Iterable[Any], wrong: Sequence[OpenRange]) -> None:
    open_keys = {(range_.stream, range_.topic, range_.partition) for range_ in wrong}
    connection.cursor().executemany(
        _REMEMBER,
        [
            (
                row.stream,
                row.topic,
                row.partition,
                row.topic_id,
                row.next_offset,
                row.stored,
                row.dead_letters,
            )
            for row in ledger
            if (row.stream, row.topic, row.partition) not in open_keys
        ],
    )
