"""Writes a range of one Kafka partition into PostgreSQL exactly once.

Each range is one transaction: check of the lease, the ledger's row, whatever a `Handler` writes, the ledger
again. What the ledger has is skipped, so that reading a range again changes nothing; a range that begins after the
ledger's end is refused. Not every offset of a range has a record: the ledger counts those that have none.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import psycopg
from psycopg.types.json import Jsonb

from include.broker.kafka import Bounds
from include.settings import Settings
from include.sql import one_row
from include.streams.failpoint import Failpoint

# No lock outlives a client that hangs, was cut off or died: the server notices, too.
SESSION = (
    "-c timezone=UTC -c statement_timeout=120s -c lock_timeout=60s -c idle_in_transaction_session_timeout=60s "
    "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3 "
    "-c tcp_user_timeout=30s -c client_connection_check_interval=5s"
)
KEEPALIVE: dict[str, Any] = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}


class StoreError(RuntimeError):
    """A range must not be written; the message says why and what to do."""


class Fenced(StoreError):
    """Another driver has taken over the stream: this one may not write any more."""


class OffsetGap(StoreError):
    """Offsets are missing between the ledger and what was read."""


class TopicRecreated(StoreError):
    """The topic was deleted and created again: its offsets count anew."""


# In seconds since 1970. A sender may write any time into a record; one beyond these counts as the nearest of them,
# so that every time is a date, and still is one when a tolerance is added.
EARLIEST_TIME, LATEST_TIME = 0, int(datetime(9000, 1, 1, tzinfo=UTC).timestamp())


class Record(NamedTuple):
    """One Kafka record; broker_time is the record's timestamp, aware and in UTC."""

    offset: int
    broker_time: datetime
    key: bytes | None
    value: bytes | None


class Range(NamedTuple):
    """Offsets [first, end) of one Kafka partition and the records among them, in ascending order.

    Offsets without a record are markers of transactions, records of aborted transactions, and those that the broker
    deleted from the middle of its log. The generation is that of the topic, which the ledger knows: a topic that was
    deleted and created again has a higher one.
    """

    stream: str
    topic: str
    topic_id: str
    partition: int
    first: int
    end: int
    records: Sequence[Record]
    generation: int = 0

    @classmethod
    def of(cls, stream: str, topic: str, topic_id: str, partition: int, records: Sequence[Record]) -> Range:
        """The range from the first of some records to the last."""
        return cls(stream, topic, topic_id, partition, records[0].offset, records[-1].offset + 1, records)


class Outcome(NamedTuple):
    """What became of the records of a range: stored + dead_letters + duplicates is their number.

    id_conflicts are those of the dead letters whose id another event owns.
    """

    stored: int = 0
    dead_letters: int = 0
    duplicates: int = 0
    late: int = 0
    unknown_fields: int = 0
    watermark: datetime | None = None
    alerts: int = 0
    id_conflicts: int = 0


class Summary(NamedTuple):
    """A written range [first_offset, next_offset) as the driver hears of it.

    skipped: records that the ledger had. without_record: offsets that are new to it and hold no record.
    """

    topic: str
    partition: int
    first_offset: int
    next_offset: int
    skipped: int
    stored: int
    dead_letters: int
    duplicates: int
    late: int
    alerts: int
    without_record: int


@dataclass(frozen=True)
class Writer:
    """Who writes: the settings, the stream and the epoch of its lease; sent to Spark's workers."""

    settings: Settings
    stream: str
    epoch: int
    failpoint: Failpoint = Failpoint()


class DeadLetter(NamedTuple):
    """A record that is kept as it came, with the reason why it is no event."""

    record: Record
    reason: str
    detail: str
    event: dict[str, object] | None = None  # what it said, where that could be read, without names and e-mail


# Writes the records of a range that are new to the ledger; the last argument is the partition's watermark.
Handler = Callable[[psycopg.Connection, Writer, Range, datetime | None], Outcome]

_FENCE = "select from shop.stream_leases where stream = %s and epoch = %s for key share"
_TOPIC = "insert into shop.topics (topic, topic_id) values (%(topic)s, %(topic_id)s) on conflict do nothing"
_OPEN = """
insert into shop.stream_offsets
    (stream, topic, partition, topic_id, generation, first_offset, next_offset, stored, dead_letters, duplicates, epoch)
select %(stream)s, topic, %(partition)s, topic_id, generation, %(offset)s, %(offset)s, 0, 0, 0, %(epoch)s
from shop.topics where topic = %(topic)s and topic_id = %(topic_id)s
on conflict do nothing"""
_LEDGER = """
select topic_id, generation, next_offset, watermark from shop.stream_offsets
where stream = %s and topic = %s and partition = %s for update"""
_KNOWN = "select from shop.stream_offsets where stream = %s and topic = %s limit 1"
_ADVANCE = """
update shop.stream_offsets
set next_offset = %(next_offset)s, stored = stored + %(stored)s,
    dead_letters = dead_letters + %(dead_letters)s, duplicates = duplicates + %(duplicates)s,
    without_record = without_record + %(without_record)s, id_conflicts = id_conflicts + %(id_conflicts)s,
    late = late + %(late)s, unknown_fields = unknown_fields + %(unknown_fields)s,
    watermark = greatest(watermark, %(watermark)s), epoch = %(epoch)s, committed_at = clock_timestamp()
where stream = %(stream)s and topic = %(topic)s and partition = %(partition)s"""
_DEAD_LETTERS = """
insert into shop.dead_letters (reason, detail, topic, partition, "offset", key, value, topic_id, generation, event)
values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) on conflict do nothing"""


