"""Closes the books of a campaign from outside: the broker's log says what must be stored, PostgreSQL what is.

Nothing here asks the streams or their decoder. What event i is, the campaign knows; which event owns an id is the
first one with it in the log.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from itertools import groupby, product
from typing import Any, NamedTuple

import numpy as np
import psycopg

from include.broker import kafka
from include.broker.kafka import Bounds
from include.events.rows import SELECTED, with_transactions
from include.faults.acknowledged import ABORTED, Acknowledged, Reader
from include.faults.events import Event, EventKind, Events
from include.faults.stack import Stack
from include.features import known_frauds
from include.settings import Settings
from include.streams import FRAUD_STREAM
from include.training import feature_differences, recompute

SHOWN = 5  # examples of each problem

Position = tuple[str, int, int]
"""Topic, partition and offset of a record."""

Logs = Mapping[str, Mapping[int, Bounds]]
"""What the broker holds of each topic and partition."""


class Fate(Enum):
    """What must become of a record."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    DEAD_LETTER = "dead letter"


@dataclass
class Books:
    """What a campaign counted; the books are closed when every field of `wrong` is 0.

    lost: acknowledged records that are neither stored nor dead letters nor duplicates of a stored one, and stored
        transactions without a score.
    duplicated: rows too many: of a transaction, a record, or its score.
    unaccounted: offsets by which a ledger differs from the log or from the tables, and rows that no record explains.
    stale_commits: commits of a driver after one with a newer lease.
    repeated_ranges: commits that did not move the ledger forwards.
    wrong_features: scores whose feature vector is not what one pass over the log gives.

    aborted counts the records of transactions that the producer aborted; one that is stored is unaccounted.
    """

    acknowledged: int = 0
    aborted: int = 0
    offsets: int = 0
    without_record: int = 0
    transactions: int = 0
    dead_letters: int = 0
    duplicates: int = 0
    labels: int = 0
    scores: int = 0
    commits: int = 0
    lost: int = 0
    duplicated: int = 0
    unaccounted: int = 0
    stale_commits: int = 0
    repeated_ranges: int = 0
    wrong_features: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def wrong(self) -> dict[str, int]:
        names = ("lost", "duplicated", "unaccounted", "stale_commits", "repeated_ranges", "wrong_features")
        return {name: getattr(self, name) for name in names}

    @property
    def closed(self) -> bool:
        return not any(self.wrong.values())

    def note(self, count: str, what: str, examples: Iterable[object]) -> None:
        """Adds what was found to a count, with a line that names a few."""
        if examples := list(examples):
            setattr(self, count, getattr(self, count) + len(examples))
            shown = ", ".join(map(str, examples[:SHOWN])) + (", ..." if len(examples) > SHOWN else "")
            self.problems.append(f"{len(examples)} {what}: {shown}")


def close(stack: Stack) -> Books:
    """Compares everything; the servers run and the streams have ended."""
    books = Books()
    topics = stack.settings.transactions_topic, stack.settings.labels_topic
    logs = {topic: kafka.bounds(stack.settings, topic) for topic in topics}
    log = dict(_log(stack.settings, stack.events, logs))
    fates = _fates(log)
    books.offsets = sum(end - begin for partitions in logs.values() for begin, end in partitions.values())
    books.without_record = books.offsets - len(log)
    books.duplicates = sum(fate is Fate.DUPLICATE for fate in fates.values())
    _broker(books, stack, log)
    aborted = _aborted(books, stack)
    stored = _rows(books, stack, log, fates, aborted)
    _labels(books, stack, log, fates)
    _ledgers(books, stack, logs, fates)
    _journal(books, stack)
    if FRAUD_STREAM in stack.streams:
        _scores(books, stack, stored)
        _known_labels(books, stack, log, fates)
        if books.closed:  # or vectors would differ because rows do
            _features(books, stack)
    return books


def _log(settings: Settings, events: Events, logs: Logs) -> Iterator[tuple[Position, Event]]:
    """Every committed record that the broker holds, as the event that the campaign sent."""
    for topic, partitions in logs.items():
        for message in kafka.records(settings, topic, partitions):
            partition, offset = message.partition(), message.offset()
            assert partition is not None and offset is not None  # it was read, not sent
            event = events.event(int(dict(message.headers() or ())["number"] or b""))
            if message.value() != event.value:
                raise ValueError(f"the broker's record {offset} of {topic} is not what was sent")
            yield (topic, partition, offset), event


