"""The handlers of transaction_stream: they store transactions and labels, and count what is a duplicate.

`transactions` and `labels` are handlers of `include.streams.store.write`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from operator import attrgetter

import psycopg

from include.events import rows
from include.events.fields import declared
from include.events.label import Label, decode_label
from include.events.live_mapping import transaction_decoder
from include.events.transaction import Reason
from include.features.entities import FIELDS as ENTITIES
from include.streams.claims import TRANSACTION_IDS, Claim, ClaimResult, claim
from include.streams.decoding import decode_records
from include.streams.store import DeadLetter, Outcome, Range, Record, Writer, copy, stage, write_dead_letters

_TRANSACTIONS = rows.COLUMN_TYPES | {
    "late": "bool",
    "topic": "text",
    "partition": "int4",
    "generation": "int4",
    "offset": "int8",
    "broker_time": "timestamptz",
}
_LABELS = {field.name: field.sql_type for field in declared(Label) if field.name not in ENTITIES.values()}
_label_row = attrgetter(*_LABELS)
# Keys are inserted in order: two partitions which share some then cannot wait for one another in a circle.
_INSERT_LABELS = f"""
insert into shop.fraud_transactions ({", ".join(_LABELS)}) select {", ".join(_LABELS)} from labelled
order by transaction_id, timestamp, known_at
on conflict do nothing returning transaction_id, timestamp, known_at"""
_KNOWN_LABELS = """
select f.transaction_id, f.timestamp, f.known_at, f.is_fraud
from unnest(%s::text[], %s::timestamptz[], %s::timestamptz[]) as asked (transaction_id, timestamp, known_at)
join shop.fraud_transactions f using (transaction_id, timestamp, known_at)"""


def transactions(
    connection: psycopg.Connection, writer: Writer, span: Range, watermark: datetime | None
) -> Outcome:
    """Stores the transactions of a range, the labels that came with them, and what was rejected.

    A transaction is late when it is older than the partition's newest one before it by `late_after_seconds`.
    """
    accepted, rejects = decode_records(span.records, transaction_decoder(writer.settings), writer.settings)
    claims = [
        Claim(event.transaction.transaction_id, event.fingerprint, event.transaction.timestamp)
        for _, event in accepted
    ]
    results = claim(connection, writer, TRANSACTION_IDS, claims)
    stored: list[list[object]] = []
    labels: list[tuple[object, ...]] = []
    duplicates = conflicts = late = unknown_fields = 0
    tolerance = timedelta(seconds=writer.settings.late_after_seconds)
    for (record, event), result in zip(accepted, results, strict=True):
        transaction = event.transaction
        timestamp = transaction.timestamp
        is_late = watermark is not None and watermark - timestamp > tolerance
        if watermark is None or timestamp > watermark:
            watermark = timestamp
        if result is ClaimResult.DUPLICATE:
            duplicates += 1
        elif result is ClaimResult.CONFLICT:
            detail = "another event with this transaction_id was stored before"
            rejects.append(DeadLetter(record, Reason.ID_CONFLICT, detail, rows.to_json(transaction)))
            conflicts += 1
        else:
            log_position = span.topic, span.partition, span.generation, record.offset, record.broker_time
            stored.append([*rows.to_row(transaction), is_late, *log_position])
            late += is_late
            unknown_fields += event.unknown_fields
            if event.is_fraud is not None:
                truth = Label(transaction.transaction_id, timestamp, event.is_fraud, timestamp)
                labels.append(_label_row(truth))
    copy(connection, writer, "shop.transactions", _TRANSACTIONS, stored)
    if labels:
        _insert_labels(connection, writer, labels)
    write_dead_letters(connection, span, rejects)
    return Outcome(
        len(stored), len(rejects), duplicates, late, unknown_fields, watermark, id_conflicts=conflicts
    )


def labels(
    connection: psycopg.Connection, writer: Writer, span: Range, watermark: datetime | None
) -> Outcome:
    """Stores the labels of a range; one that contradicts another of its event with the same known_at is rejected."""
    accepted, rejects = decode_records(span.records, decode_label, writer.settings)
    first: dict[tuple[str, datetime, datetime], tuple[Record, Label]] = {}
    for record, label in accepted:
        first.setdefault(_key(label), (record, label))
    taken = _insert_labels(connection, writer, [_label_row(label) for _, label in first.values()])
    new = set(first)
    owners = {key: label.is_fraud for key, (_, label) in first.items()}
    if taken.rowcount < len(first):
        new = set(taken)
        old = zip(*(key for key in first if key not in new), strict=True)
        known = connection.execute(_KNOWN_LABELS, tuple(map(list, old)))
        owners.update(((*key, known_at), is_fraud) for *key, known_at, is_fraud in known)
    stored = duplicates = conflicts = 0
    for record, label in accepted:
        key = _key(label)
        if first[key][0] is record and key in new:
            stored += 1
        elif owners[key] == label.is_fraud:
            duplicates += 1
        else:
            detail = (
                "another label of this transaction_id and timestamp with the same known_at was stored before"
            )
            rejects.append(DeadLetter(record, Reason.ID_CONFLICT, detail))
            conflicts += 1
    write_dead_letters(connection, span, rejects)
    return Outcome(stored, len(rejects), duplicates, watermark=watermark, id_conflicts=conflicts)


def _key(label: Label) -> tuple[str, datetime, datetime]:
    """Equal for two labels of one event that became known at once: one of them repeats or contradicts the other."""
    return label.transaction_id, label.timestamp, label.known_at


def _insert_labels(
    connection: psycopg.Connection, writer: Writer, rows: Sequence[tuple[object, ...]]
) -> psycopg.Cursor:
    stage(connection, "labelled", _LABELS)
    copy(connection, writer, "labelled", _LABELS, rows)
    return connection.execute(_INSERT_LABELS)