def connect(settings: Settings) -> psycopg.Connection:
    """A connection of the streams' role that commits each statement outside of a `transaction()` block."""
    return psycopg.connect(settings.conninfo("stream_writer"), autocommit=True, options=SESSION, **KEEPALIVE)


_open: dict[str, tuple[int, psycopg.Connection]] = {}


@contextmanager
def connection(settings: Settings) -> Iterator[psycopg.Connection]:
    """This process's connection, kept for the next caller unless the block raises."""
    conninfo = settings.conninfo("stream_writer")
    owner, current = _open.pop(conninfo, (None, None))
    # A forked child must not use its parent's connection.
    if current is None or owner != os.getpid() or current.closed:
        current = connect(settings)
    try:
        yield current
    except BaseException:
        current.close()
        raise
    _open[conninfo] = os.getpid(), current


def write(connection: psycopg.Connection, writer: Writer, span: Range, handle: Handler) -> Summary:
    """Writes a range in one transaction, or nothing of it.

    Raises:
        Fenced, OffsetGap, TopicRecreated
        psycopg.Error: PostgreSQL could not do it; nothing was written, unless only the reply to COMMIT was
            lost, and then the next attempt skips the range. Its message quotes no row.
    """
    writer.failpoint.reach("before_write")
    try:
        with connection.transaction():
            _check_lease(connection, writer)
            next_offset, watermark, generation = _ledger(connection, writer, span)
            new = _after(span, next_offset)._replace(generation=generation)
            outcome = handle(connection, writer, new, watermark) if new.records else Outcome()
            without_record = new.end - new.first - len(new.records)
            if new.first < new.end:
                _advance(connection, writer, new, outcome, without_record)
    except psycopg.Error as error:
        raise _without_rows(error) from None
    writer.failpoint.reach("after_commit")
    return Summary(
        span.topic,
        span.partition,
        span.first,
        span.end,
        len(span.records) - len(new.records),
        outcome.stored,
        outcome.dead_letters,
        outcome.duplicates,
        outcome.late,
        outcome.alerts,
        without_record,
    )


def _without_rows(error: psycopg.Error) -> psycopg.Error:
    """The same error without PostgreSQL's DETAIL and CONTEXT, which quote rows: tasks' logs keep what is raised."""
    message = error.diag.message_primary
    return type(error)(message) if message else error


def write_dead_letters(connection: psycopg.Connection, span: Range, letters: Sequence[DeadLetter]) -> None:
    """Keeps rejected records as they came, with the reason."""
    if letters:
        rows = [
            (
                *(reason, detail, span.topic, span.partition, record.offset, record.key, record.value),
                *(span.topic_id, span.generation, event and Jsonb(event)),
            )
            for record, reason, detail, event in letters
        ]
        connection.cursor().executemany(_DEAD_LETTERS, rows)


def copy(
    connection: psycopg.Connection,
    writer: Writer,
    table: str,
    columns: Mapping[str, str],
    rows: Sequence[Sequence[object]],
) -> None:
    """Copies rows into a table; `columns` has the names and types of their values in order."""
    if not rows:
        return
    middle = len(rows) // 2
    names = ", ".join(f'"{name}"' for name in columns)
    with connection.cursor().copy(f"copy {table} ({names}) from stdin (format binary)") as target:
        target.set_types([*columns.values()])
        for row in rows[:middle]:
            target.write_row(row)
        writer.failpoint.reach("mid_copy")
        for row in rows[middle:]:
            target.write_row(row)


def stage(connection: psycopg.Connection, table: str, columns: Mapping[str, str]) -> None:
    """A temporary table that every COMMIT empties, with texts in the order of their bytes; kept for the session."""
    declared = ", ".join(
        f'{name} {kind} collate "C"' if kind == "text" else f"{name} {kind}" for name, kind in columns.items()
    )
    connection.execute(f"create temporary table if not exists {table} ({declared}) on commit delete rows")


