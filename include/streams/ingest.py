"""What becomes of the records of a range: transactions, labels, duplicates and dead letters.

`transactions` and `labels` are handlers of `include.streams.store.write`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from enum import Enum
from typing import NamedTuple, TypeVar

import psycopg
from msgspec.structs import astuple

from include.events import rows
from include.events.label import decode_label
from include.events.live_mapping import transaction_decoder
from include.events.transaction import Reason, Rejected
from include.settings import Settings
from include.streams.store import DeadLetter, Outcome, Range, Record, Writer, copy, stage, write_dead_letters

Event = TypeVar("Event")

_COPY_TRANSACTIONS = (
    f'copy shop.transactions ({", ".join(rows.COLUMNS)}, late, topic, partition, "offset", broker_time) '
    "from stdin (format binary)"
)
_COPY_TYPES = [*rows.TYPES, "bool", "text", "int4", "int8", "timestamptz"]

_CLAIMED = {"transaction_id": 'text collate "C"', "fingerprint": "int8", "timestamp": "timestamptz"}
_LABELLED = {
    "transaction_id": 'text collate "C"',
    "timestamp": "timestamptz",
    "is_fraud": "bool",
    "known_at": "timestamptz",
    "scenario_id": "text",
}
# Keys are inserted in order: two partitions which share some then cannot wait for one another in a circle.
_INSERT_LABELS = """
insert into shop.fraud_transactions (transaction_id, timestamp, is_fraud, known_at, scenario_id)
select transaction_id, timestamp, is_fraud, known_at, scenario_id from labelled
order by transaction_id, known_at
on conflict do nothing returning transaction_id, known_at"""
_KNOWN_LABELS = """
select f.transaction_id, f.known_at, f.is_fraud
from unnest(%s::text[], %s::timestamptz[]) as asked (transaction_id, known_at)
join shop.fraud_transactions f using (transaction_id, known_at)"""


class Verdict(Enum):
    """What a record is to those before it: new, the same again, or another one under the same id."""

    NEW = "new"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"


class Claim(NamedTuple):
    transaction_id: str
    fingerprint: int
    timestamp: datetime


class Register(NamedTuple):
    """A table that holds which event owns an id.

    insert: from the temporary table `claimed`, in the order of the ids, returns the ids that were new.
    known: for an array of ids, the ids and fingerprints that the table holds.
    """

    insert: str
    known: str
    arguments: tuple = ()


TRANSACTION_IDS = Register(
    """
