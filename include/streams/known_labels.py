"""The handler of fraud_stream that keeps labels for what features know of fraud (`include.features.known_frauds`).

From which day on payments may know a label:

- A label counts from the day after its known_at. Publishers have a label acknowledged before they send a later
  payment, and fraud_stream reads the labels to their present end before each batch: it is there in time.
- A label that comes later than that counts from the day after the newest payment that any partition of the stream
  has committed. A day that has begun never changes. `counts_from` is stored, so that a recomputation knows the same.
- A label counts until one of its transaction counts that outranks it (`include.events.label.rank`), whichever was
  read first. When such a one counts already, it changes nothing. Nor does one that claims to be known at the payment
  itself, as an `is_fraud` inside an event.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from itertools import zip_longest
from typing import Any, NamedTuple

import psycopg

from include.events.label import Label, decode_label, rank
from include.features import entities
from include.sql import one_row
from include.streams.decoding import decode_records
from include.streams.store import Outcome, Range, Writer, copy

ONE_DAY = timedelta(days=1)

_OPENED = """
select max(watermark) from (
    select stream, topic, watermark from shop.stream_offsets
    union all select stream, topic, watermark from shop.closed_offsets
) where stream = %s and topic = %s"""
_COLUMNS = {
    "transaction_id": "text",
    "timestamp": "timestamptz",
    "known_at": "timestamptz",
    "is_fraud": "bool",
    "source": "text",
    "counts_from": "date",
}
_ENTITIES = dict.fromkeys(entities.FIELDS, "text")
_READ = f"""
select {", ".join([*_COLUMNS, *_ENTITIES])} from shop.known_labels
where transaction_id = any(%s)"""
_STORED = f"""
select t.transaction_id, t.timestamp, {", ".join(f"t.{field}" for field in entities.FIELDS.values())}
from unnest(%s::text[], %s::timestamptz[]) as asked (transaction_id, timestamp)
join shop.transactions t using (transaction_id, timestamp)"""
_ADD = """
insert into shop.known_frauds (kind, entity, reported, counts_from, frauds)
select * from unnest(%s::text[], %s::text[], %s::date[], %s::date[], %s::int[])
on conflict (kind, entity, reported, counts_from) do update set frauds = known_frauds.frauds + excluded.frauds"""

Change = tuple[str, str, date, date]  # kind, entity, reported, counts_from


class _Row(NamedTuple):
    """A label as it was read, a row of shop.known_labels; the entities, by kind, of a fraud only."""

    transaction_id: str
    timestamp: datetime
    known_at: datetime
    is_fraud: bool
    source: str | None
    counts_from: date | None
    entities: dict[str, str]

    @classmethod
    def of(cls, values: tuple[Any, ...]) -> _Row:
        """The row with these values of `_COLUMNS` and `_ENTITIES`."""
        label, names = values[: len(_COLUMNS)], values[len(_COLUMNS) :]
        named = {kind: name for kind, name in zip(_ENTITIES, names, strict=True) if name}
        return cls._make((*label, named))

    def values(self) -> tuple[object, ...]:
        """The values of `_COLUMNS` and `_ENTITIES`."""
        return *self[:-1], *(self.entities.get(kind) for kind in _ENTITIES)


class _Counted(NamedTuple):
    """A label that payments know from a day on."""

    rank: tuple[bool, datetime]
    known_at: datetime
    is_fraud: bool
    entities: dict[str, str]
    counts_from: date


def labels(
    connection: psycopg.Connection, writer: Writer, span: Range, watermark: datetime | None
) -> Outcome:
    """Keeps the labels of a range for what features know of fraud; a handler of `include.streams.store.write`.

    Rejected and contradicting labels are only counted: the stream of transactions keeps them.
    """
    accepted, rejected = decode_records(span.records, decode_label, writer.settings)
    read = [label for _, label in accepted]
    topic = writer.settings.transactions_topic
    (opened,) = one_row(connection.execute(_OPENED, (writer.stream, topic)))
    known: dict[tuple[str, datetime, datetime], bool] = {}
    # Of an event, in any order.
    counted: dict[tuple[str, datetime], list[_Counted]] = defaultdict(list)
    for row in map(_Row.of, connection.execute(_READ, ([label.transaction_id for label in read],))):
        event = row.transaction_id, row.timestamp
        known[*event, row.known_at] = row.is_fraud
        if row.counts_from is not None:
            ranked = rank(row.source, row.known_at)
            counted[event].append(_Counted(ranked, row.known_at, row.is_fraud, row.entities, row.counts_from))
    stored = _stored_entities(connection, read)
    rows: list[_Row] = []
    changes: Counter[Change] = Counter()
    duplicates = conflicts = 0
    for label in read:
        event = label.transaction_id, label.timestamp
        key = *event, label.known_at
        if key in known:
            duplicates += known[key] == label.is_fraud
            conflicts += known[key] != label.is_fraud
            continue
        before = counted[event]
        named = stored.get(event, {}) | entities.entities_of(label) if label.is_fraud else {}
        counts_from = _counts_from(label, before, opened)
        known[key] = label.is_fraud
        rows.append(_Row(*key, label.is_fraud, label.source, counts_from, named))
        if counts_from is not None:
            ranked = rank(label.source, label.known_at)
            new = _Counted(ranked, label.known_at, label.is_fraud, named, counts_from)
            after = [*before, new]
            changes.update(_frauds(after))
            changes.subtract(_frauds(before))
            counted[event] = after
    copy(connection, writer, "shop.known_labels", _COLUMNS | _ENTITIES, [row.values() for row in rows])
    if changed := [(*key, number) for key, number in sorted(changes.items()) if number]:
        connection.execute(_ADD, tuple(map(list, zip(*changed, strict=True))))
    return Outcome(
        len(rows), len(rejected) + conflicts, duplicates, watermark=watermark, id_conflicts=conflicts
    )


def _counts_from(label: Label, others: Sequence[_Counted], opened: datetime | None) -> date | None:
    """The first day whose payments may know a label, beside the others of its transaction; None for never."""
    if label.known_at <= label.timestamp:
        return None
    day = max(_day_after(time) for time in (label.known_at, opened) if time is not None)
    ranked = rank(label.source, label.known_at)
    outranked = any(other.rank > ranked and other.counts_from <= day for other in others)
    return None if outranked else day


def _frauds(labels: Sequence[_Counted]) -> Counter[Change]:
    """Rows of shop.known_frauds that the labels of a transaction make."""
    in_effect: list[_Counted] = []
    for label in sorted(labels, key=lambda label: (label.counts_from, label.rank)):
        if not in_effect or label.rank > in_effect[-1].rank:
            in_effect.append(label)
    counts: Counter[Change] = Counter()
    for label, following in zip_longest(in_effect, in_effect[1:]):
        if not label.is_fraud:
            continue
        reported = _day_after(label.known_at)
        for kind, entity in {entities.SHOP: "", **label.entities}.items():
            counts[kind, entity, reported, label.counts_from] += 1
            if following is not None:
                counts[kind, entity, reported, following.counts_from] -= 1
    return counts


def _stored_entities(
    connection: psycopg.Connection, labels: Sequence[Label]
) -> dict[tuple[str, datetime], dict[str, str]]:
    """The entities of frauds whose label does not name all, by id and time of the event, where it is stored."""
    unnamed = [
        (label.transaction_id, label.timestamp)
        for label in labels
        if label.is_fraud and len(entities.entities_of(label)) < len(_ENTITIES)
    ]
    if not unnamed:
        return {}
    rows = connection.execute(_STORED, tuple(map(list, zip(*unnamed, strict=True))))
    fields = tuple(entities.FIELDS.values())
    return {
        (transaction_id, timestamp): entities.named(dict(zip(fields, texts, strict=True)))
        for transaction_id, timestamp, *texts in rows
    }


def _day_after(time: datetime) -> date:
    """The UTC day after that of a time (aware, in UTC)."""
    return time.date() + ONE_DAY
