"""The other side of `streams`: one process without Spark, as an engineer would write it who needs the same guarantees.

It reads committed records with confluent-kafka, decodes them with msgspec, writes by binary COPY and `on conflict do
nothing`, and keeps its offsets in the same transaction. Scores come from the same features and model; customers' states
stay in memory and are stored with the scores. It has no lease, no labels, no watermark, no register of conflicting ids,
and rejects nothing that msgspec accepts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import chain
from typing import NamedTuple

import msgspec
import numpy as np
import psycopg
from confluent_kafka import Consumer, Message, TopicPartition

from include.bench.compare import BenchmarkFailed
from include.broker import kafka
from include.events import rows
from include.events.transaction import Transaction
from include.features import behaviour, closed_days
from include.features.entities import Coded
from include.features.known_frauds import KnownFrauds
from include.models.scorer import Scorer
from include.settings import Settings
from include.streams.scoring import Bytes, real_arrays

IDLE_SECONDS = 30.0
TABLES = f"""
create table bench.stored as select {", ".join(rows.COLUMNS)}, partition, "offset" from shop.transactions with no data;
alter table bench.stored add primary key (transaction_id);
create table bench.scored (
    transaction_id text collate "C" primary key, user_id text, timestamp timestamptz, score float8, is_alert bool,
    features real[], partition int, "offset" bigint);