def _fates(log: dict[Position, Event]) -> dict[Position, Fate]:
    owners: dict[object, str] = {}
    fates = {}
    for position, event in log.items():
        if event.kind in (EventKind.POISON, EventKind.POISON_LABEL):
            fates[position] = Fate.DEAD_LETTER
            continue
        identity = (event.transaction_id, event.known_at) if event.is_label else event.transaction_id
        if identity not in owners:
            owners[identity] = event.content
            fates[position] = Fate.STORED
        else:
            fates[position] = Fate.DUPLICATE if owners[identity] == event.content else Fate.DEAD_LETTER
    return fates


def _position(settings: Settings, event: Acknowledged) -> Position:
    topic = settings.labels_topic if event.is_label else settings.transactions_topic
    return topic, event.partition, event.offset


def _aborted(books: Books, stack: Stack) -> set[Position]:
    """Where the records lie of which none may be stored."""
    aborted = {_position(stack.settings, event) for event in Reader(stack.list.with_name(ABORTED)).new()}
    books.aborted = len(aborted)
    return aborted


def _broker(books: Books, stack: Stack, log: dict[Position, Event]) -> None:
    """Each acknowledged event lies where the broker said."""
    missing = []
    for acknowledged in Reader(stack.list).new():
        books.acknowledged += 1
        event = log.get(_position(stack.settings, acknowledged))
        if event is None or event.number != acknowledged.number:
            missing.append(acknowledged)
    books.note("lost", "acknowledged events that the broker does not hold", missing)


def _rows(
    books: Books,
    stack: Stack,
    log: dict[Position, Event],
    fates: dict[Position, Fate],
    aborted: set[Position],
) -> Counter[tuple[Any, ...]]:
    """Transactions and dead letters against the log; the stored transactions: id, topic, partition, offset."""
    stored = Counter(stack.query('select transaction_id, topic, partition, "offset" from shop.transactions'))
    letters = Counter(stack.query('select topic, partition, "offset" from shop.dead_letters'))
    books.transactions, books.dead_letters = stored.total(), letters.total()
    ids: Counter[str] = Counter()
    positions = Counter(letters)
    for (transaction_id, *position), rows in stored.items():
        ids[transaction_id] += rows
        positions[tuple(position)] += rows
    books.note("duplicated", "rows too many of a transaction", _too_many(ids))
    books.note("duplicated", "rows too many of a record", _too_many(positions))

    wanted = {
        (event.transaction_id, *position)
        for position, event in log.items()
        if fates[position] is Fate.STORED and not event.is_label
    }
    books.note("lost", "records missing in shop.transactions", sorted(wanted - stored.keys()))
    books.note("unaccounted", "aborted records that are stored", sorted(positions.keys() & aborted))
    unexplained = [row for row in stored.keys() - wanted if row[1:] not in aborted]
    books.note("unaccounted", "transactions that no record explains", sorted(unexplained))
    dead = {position for position, fate in fates.items() if fate is Fate.DEAD_LETTER}
    books.note("lost", "records missing in shop.dead_letters", sorted(dead - letters.keys()))
    books.note("unaccounted", "dead letters that no record explains", sorted(letters.keys() - dead - aborted))
    return stored


def _labels(books: Books, stack: Stack, log: dict[Position, Event], fates: dict[Position, Fate]) -> None:
    """Labels, those that came with transactions too; the table's key keeps them single."""
    wanted = {
        (event.transaction_id, datetime.fromisoformat(event.known_at))
        for position, event in log.items()
        if fates[position] is Fate.STORED and event.known_at is not None
    }
    stored = set(stack.query("select transaction_id, known_at from shop.fraud_transactions"))
    books.labels = len(stored)
    books.note("lost", "labels missing in shop.fraud_transactions", sorted(wanted - stored))
    books.note("unaccounted", "labels that no record explains", sorted(stored - wanted))


def _ledgers(books: Books, stack: Stack, logs: Logs, fates: dict[Position, Fate]) -> None:
    """Each stream's ledger has every offset of its topics, with the right counts."""
    counts: dict[tuple[str, int], Counter[str]] = defaultdict(Counter)
    for (topic, partition, _), fate in fates.items():
        counts[topic, partition][fate.value] += 1
    names = [*(fate.value for fate in Fate), "without record", "offsets"]
    rows = stack.query(
        "select stream, topic, partition, stored, duplicates, dead_letters, without_record, next_offset "
        "from shop.stream_offsets"
    )
    ledgers = {tuple(row[:3]): dict(zip(names, row[3:], strict=True)) for row in rows}
    partitions = [(topic, *bounds) for topic in logs for bounds in logs[topic].items()]
    for (topic, partition, (begin, end)), stream in product(partitions, stack.streams):
        records = counts[topic, partition]
        expected = records | {"without record": end - begin - records.total(), "offsets": end}
        ledger = ledgers.get((stream, topic, partition), {})
        pairs = {name: (ledger.get(name, 0), expected.get(name, 0)) for name in names}
        wrong = max(abs(has - should_have) for has, should_have in pairs.values())
        key = f"{stream} of {topic} partition {partition}"
        books.note("unaccounted", f"offsets in the ledger of {key} (has, should have)", [pairs] * wrong)


