"""What is known of fraud at a merchant when a payment comes: the only way in which labels reach a feature.

Time is closed UTC days. A payment of day D knows the labels that count from D or an earlier day, whichever
partition it is in and however fast it came:

- A label counts from the day after its known_at. Publishers have a label acknowledged before they send a later
  payment, and fraud_stream reads the labels to their present end before each batch: it is there in time.
- A label that comes later than that counts from the day after the newest payment that any partition of the stream
  has committed. A day that has begun never changes. `counts_from` is stored, so that a replay knows the same.
- A label counts until the next one of its transaction does, by known_at and whichever was read first. When that one
  counts already, it changes nothing. Nor does one that claims to be known at the payment itself, as an `is_fraud`
  inside an event.
- Frauds count for 30 days from the day after they were known.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from itertools import zip_longest
from operator import attrgetter
from typing import NamedTuple

import numpy as np
import psycopg

from include.events.label import Label, decode_label
from include.sql import statement
from include.streams.ingest import decode_all
from include.streams.store import Outcome, Range, Writer, copy

WINDOW = 30  # days
DAY = 86_400_000_000  # microseconds
ONE_DAY = timedelta(days=1)

_OPENED = "select max(watermark) from shop.stream_offsets where stream = %s and topic = %s"
_READ = """
select transaction_id, known_at, is_fraud, merchant_id, counts_from from shop.merchant_labels
where transaction_id = any(%s) order by transaction_id, known_at"""
_MERCHANTS = """
select t.transaction_id, t.merchant_id
from unnest(%s::text[], %s::timestamptz[]) as asked (transaction_id, timestamp)
join shop.transactions t using (transaction_id, timestamp)"""
_COPY = """
copy shop.merchant_labels (transaction_id, known_at, is_fraud, merchant_id, counts_from)
from stdin (format binary)"""
_TYPES = ["text", "timestamptz", "bool", "text", "date"]
_ADD = """
insert into shop.merchant_frauds (merchant_id, reported, counts_from, frauds)
select * from unnest(%s::text[], %s::date[], %s::date[], %s::int[])
on conflict (merchant_id, reported, counts_from) do update set frauds = merchant_frauds.frauds + excluded.frauds"""


class _Row(NamedTuple):
    """A label as it was read, a row of shop.merchant_labels."""

    transaction_id: str
    known_at: datetime
    is_fraud: bool
    merchant_id: str | None
    counts_from: date | None


class KnownFrauds:
    """The known frauds of all merchants on any day, in memory.

    Args:
        changes: merchant, the day after the report, the day from which that is known (both days since 1970), and
            by how many frauds.
    """

    def __init__(self, changes: Iterable[tuple[str, int, int, int]] = ()):
        self._changes: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
        for merchant_id, *change in changes:
            self._changes[merchant_id].append(tuple(change))

    def counts(self, merchants: Sequence[str | None], time: np.ndarray) -> np.ndarray:
        """As `counts` of this module."""
        asked, index = _asked(merchants, time)
        found = np.zeros(len(asked) + 1)
        for place, (merchant_id, day) in enumerate(asked):
            for reported, counts_from, frauds in self._changes.get(merchant_id, ()):
                if day - WINDOW < reported <= day and counts_from <= day:
                    found[place] += frauds
        return found[index]


def counts(connection: psycopg.Connection, merchants: Sequence[str | None], time: np.ndarray) -> np.ndarray:
    """Frauds known at each payment of its merchant in the 30 days before.

    Args:
        merchants: N ids, None where a payment has none.
        time: (N,) microseconds since 1970 of the payments.

    Returns:
        (N,) float64; 0 without a merchant.
    """
    asked, index = _asked(merchants, time)
    found = np.zeros(len(asked) + 1)
    if asked:
        ids, days = zip(*asked, strict=True)
        rows = connection.execute(
            statement("known_frauds/counts"), {"merchants": list(ids), "days": list(days)}
        )
        for place, frauds in rows:
            found[place] = frauds
    return found[index]


def as_read(connection: psycopg.Connection) -> KnownFrauds:
    """What the stream knew, recomputed from the labels as it read them."""
    return KnownFrauds(connection.execute(statement("known_frauds/as_read")))


def in_time(connection: psycopg.Connection, start: datetime, end: datetime) -> KnownFrauds:
    """What a stream that had run all along would have known of payments with event time in [start, end)."""
    return KnownFrauds(connection.execute(statement("known_frauds/in_time"), {"start": start, "end": end}))


def labels(
    connection: psycopg.Connection, writer: Writer, span: Range, watermark: datetime | None
) -> Outcome:
    """Keeps the labels of a range for the features of merchants; a handler of `include.streams.store.write`.

    Rejected and contradicting labels are only counted: the stream of transactions keeps them.
    """
    accepted, rejected = decode_all(span.records, decode_label, writer.settings)
    found = [label for _, label in accepted]
    (opened,) = connection.execute(_OPENED, (writer.stream, writer.settings.transactions_topic)).fetchone()
    said: dict[tuple[str, datetime], bool] = {}
    counted: dict[str, list[_Row]] = defaultdict(list)  # in order of known_at
    for row in map(_Row._make, connection.execute(_READ, ([label.transaction_id for label in found],))):
        said[row.transaction_id, row.known_at] = row.is_fraud
        if row.counts_from is not None:
            counted[row.transaction_id].append(row)
    merchants = _merchants(connection, found)
    rows, changes = [], Counter()
    duplicates = conflicts = 0
    for label in found:
        key = label.transaction_id, label.known_at
        if key in said:
            duplicates += said[key] == label.is_fraud
            conflicts += said[key] != label.is_fraud
            continue
        before = counted[label.transaction_id]
        merchant_id = label.merchant_id or merchants.get(label.transaction_id)
        row = _Row(*key, label.is_fraud, merchant_id, _counts_from(label, before, opened))
        said[key] = label.is_fraud
        rows.append(row)
        if row.counts_from is not None:
            after = sorted([*before, row], key=attrgetter("known_at"))
            changes.update(_frauds(after))
            changes.subtract(_frauds(before))
            counted[label.transaction_id] = after
    copy(connection, writer, _COPY, _TYPES, rows)
    if changed := [(*key, number) for key, number in sorted(changes.items()) if number]:
        connection.execute(_ADD, tuple(map(list, zip(*changed, strict=True))))
    return Outcome(len(rows), len(rejected) + conflicts, duplicates, watermark=watermark)


def _counts_from(label: Label, others: Sequence[_Row], opened: datetime | None) -> date | None:
    """The first day whose payments may know a label, beside the others of its transaction; None for never."""
    if label.known_at <= label.timestamp:
        return None
    day = max(_day_after(moment) for moment in (label.known_at, opened) if moment is not None)
    day = max([day, *(other.counts_from for other in others if other.known_at < label.known_at)])
    later = [other.counts_from for other in others if other.known_at > label.known_at]
    return None if later and day >= min(later) else day


def _frauds(labels: Sequence[_Row]) -> Counter[tuple[str, date, date]]:
    """Rows of shop.merchant_frauds that the labels of a transaction make, in order of known_at."""
    found = Counter()
    for label, following in zip_longest(labels, labels[1:]):
        if label.is_fraud and label.merchant_id is not None:
            reported = label.merchant_id, _day_after(label.known_at)
            found[*reported, label.counts_from] += 1
            if following is not None:
                found[*reported, following.counts_from] -= 1
    return found


def _merchants(connection: psycopg.Connection, labels: Sequence[Label]) -> dict[str, str | None]:
    """The merchants of frauds whose label does not name one, by transaction, where it is stored."""
    asked = [
        (each.transaction_id, each.timestamp) for each in labels if each.is_fraud and not each.merchant_id
    ]
    return dict(connection.execute(_MERCHANTS, tuple(map(list, zip(*asked, strict=True))))) if asked else {}


def _day_after(moment: datetime) -> date:
    """The UTC day after that of a moment (aware, in UTC)."""
    return moment.date() + ONE_DAY


def _asked(merchants: Sequence[str | None], time: np.ndarray) -> tuple[list[tuple[str, int]], np.ndarray]:
    """The distinct merchants and days (since 1970), and for each payment its place among them or -1."""
    place: dict[tuple[str, int], int] = {}
    days = (np.asarray(time) // DAY).tolist()
    index = [
        -1 if merchant_id is None else place.setdefault((merchant_id, day), len(place))
        for merchant_id, day in zip(merchants, days, strict=True)
    ]
    return list(place), np.array(index, np.int64)
