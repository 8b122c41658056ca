"""Scores the transactions of a range: features from each customer's state, the champion's score, alerts.

What an event says about fraud is left behind with the decoding; nothing here can see it. Of labels only the numbers
of frauds that were known of its entities before the payment's day are seen (include.features.known_frauds).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.types.json import Jsonb

from include.events.live_mapping import transaction_decoder
from include.events.transaction import Transaction
from include.features import behaviour, closed_days, extra_fields, known_frauds
from include.models.explain import AlertReason, reasons
from include.models.scorer import Scorer
from include.streams.claims import Claim, ClaimResult, IdTable, claim
from include.streams.decoding import decode_records
from include.streams.store import Outcome, Range, Record, Writer, copy, stage

if TYPE_CHECKING:
    from pyspark import Broadcast

FLOAT4, FLOAT4_ARRAY = 700, 1021  # oids of PostgreSQL
ALERTS_AT_ONCE = 1_000  # explaining one takes about 100 kB

_SCORED_IDS = """
insert into shop.scored_ids (transaction_id, partition, fingerprint, timestamp)
select transaction_id, %s, fingerprint, timestamp from claimed order by transaction_id
on conflict do nothing returning transaction_id"""
_KNOWN_IDS = """
select transaction_id, fingerprint from shop.scored_ids where transaction_id = any(%s) and partition = %s"""

_PAYMENT = {"transaction_id": "text", "user_id": "text", "timestamp": "timestamptz"}
_LOG_POSITION = {"topic": "text", "partition": "int4", "generation": "int4", "offset": "int8"}
_SCORES = {
    **_PAYMENT,
    "score": "float8",
    "is_alert": "bool",
    "model_version": "int4",
    "feature_set": "int2",
    "features": "float4[]",
    **_LOG_POSITION,
    "broker_time": "timestamptz",
}
_ALERTS = {
    **_PAYMENT,
    "amount": "numeric",
    "score": "float8",
    "threshold": "float8",
    "model_version": "int4",
    "band": "text",
    "capacity": "int4",
    "reasons": "jsonb",
    **_LOG_POSITION,
}
_STATES = {"id": "text", "state": "bytea"}


class StateTable(NamedTuple):
    """A table of behaviour states by id and Kafka partition.

    new: makes n states without a past.
    moves: an id has one partition, and its past goes with it to another one; otherwise each partition has its own.
    """

    name: str
    key: str
    new: Callable[[int], np.ndarray]
    moves: bool


CUSTOMERS = StateTable("user_state", "user_id", behaviour.new_state, moves=True)
MERCHANTS = StateTable("merchant_state", "merchant_id", behaviour.new_merchant_state, moves=False)
DAYS = StateTable("day_state", "id", behaviour.new_day_state, moves=False)


class Bytes(Dumper):
    """Lets bytes that are already in PostgreSQL's binary form of real[] through."""

    format = Format.BINARY
    oid = FLOAT4_ARRAY

    def dump(self, obj: bytes) -> bytes:
        return obj


def scores(
    scorer: Scorer, connection: psycopg.Connection, writer: Writer, span: Range, watermark: datetime | None
) -> Outcome:
    """Scores a range and keeps scores, alerts and states; with a scorer it is a handler of `store.write`.

    Rejected records and events that contradict an earlier one of the same id are only counted:
    the stream of transactions keeps them.
    """
    accepted, rejected = decode_records(span.records, transaction_decoder(writer.settings), writer.settings)
    claims = [
        Claim(event.transaction.transaction_id, event.fingerprint, event.transaction.timestamp)
        for _, event in accepted
    ]
    events = [(record, event.transaction) for record, event in accepted]
    results = claim(connection, writer, IdTable(_SCORED_IDS, _KNOWN_IDS, (span.partition,)), claims)
    new = [event for event, result in zip(events, results, strict=True) if result is ClaimResult.NEW]
    alerts = _score(scorer, connection, writer, span, new) if new else 0
    return Outcome(
        stored=len(new),
        dead_letters=len(rejected) + results.count(ClaimResult.CONFLICT),
        duplicates=results.count(ClaimResult.DUPLICATE),
        watermark=max((transaction.timestamp for _, transaction in new), default=watermark),
        alerts=alerts,
        id_conflicts=results.count(ClaimResult.CONFLICT),
    )


def scores_by(
    scorer: Broadcast[Scorer],
    connection: psycopg.Connection,
    writer: Writer,
    span: Range,
    watermark: datetime | None,
) -> Outcome:
    """`scores` with a scorer that Spark sends to its workers."""
    return scores(scorer.value, connection, writer, span, watermark)


def load_states(
    connection: psycopg.Connection, table: StateTable, ids: Sequence[str], partition: int
) -> np.ndarray:
    """The states (len(ids),) of a partition, in the order of the ids.

    An id that moves and has no state in this partition goes on from its newest one in another, which it has when
    partitions were added; otherwise, or when its state has an older layout, it starts anew.
    """
    states = table.new(len(ids))
    if not ids:
        return states
    stored = connection.cursor(binary=True).execute(
        f"select distinct on ({table.key}) {table.key}, state from shop.{table.name} "
        f"where {table.key} = any(%s) and layout = %s and (%s or partition = %s) "
        f"order by {table.key}, partition = %s desc, written_at desc",
        (list(ids), behaviour.LAYOUT, table.moves, partition, partition),
    )
    number = {key: i for i, key in enumerate(ids)}
    rows = [(number[key], state) for key, state in stored]
    if rows:
        numbers, blobs = zip(*rows, strict=True)
        states[list(numbers)] = behaviour.unpacked(blobs, states.dtype)
    return states


