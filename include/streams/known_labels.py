"""The handler of fraud_stream that keeps labels for the features of merchants (`include.features.known_frauds`).

From which day on payments may know a label:

- A label counts from the day after its known_at. Publishers have a label acknowledged before they send a later
  payment, and fraud_stream reads the labels to their present end before each batch: it is there in time.
- A label that comes later than that counts from the day after the newest payment that any partition of the stream
  has committed. A day that has begun never changes. `counts_from` is stored, so that a recomputation knows the same.
- A label counts until the next one of its transaction does, by known_at and whichever was read first. When that one
  counts already, it changes nothing. Nor does one that claims to be known at the payment itself, as an `is_fraud`
  inside an event.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from itertools import zip_longest
from operator import attrgetter
from typing import NamedTuple

import psycopg

from include.events.label import Label, decode_label
from include.sql import one_row
from include.streams.decoding import decode_records
from include.streams.store import Outcome, Range, Writer, copy

ONE_DAY = timedelta(days=1)

_OPENED = "select max(watermark) from shop.stream_offsets where stream = %s and topic = %s"
_COLUMNS = {
    "transaction_id": "text",
    "timestamp": "timestamptz",
    "known_at": "timestamptz",
    "is_fraud": "bool",
    "merchant_id": "text",
    "counts_from": "date",
}
_READ = f"""
select {", ".join(_COLUMNS)} from shop.merchant_labels
where transaction_id = any(%s) order by transaction_id, timestamp, known_at"""
_MERCHANTS = """
select t.transaction_id, t.timestamp, t.merchant_id
from unnest(%s::text[], %s::timestamptz[]) as asked (transaction_id, timestamp)
join shop.transactions t using (transaction_id, timestamp)"""
_ADD = """
insert into shop.merchant_frauds (merchant_id, reported, counts_from, frauds)
select * from unnest(%s::text[], %s::date[], %s::date[], %s::int[])
on conflict (merchant_id, reported, counts_from) do update set frauds = merchant_frauds.frauds + excluded.frauds"""


class _Row(NamedTuple):
    """A label as it was read, a row of shop.merchant_labels with `_COLUMNS`."""

    transaction_id: str
    timestamp: datetime
    known_at: datetime
    is_fraud: bool
    merchant_id: str | None
    counts_from: date | None


class _Counted(NamedTuple):
    """A label that payments know from a day on."""

    known_at: datetime
    is_fraud: bool
    merchant_id: str | None
    counts_from: date


def labels(
    connection: psycopg.Connection, writer: Writer, span: Range, watermark: datetime | None
) -> Outcome:
    """Keeps the labels of a range for the features of merchants; a handler of `include.streams.store.write`.

    Rejected and contradicting labels are only counted: the stream of transactions keeps them.
    """
    accepted, rejected = decode_records(span.records, decode_label, writer.settings)
    read = [label for _, label in accepted]
    topic = writer.settings.transactions_topic
    (opened,) = one_row(connection.execute(_OPENED, (writer.stream, topic)))
    known: dict[tuple[str, datetime, datetime], bool] = {}
    # Of an event, in order of known_at.
    counted: dict[tuple[str, datetime], list[_Counted]] = defaultdict(list)
    for row in map(_Row._make, connection.execute(_READ, ([label.transaction_id for label in read],))):
        event = row.transaction_id, row.timestamp
        known[*event, row.known_at] = row.is_fraud
        if row.counts_from is not None:
            counted[event].append(_Counted(row.known_at, row.is_fraud, row.merchant_id, row.counts_from))
    merchants = _merchants(connection, read)
    rows: list[_Row] = []
    changes: Counter[tuple[str, date, date]] = Counter()
    duplicates = conflicts = 0
    for label in read:
        event = label.transaction_id, label.timestamp
        key = *event, label.known_at
        if key in known:
            duplicates += known[key] == label.is_fraud
            conflicts += known[key] != label.is_fraud
            continue
        before = counted[event]
        merchant_id = label.merchant_id or merchants.get(event)
        counts_from = _counts_from(label, before, opened)
        known[key] = label.is_fraud
        rows.append(_Row(*key, label.is_fraud, merchant_id, counts_from))
        if counts_from is not None:
            new = _Counted(label.known_at, label.is_fraud, merchant_id, counts_from)
            after = sorted([*before, new], key=attrgetter("known_at"))
            changes.update(_frauds(after))
            changes.subtract(_frauds(before))
            counted[event] = after
    copy(connection, writer, "shop.merchant_labels", _COLUMNS, rows)
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
    day = max([day, *(other.counts_from for other in others if other.known_at < label.known_at)])
    later = [other.counts_from for other in others if other.known_at > label.known_at]
    return None if later and day >= min(later) else day


def _frauds(labels: Sequence[_Counted]) -> Counter[tuple[str, date, date]]:
    """Rows of shop.merchant_frauds that the labels of a transaction make, in order of known_at."""
    counts: Counter[tuple[str, date, date]] = Counter()
    for label, following in zip_longest(labels, labels[1:]):
        if label.is_fraud and label.merchant_id is not None:
            reported = label.merchant_id, _day_after(label.known_at)
            counts[*reported, label.counts_from] += 1
            if following is not None:
                counts[*reported, following.counts_from] -= 1
    return counts


def _merchants(
    connection: psycopg.Connection, labels: Sequence[Label]
) -> dict[tuple[str, datetime], str | None]:
    """The merchants of frauds whose label does not name one, by id and time of the event, where it is stored."""
    unnamed = [
        (label.transaction_id, label.timestamp)
        for label in labels
        if label.is_fraud and not label.merchant_id
    ]
    if not unnamed:
        return {}
    rows = connection.execute(_MERCHANTS, tuple(map(list, zip(*unnamed, strict=True))))
    return {(transaction_id, timestamp): merchant_id for transaction_id, timestamp, merchant_id in rows}


def _day_after(time: datetime) -> date:
    """The UTC day after that of a time (aware, in UTC)."""
    return time.date() + ONE_DAY
