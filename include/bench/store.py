"""A range written in one transaction by COPY beside the same rows by `executemany`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg
from msgspec.structs import astuple

from include.bench import START
from include.bench.compare import Comparison, Side, compare, timed
from include.bench.services import services
from include.events.transaction import Transaction, decode
from include.generator.config import Config
from include.generator.profiles import simulation
from include.settings import Settings
from include.streams import TRANSACTION_STREAM, ingest, store
from include.streams.store import Range, Record, Writer

TOPIC = "bench"
COLUMNS = Transaction.__struct_fields__
INSERT = (
    f"insert into bench.transactions ({', '.join(COLUMNS)}) values ({', '.join(['%s'] * len(COLUMNS))}) "
    "on conflict do nothing"
)
PLAIN_TABLE = f"""
create schema bench;
create table bench.transactions as select {", ".join(COLUMNS)} from shop.transactions with no data;
grant usage on schema bench to stream_writer;
grant insert on bench.transactions to stream_writer"""


def measure(rounds: int = 7, events: int = 10_000) -> list[Comparison]:
    """Ranges of `events` new transactions: decoded, written and committed on both sides.

    Ours also checks the lease, keeps the ledger and the register of ids, and marks late rows; the other table
    has a primary key and `on conflict do nothing`.
    """
    with services() as settings:
        with psycopg.connect(settings.conninfo("owner"), autocommit=True) as owner:
            owner.execute(PLAIN_TABLE)
            owner.execute("alter table bench.transactions add primary key (transaction_id)")
        mine, same = ranges(events), ranges(events)
        with store.connect(settings) as connection:
            ours = Side("store.write, binary COPY", lambda: _copied(connection, settings, next(mine)))
            other = Side("executemany INSERT", lambda: _inserted(connection, settings, next(same)))
            for side in (ours, other):
                side.cost()  # caches are filled
            return compare("store", "event", [ours], other, rounds)


def ranges(events: int) -> Iterator[Range]:
    """Ranges of generated transactions that follow on one another, without end."""
    batches = simulation(Config(rate=30.0)).live(START)
    now = datetime.now(UTC)
    values: list[bytes] = []
    offset = 0
    while True:
        while len(values) < events:
            values += [value for _, _, value in next(batches).transactions()]
        chosen, values = values[:events], values[events:]
        records = [Record(offset + i, now, b"", value) for i, value in enumerate(chosen)]
        yield Range.of(TRANSACTION_STREAM, TOPIC, "bench", 0, records)
        offset += events


def _copied(connection: psycopg.Connection, settings: Settings, span: Range) -> float:
    writer = Writer(settings, TRANSACTION_STREAM, 0)
    return timed(
        lambda: store.write(connection, writer, span, ingest.transactions),
        len(span.records),
        time.perf_counter,
    )


def _inserted(connection: psycopg.Connection, settings: Settings, span: Range) -> float:
    tolerance = timedelta(seconds=settings.future_tolerance_seconds)

    def insert() -> None:
        rows = [
            astuple(
                decode(
                    record.value,
                    record.broker_time,
                    max_bytes=settings.max_event_bytes,
                    future_tolerance=tolerance,
                ).transaction
            )
            for record in span.records
        ]
        with connection.transaction(), connection.cursor() as cursor:
            cursor.executemany(INSERT, rows)

    return timed(insert, len(span.records), time.perf_counter)