def open_ledger(
    connection: psycopg.Connection,
    writer: Writer,
    topic: str,
    topic_id: str,
    bounds: Mapping[int, Bounds],
) -> dict[int, int]:
    """The next offset of each of a topic's partitions; partitions that are new get their row.

    A stream that has not read the topic before begins at the first offset that the broker holds; in a
    partition that was added later, it begins at offset 0.

    Args:
        bounds: what the broker holds of each partition.

    Raises:
        Fenced, TopicRecreated
        OffsetGap: the broker has already deleted what comes next, or ends before it.
    """
    empty = {
        partition: Range(writer.stream, topic, topic_id, partition, begin, begin, [])
        for partition, (begin, _) in bounds.items()
    }
    with connection.transaction():
        _check_lease(connection, writer)
        known = connection.execute(_KNOWN, (writer.stream, topic)).rowcount > 0
        for span in empty.values():
            _ledger(connection, writer, span, 0 if known else span.first)
    next_offsets = {}
    with connection.transaction():
        for partition, span in empty.items():
            next_offset, _, _ = _ledger(connection, writer, span)
            begin, end = bounds[partition]
            if begin > next_offset:
                raise _deleted(span, next_offset, begin)
            if end < next_offset:
                raise OffsetGap(
                    f"{writer.stream}: partition {partition} of {topic} ends at offset {end}, "
                    f"before the ledger's {next_offset}: the broker has lost records that are stored here. "
                    f"Restore the broker's data, or accept it: {_forget(span)}"
                )
            next_offsets[partition] = next_offset
    return next_offsets


def _check_lease(connection: psycopg.Connection, writer: Writer) -> None:
    if connection.execute(_FENCE, (writer.stream, writer.epoch)).rowcount == 0:
        raise Fenced(
            f"{writer.stream}: another driver has taken over; the one of epoch {writer.epoch} must not write "
            "any more. There is nothing to do while the other one runs"
        )


def _ledger(
    connection: psycopg.Connection, writer: Writer, span: Range, first: int = 0
) -> tuple[int, datetime | None, int]:
    """Locks the partition's row of the ledger, opened at offset `first` when there is none.

    Returns:
        its next offset, its watermark, and the topic's generation.
    """
    key = span.stream, span.topic, span.partition
    row = connection.execute(_LEDGER, key).fetchone()
    if row is None:
        values = span._asdict() | {"offset": first, "epoch": writer.epoch}
        connection.execute(_TOPIC, values)
        connection.execute(_OPEN, values)
        row = one_row(connection.execute(_LEDGER, key))
    topic_id, generation, next_offset, watermark = row
    if topic_id != span.topic_id:
        raise TopicRecreated(
            f"{span.stream}: {span.topic} is not the topic that was read up to offset {next_offset} of "
            f"partition {span.partition}: it was deleted and created again. Records of the old one that were "
            f"not read are lost. To read the new one from its beginning: {_forget(span)}"
        )
    return next_offset, watermark, generation


def _after(span: Range, next_offset: int) -> Range:
    """The part of a range that the ledger does not have."""
    if span.first > next_offset:
        raise OffsetGap(
            f"{span.stream}: offsets {next_offset} to {span.first - 1} of partition {span.partition} of "
            f"{span.topic} are missing: the ledger ends before {next_offset} and the checkpoint continues at "
            f"{span.first}, as after the database was restored from a backup. Stop the stream and delete its "
            "checkpoint's folder: it then continues from the ledger"
        )
    first = min(next_offset, span.end)
    if first == span.first:
        return span
    return span._replace(first=first, records=[record for record in span.records if record.offset >= first])


def _advance(
    connection: psycopg.Connection, writer: Writer, span: Range, outcome: Outcome, without_record: int
) -> None:
    connection.execute(
        _ADVANCE,
        {
            "stream": span.stream,
            "topic": span.topic,
            "partition": span.partition,
            "epoch": writer.epoch,
            "next_offset": span.end,
            "without_record": without_record,
            **outcome._asdict(),
        },
    )


def _deleted(span: Range, next_offset: int, begin: int) -> OffsetGap:
    key = f"stream = '{span.stream}' and topic = '{span.topic}' and partition = {span.partition}"
    return OffsetGap(
        f"{span.stream}: offsets {next_offset} to {begin - 1} of partition {span.partition} of {span.topic} "
        f"are missing: the ledger ends before {next_offset} and the broker has deleted what is before {begin}. "
        "They are lost, unless a backup has them; to continue without them, stop the stream, delete its "
        "checkpoint's folder and, as the database's owner: "
        f"update shop.stream_offsets set next_offset = {begin}, lost = lost + {begin - next_offset} "
        f"where {key}"
    )


def _forget(span: Range) -> str:
    return (
        "stop the stream, delete its checkpoint's folder and, as the database's owner: "
        f"delete from shop.stream_offsets where stream = '{span.stream}' and topic = '{span.topic}'"
    )
