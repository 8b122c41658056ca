"""Feature vectors recomputed from stored transactions: what the stream logs, had it run all along.

The same code as the stream's, in the same order: each Kafka partition by offset, with its own states of customers
and merchants, and the labels known on each day as if each had been read in time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import NamedTuple

import numpy as np
import psycopg

from include.events.rows import with_transactions
from include.events.transaction import Transaction
from include.features import behaviour, closed_days, known_frauds
from include.features.entities import Coded
from include.sql import statement
from include.training import stored_rows

WARM_UP = timedelta(days=90)  # states are built from this long before the first vector that is wanted
BATCH = 20_000


class _Head(NamedTuple):
    """What training/transactions.sql says of a transaction beside its fields."""

    sampled: bool
    key: int
    user: int
    topic: str
    partition: int


class States:
    """The states of the customers, merchants or values of one partition, made when an id first appears."""

    def __init__(self, new: Callable[[int], np.ndarray]) -> None:
        self.new = new
        self.row_of: dict[str, int] = {}
        self.states = new(1024)

    def index(self, ids: Coded) -> np.ndarray:
        """(N,) the row of each id's state; -1 where there is none."""
        row_of = self.row_of
        rows = np.array([*(row_of.setdefault(id_, len(row_of)) for id_ in ids.values), -1], np.int64)
        while len(row_of) > len(self.states):
            self.states = np.concatenate([self.states, self.new(len(self.states))])
        of_row: np.ndarray = rows[ids.codes]
        return of_row


class Log:
    """The feature vectors of one Kafka partition's log from empty states, batch after batch.

    Args:
        frauds: what was known of fraud (include.features.known_frauds).
    """

    def __init__(self, frauds: known_frauds.KnownFrauds) -> None:
        self._frauds = frauds
        self._customers, self._merchants = States(behaviour.new_state), States(behaviour.new_merchant_state)
        self._days = States(behaviour.new_day_state)

    def vectors(self, columns: behaviour.Columns) -> np.ndarray:
        """(N, len(FEATURES)) float32 of the log's next transactions."""
        customers, merchants, days = self._customers, self._merchants, self._days
        customer_of = customers.index(columns.entities["customer"])
        merchant_of = merchants.index(columns.entities["merchant"])
        day_of = days.index(closed_days.values_of(columns.entities))
        known = self._frauds.counts(columns.entities, columns.time)
        return behaviour.compute(
            customers.states, customer_of, columns, merchants.states, merchant_of, known, days.states, day_of
        )


class Recomputation:
    """The feature vectors of a log from empty states, batch after batch.

    Args:
        frauds: what the stream knew of fraud (`include.features.known_frauds.as_read`); nothing when not given.
    """

    def __init__(self, frauds: known_frauds.KnownFrauds | None = None) -> None:
        self._frauds = frauds or known_frauds.KnownFrauds()
        self._logs: dict[int, Log] = {}

    def vectors(self, partition: int, transactions: Sequence[Transaction]) -> np.ndarray:
        """(N, len(FEATURES)) float32 of transactions of one partition, in the order of its log."""
        if partition not in self._logs:
            self._logs[partition] = Log(self._frauds)
        return self._logs[partition].vectors(behaviour.columns(transactions))


def recompute(
    transactions: Sequence[Transaction],
    partitions: Sequence[int] | np.ndarray,
    frauds: known_frauds.KnownFrauds | None = None,
) -> np.ndarray:
    """Feature vectors of scored transactions, recomputed from the first one on.

    Args:
        transactions: N transactions that the stream scored, in the order of the log within each partition.
        partitions: (N,) their Kafka partitions.
        frauds: as for `Recomputation`.

    Returns:
        (N, len(FEATURES)) float32 in the order of `transactions`.
    """
    recomputation = Recomputation(frauds)
    partition_of = np.asarray(partitions)
    result = np.empty((len(transactions), len(behaviour.FEATURES)), np.float32)
    for partition in np.unique(partition_of).tolist():
        rows = np.flatnonzero(partition_of == partition)
        for start in range(0, len(rows), BATCH):
            batch = rows[start : start + BATCH]
            result[batch] = recomputation.vectors(partition, [transactions[row] for row in batch])
    return result


def recomputed_rows(
    connection: psycopg.Connection, start: datetime, end: datetime, *, share: float = 1.0
) -> stored_rows.FeatureRows:
    """Rows with vectors (N, F) of the transactions with event time in [start, end), in order of event time.

    Every customer's vectors are computed, since merchants' states need them; those of a fixed `share` are returned.
    The rows carry no decision: score is NaN, alert False, version 0. Memory holds the result and one batch.
    """
    parts = list(_vectors(connection, start - WARM_UP, end, share, start.timestamp()))
    key, user, timestamp, amount, vectors = (
        np.concatenate(column) for column in zip(_none(), *parts, strict=True)
    )
    order = np.lexsort((key, timestamp))
    return stored_rows.FeatureRows(
        key=key[order],
        user=user[order],
        timestamp=timestamp[order],
        amount=amount[order],
        score=np.full(len(key), np.nan),
        alert=np.zeros(len(key), bool),
        version=np.zeros(len(key), np.int32),
        features=vectors[order],
    )


def _none() -> tuple[np.ndarray, ...]:
    whole, real = np.empty(0, np.int64), np.empty(0, np.float64)
    return whole, whole, real, real, np.empty((0, len(behaviour.FEATURES)), np.float32)


def _vectors(
    connection: psycopg.Connection, start: datetime, end: datetime, share: float, wanted_from: float
) -> Iterator[tuple[np.ndarray, ...]]:
    frauds = known_frauds.in_time(connection, start, end)
    current, log = None, Log(frauds)
    for batch in _batches(connection, start, end, share):
        for partition, group in groupby(batch, key=lambda row: (row[0].topic, row[0].partition)):
            heads, transactions = zip(*group, strict=True)
            if partition != current:
                current, log = partition, Log(frauds)
            columns = behaviour.columns(transactions)
            vectors = log.vectors(columns)
            timestamp = columns.time / 1e6
            kept = np.array([head.sampled for head in heads], bool) & (timestamp >= wanted_from)
            key, user = np.array([(head.key, head.user) for head in heads], np.int64).T
            yield key[kept], user[kept], timestamp[kept], columns.amount[kept], vectors[kept]


def _batches(
    connection: psycopg.Connection, start: datetime, end: datetime, share: float
) -> Iterator[list[tuple[_Head, Transaction]]]:
    with connection.cursor("recompute", row_factory=with_transactions(_Head)) as cursor:
        cursor.itersize = BATCH
        cursor.execute(
            statement("training/transactions"), {"start": start, "end": end, "share": share}, binary=True
        )
        while batch := cursor.fetchmany(BATCH):
            yield batch