def _journal(books: Books, stack: Stack) -> None:
    """The ledger moved forwards only, by drivers of ever newer leases."""
    newest: Counter[tuple[Any, ...]] = Counter()
    stale, repeated = [], []
    rows = stack.query(
        "select stream, topic, partition, first_offset, next_offset, epoch from campaign.journal order by id"
    )
    for *key, first, following, epoch in rows:
        position = tuple(key)
        if epoch < newest[position]:
            stale.append((*position, epoch))
        newest[position] = max(epoch, newest[position])
        if following <= first:
            repeated.append((*position, first, following))
    books.commits = len(rows)
    books.note("stale_commits", "commits of a driver that had been replaced", stale)
    books.note("repeated_ranges", "commits that did not move the ledger forwards", repeated)


def _scores(books: Books, stack: Stack, stored: Counter[tuple[Any, ...]]) -> None:
    """Each stored transaction has one score, and each score of an alert its alert."""
    rows = stack.query('select transaction_id, topic, partition, "offset", is_alert from shop.fraud_scores')
    scores = Counter(row[:4] for row in rows)
    books.scores = len(rows)
    books.note("lost", "stored transactions without a score", sorted(stored.keys() - scores.keys()))
    books.note("duplicated", "scores too many", _too_many(scores))
    books.note("unaccounted", "scores of what is not stored", sorted(scores.keys() - stored.keys()))
    alerts = set(stack.query('select transaction_id, topic, partition, "offset" from shop.fraud_alerts'))
    flagged = {row[:4] for row in rows if row[4]}
    books.note("unaccounted", "alerts that differ from the scores", sorted(alerts ^ flagged))


def _known_labels(
    books: Books, stack: Stack, log: dict[Position, Event], fates: dict[Position, Fate]
) -> None:
    """The scores know each label of the labels' topic once, and none on the day when it became known."""
    wanted = {
        (event.transaction_id, datetime.fromisoformat(event.known_at))
        for position, event in log.items()
        if fates[position] is Fate.STORED and event.is_label and event.known_at is not None
    }
    rows = stack.query("select transaction_id, known_at, counts_from from shop.known_labels")
    known = {row[:2] for row in rows}
    books.note("lost", "labels missing in shop.known_labels", sorted(wanted - known))
    books.note("unaccounted", "known labels that no record explains", sorted(known - wanted))
    early = [row for row in rows if row[2] is not None and row[2] <= row[1].date()]
    books.note("wrong_features", "labels that count before they are known", early)


class _Logged(NamedTuple):
    topic: str
    partition: int
    offset: int
    features: list[float]


def _features(books: Books, stack: Stack) -> None:
    """The logged vectors are those of one pass over the stored transactions: each changed the state once."""
    query = f"""
        select t.topic, t.partition, t."offset", s.features, {SELECTED} from shop.transactions t
        join shop.fraud_scores s using (transaction_id, topic, partition, "offset") order by 2, 3"""
    with (
        psycopg.connect(stack.superuser()) as connection,
        connection.cursor("features", binary=True, row_factory=with_transactions(_Logged)) as cursor,
    ):
        passes = recompute.Recomputation(known_frauds.as_read(connection))
        cursor.itersize = 5_000
        cursor.execute(query)
        while rows := cursor.fetchmany(5_000):
            for partition, group in groupby(rows, key=lambda row: row[0].partition):
                events, transactions = zip(*group, strict=True)
                logged = np.array([event.features for event in events], np.float32)
                for mismatch in feature_differences.compare(logged, passes.vectors(partition, transactions)):
                    offset = events[mismatch.row].offset
                    where = f"{mismatch.feature} at offset {offset} of partition {partition}, by {mismatch.largest:.3g}"
                    books.note("wrong_features", "feature is not what one pass gives", [where])


def _too_many(rows: Counter[Any]) -> list[Any]:
    return sorted(row for row, number in rows.items() for _ in range(number - 1))