def save_states(
    connection: psycopg.Connection,
    writer: Writer,
    table: StateTable,
    ids: Sequence[str],
    partition: int,
    states: np.ndarray,
) -> None:
    """Keeps the states of ids in a partition."""
    if not ids:
        return
    staged = f"staged_{table.name}"
    stage(connection, staged, _STATES)
    rows = zip(ids, behaviour.packed(states), strict=True)
    copy(connection, writer, staged, _STATES, list(rows))
    connection.execute(
        f"insert into shop.{table.name} ({table.key}, partition, layout, state) "
        f"select id, %s, %s, state from {staged} order by id "
        f"on conflict ({table.key}, partition) do update "
        "set layout = excluded.layout, state = excluded.state, written_at = clock_timestamp()",
        (partition, behaviour.LAYOUT),
    )


def _score(
    scorer: Scorer,
    connection: psycopg.Connection,
    writer: Writer,
    span: Range,
    events: Sequence[tuple[Record, Transaction]],
) -> int:
    """Scores events that are new, in log order; returns the number of alerts."""
    transactions = [transaction for _, transaction in events]
    columns = behaviour.columns(transactions)
    customers, customer_of = columns.entities["customer"]
    merchants, merchant_of = columns.entities["merchant"]
    customer_states = load_states(connection, CUSTOMERS, customers, span.partition)
    merchant_states = load_states(connection, MERCHANTS, merchants, span.partition)
    days, day_of = closed_days.values_of(columns.entities)
    day_states = load_states(connection, DAYS, days, span.partition)
    frauds = known_frauds.counts(connection, columns.entities, columns.time)
    vectors = behaviour.compute(
        customer_states, customer_of, columns, merchant_states, merchant_of, frauds, day_states, day_of
    )
    values = scorer.score(vectors)
    _write_scores(connection, writer, span, scorer, events, vectors, values)
    flagged = np.flatnonzero(scorer.is_alert(values)).tolist()
    names = extra_fields.names(connection) if flagged else {}
    for first in range(0, len(flagged), ALERTS_AT_ONCE):
        chosen = flagged[first : first + ALERTS_AT_ONCE]
        before = None if columns.previous_country is None else columns.previous_country[chosen]
        explained = reasons(scorer, vectors[chosen], [transactions[i] for i in chosen], before, names)
        alerts = [(*events[i], float(values[i]), why) for i, why in zip(chosen, explained, strict=True)]
        _write_alerts(connection, writer, span, scorer, alerts)
    save_states(connection, writer, CUSTOMERS, customers, span.partition, customer_states)
    save_states(connection, writer, MERCHANTS, merchants, span.partition, merchant_states)
    save_states(connection, writer, DAYS, days, span.partition, day_states)
    return len(flagged)


def _write_scores(
    connection: psycopg.Connection,
    writer: Writer,
    span: Range,
    scorer: Scorer,
    events: Sequence[tuple[Record, Transaction]],
    vectors: np.ndarray,
    values: np.ndarray,
) -> None:
    connection.adapters.register_dumper(None, Bytes)
    model = scorer.version, scorer.feature_set
    log = span.topic, span.partition, span.generation
    scored = zip(events, values.tolist(), scorer.is_alert(values).tolist(), real_arrays(vectors), strict=True)
    rows = [
        (
            t.transaction_id,
            t.user_id,
            t.timestamp,
            value,
            alert,
            *model,
            vector,
            *log,
            at.offset,
            at.broker_time,
        )
        for (at, t), value, alert, vector in scored
    ]
    copy(connection, writer, "shop.fraud_scores", _SCORES, rows)


def _write_alerts(
    connection: psycopg.Connection,
    writer: Writer,
    span: Range,
    scorer: Scorer,
    alerts: Sequence[tuple[Record, Transaction, float, list[AlertReason]]],
) -> None:
    rows = []
    log = span.topic, span.partition, span.generation
    bands = scorer.bands(np.array([value for _, _, value, _ in alerts]))
    for (at, t, value, why), band in zip(alerts, bands, strict=True):
        by = scorer.threshold, scorer.version, band, scorer.capacity
        decision = Decimal(str(t.amount)), value, *by, Jsonb(why)
        rows.append((t.transaction_id, t.user_id, t.timestamp, *decision, *log, at.offset))
    copy(connection, writer, "shop.fraud_alerts", _ALERTS, rows)


def real_arrays(vectors: np.ndarray) -> list[bytes]:
    """Rows of a float32 matrix (N, F) in PostgreSQL's binary form of real[], without a loop over the numbers."""
    rows, width = vectors.shape
    header = [("dimensions", ">i4"), ("nulls", ">i4"), ("oid", ">i4"), ("length", ">i4"), ("first", ">i4")]
    packed = np.empty(rows, [*header, ("items", [("bytes", ">i4"), ("value", ">f4")], (width,))])
    for (name, _), value in zip(header, (1, 0, FLOAT4, width, 1), strict=True):
        packed[name] = value
    packed["items"]["bytes"] = 4
    packed["items"]["value"] = vectors
    return [row.tobytes() for row in packed]