insert into shop.transaction_ids (transaction_id, fingerprint, timestamp)
select transaction_id, fingerprint, timestamp from claimed order by transaction_id
on conflict do nothing returning transaction_id""",
    "select transaction_id, fingerprint from shop.transaction_ids where transaction_id = any(%s)",
)


def decode_all(
    records: Sequence[Record], decode: Callable[..., Event], settings: Settings
) -> tuple[list[tuple[Record, Event]], list[DeadLetter]]:
    """Decodes records: the accepted ones with their event, and those that `decode` rejected."""
    accepted, letters = [], []
    max_bytes = settings.max_event_bytes
    tolerance = timedelta(seconds=settings.future_tolerance_seconds)
    for record in records:
        try:
            event = decode(record.value, record.broker_time, max_bytes=max_bytes, future_tolerance=tolerance)
        except Rejected as rejected:
            letters.append(DeadLetter(record, rejected.reason, rejected.detail))
        else:
            accepted.append((record, event))
    return accepted, letters


def claim(
    connection: psycopg.Connection, writer: Writer, register: Register, claims: Sequence[Claim]
) -> list[Verdict]:
    """Takes ids for their first event in offset order, and says for each event what it is.

    Waits for another transaction that is taking one of the ids.
    """
    first: dict[str, Claim] = {}
    for each in claims:
        first.setdefault(each.transaction_id, each)
    stage(connection, "claimed", _CLAIMED)
    types = ["text", "int8", "timestamptz"]
    copy(connection, writer, "copy claimed from stdin (format binary)", types, list(first.values()))
    taken = connection.execute(register.insert, register.arguments)
    owners = {transaction_id: each.fingerprint for transaction_id, each in first.items()}
    new = first.keys()
    if taken.rowcount < len(first):
        new = {transaction_id for (transaction_id,) in taken}
        unknown = [transaction_id for transaction_id in first if transaction_id not in new]
        while unknown:
            known = dict(connection.execute(register.known, (unknown, *register.arguments)))
            owners.update(known)
            unknown = [transaction_id for transaction_id in unknown if transaction_id not in known]
            if unknown:  # housekeeping deleted them between the two statements
                new.update(each for (each,) in connection.execute(register.insert, register.arguments))
                unknown = [transaction_id for transaction_id in unknown if transaction_id not in new]
    verdicts = []
    for each in claims:
        if first[each.transaction_id] is each and each.transaction_id in new:
            verdicts.append(Verdict.NEW)
        elif owners[each.transaction_id] == each.fingerprint:
            verdicts.append(Verdict.DUPLICATE)
        else:
            verdicts.append(Verdict.CONFLICT)
    return verdicts


def transactions(
    connection: psycopg.Connection, writer: Writer, span: Range, watermark: datetime | None
) -> Outcome:
    """Stores the transactions of a range, the labels that came with them, and what was rejected.

    A transaction is late when it is older than the partition's newest one before it by `late_after_seconds`.
    """
    accepted, letters = decode_all(span.records, transaction_decoder(writer.settings), writer.settings)
    claims = [
        Claim(event.transaction.transaction_id, event.fingerprint, event.transaction.timestamp)
        for _, event in accepted
    ]
    verdicts = claim(connection, writer, TRANSACTION_IDS, claims)
    stored, labels = [], []
    duplicates = late = unknown_fields = 0
    tolerance = timedelta(seconds=writer.settings.late_after_seconds)
    for (record, event), verdict in zip(accepted, verdicts, strict=True):
        transaction = event.transaction
        moment = transaction.timestamp
        is_late = watermark is not None and watermark - moment > tolerance
        if watermark is None or moment > watermark:
            watermark = moment
        if verdict is Verdict.DUPLICATE:
            duplicates += 1
        elif verdict is Verdict.CONFLICT:
            detail = "another event with this transaction_id was stored before"
            letters.append(DeadLetter(record, Reason.ID_CONFLICT, detail))
        else:
            place = is_late, span.topic, span.partition, record.offset, record.broker_time
            stored.append([*rows.to_row(transaction), *place])
            late += is_late
            unknown_fields += event.unknown_fields
            if event.is_fraud is not None:
                labels.append((transaction.transaction_id, moment, event.is_fraud, moment, None))
    copy(connection, writer, _COPY_TRANSACTIONS, _COPY_TYPES, stored)
    if labels:
        _insert_labels(connection, writer, labels)
    write_dead_letters(connection, span, letters)
    return Outcome(len(stored), len(letters), duplicates, late, unknown_fields, watermark)


def labels(
    connection: psycopg.Connection, writer: Writer, span: Range, watermark: datetime | None
) -> Outcome:
    """Stores the labels of a range; one that contradicts another of the same known_at is rejected."""
    accepted, letters = decode_all(span.records, decode_label, writer.settings)
    first = {}
    for record, label in accepted:
        first.setdefault((label.transaction_id, label.known_at), (record, label))
    taken = _insert_labels(
        connection, writer, [astuple(label)[: len(_LABELLED)] for _, label in first.values()]
    )
    new, said = first.keys(), {key: label.is_fraud for key, (_, label) in first.items()}
    if taken.rowcount < len(first):
        new = set(taken)
        ids, times = zip(*(key for key in first if key not in new), strict=True)
        known = connection.execute(_KNOWN_LABELS, (list(ids), list(times)))
        said.update(((transaction_id, known_at), is_fraud) for transaction_id, known_at, is_fraud in known)
    stored = duplicates = 0
    for record, label in accepted:
        key = label.transaction_id, label.known_at
        if first[key][0] is record and key in new:
            stored += 1
        elif said[key] == label.is_fraud:
            duplicates += 1
        else:
            detail = "another label of this transaction_id with the same known_at was stored before"
            letters.append(DeadLetter(record, Reason.ID_CONFLICT, detail))
    write_dead_letters(connection, span, letters)
    return Outcome(stored, len(letters), duplicates, watermark=watermark)


def _insert_labels(connection: psycopg.Connection, writer: Writer, rows: Sequence[tuple]) -> psycopg.Cursor:
    stage(connection, "labelled", _LABELLED)
    types = ["text", "timestamptz", "bool", "timestamptz", "text"]
    copy(connection, writer, "copy labelled from stdin (format binary)", types, rows)
    return connection.execute(_INSERT_LABELS)