create table bench.states (id text collate "C" primary key, state bytea);
create table bench.offsets (side text, partition int, next_offset bigint, primary key (side, partition));
grant all on all tables in schema bench to stream_writer;"""
EMPTY = {"stores": "truncate bench.stored", "scores": "truncate bench.scored, bench.states"}  # of a side
_POSITION = {"partition": "int4", "offset": "int8"}
_STORED = rows.COLUMN_TYPES | _POSITION
_SCORED = {
    **{name: rows.COLUMN_TYPES[name] for name in ("transaction_id", "user_id", "timestamp")},
    "score": "float8",
    "is_alert": "bool",
    "features": "float4[]",
    **_POSITION,
}
_STATES = {"id": "text", "state": "bytea"}
_OFFSET = """
insert into bench.offsets values (%s, %s, %s)
on conflict (side, partition) do update set next_offset = excluded.next_offset"""
_decode = msgspec.json.Decoder(Transaction).decode

Write = Callable[[psycopg.Connection, Sequence[Message], Sequence[Transaction]], None]


def read(settings: Settings, side: str, write: Write, count: int) -> float:
    """Reads the topic from its beginning; seconds an event, without the first transaction and what came before it.

    A transaction has as many records as a micro-batch of the streams may have.

    Raises:
        BenchmarkFailed: the topic ended before `count` events.
    """
    consumer = Consumer(kafka.reader_config(settings, f"hand-written-{side}"), logger=kafka.QUIET)
    topic, piece = settings.transactions_topic, settings.max_offsets_per_trigger
    consumer.assign([TopicPartition(topic, partition, 0) for partition in kafka.bounds(settings, topic)])
    done, first, begin = 0, 0, 0.0
    last = time.monotonic()
    try:
        with psycopg.connect(settings.conninfo("stream_writer"), autocommit=True) as connection:
            connection.adapters.register_dumper(None, Bytes)
            while done < count:
                messages = [
                    message for message in consumer.consume(piece, timeout=0.2) if message.error() is None
                ]
                if messages:
                    last = time.monotonic()
                elif time.monotonic() - last > IDLE_SECONDS:
                    raise BenchmarkFailed(f"{side} read {done:,} of {count:,} events")
                else:
                    continue
                events = [_decode(message.value() or b"") for message in messages]
                ends = {message.partition(): (message.offset() or 0) + 1 for message in messages}
                with connection.transaction():
                    write(connection, messages, events)
                    connection.cursor().executemany(_OFFSET, [(side, *end) for end in ends.items()])
                done += len(messages)
                if not begin:
                    begin, first = time.perf_counter(), done
    finally:
        consumer.close()
    if done == first:
        raise BenchmarkFailed(f"{count:,} events are too few to measure {side}")
    return (time.perf_counter() - begin) / (done - first)


def store(connection: psycopg.Connection, messages: Sequence[Message], events: Sequence[Transaction]) -> None:
    """Stores each event whose id is new."""
    values = [
        [*rows.to_row(event), message.partition(), message.offset()]
        for event, message in zip(events, messages, strict=True)
    ]
    _insert(connection, "bench.stored", _STORED, values, "on conflict do nothing")


class _States(NamedTuple):
    """States in memory: the number of each id, and its record in `records`."""

    numbers: dict[str, int]
    records: list[np.ndarray]
    new: Callable[[int], np.ndarray]

    def of(self, ids: Sequence[str]) -> np.ndarray:
        """The states of some ids, those of new ones without a past."""
        states = self.new(len(ids))
        for row, key in enumerate(ids):
            number = self.numbers.get(key)
            if number is not None:
                states[row] = self.records[number]
        return states

    def keep(self, ids: Sequence[str], states: np.ndarray) -> None:
        for key, state in zip(ids, states, strict=True):
            number = self.numbers.setdefault(key, len(self.records))
            if number == len(self.records):
                self.records.append(state)
            else:
                self.records[number] = state


class Scoring:
    """Scores each event with a model, and stores scores and changed states."""

    def __init__(self, scorer: Scorer):
        self._scorer = scorer
        self._states = {
            "customer": _States({}, [], behaviour.new_state),
            "merchant": _States({}, [], behaviour.new_merchant_state),
            "day": _States({}, [], behaviour.new_day_state),
        }
        self._frauds = KnownFrauds()

    def __call__(
        self, connection: psycopg.Connection, messages: Sequence[Message], events: Sequence[Transaction]
    ) -> None:
        columns = behaviour.columns(events)
        of_kind: dict[str, Coded] = {kind: columns.entities[kind] for kind in ("customer", "merchant")}
        of_kind["day"] = closed_days.values_of(columns.entities)
        states = {kind: self._states[kind].of(coded.values) for kind, coded in of_kind.items()}
        vectors = behaviour.compute(
            states["customer"],
            of_kind["customer"].codes,
            columns,
            states["merchant"],
            of_kind["merchant"].codes,
            self._frauds.counts(columns.entities, columns.time),
            states["day"],
            of_kind["day"].codes,
        )
        scores = self._scorer.score(vectors)
        alerts = self._scorer.is_alert(scores)
        values = [
            (event.transaction_id, event.user_id, event.timestamp, score, alert, vector, *_position(message))
            for event, message, score, alert, vector in zip(
                events, messages, scores.tolist(), alerts.tolist(), real_arrays(vectors), strict=True
            )
        ]
        _insert(connection, "bench.scored", _SCORED, values, "on conflict do nothing")
        for kind, coded in of_kind.items():
            self._states[kind].keep(coded.values, states[kind])
        changed = chain.from_iterable(
            (
                (f"{kind}:{key}", state.tobytes())
                for key, state in zip(coded.values, states[kind], strict=True)
            )
            for kind, coded in of_kind.items()
        )
        _insert(
            connection,
            "bench.states",
            _STATES,
            list(changed),
            "on conflict (id) do update set state = excluded.state",
        )


def _position(message: Message) -> tuple[int | None, int | None]:
    return message.partition(), message.offset()


def _insert(
    connection: psycopg.Connection,
    table: str,
    types: dict[str, str],
    values: Sequence[Sequence[object]],
    on_conflict: str,
) -> None:
    """Copies rows into a temporary table and from there into `table`."""
    staged = table.replace(".", "_")
    names = ", ".join(f'"{name}"' for name in types)
    connection.execute(
        f"create temporary table if not exists {staged} on commit delete rows "
        f"as select {names} from {table} with no data"
    )
    with connection.cursor().copy(f"copy {staged} ({names}) from stdin (format binary)") as target:
        target.set_types([*types.values()])
        for row in values:
            target.write_row(row)
    connection.execute(f"insert into {table} ({names}) select {names} from {staged} {on_conflict}")
