"""Compares the feature vectors that the stream logged with those of the stored transactions, and remembers the result.

Every partition is recomputed from its first scored event in the order of its log, as the stream saw it, in memory that
holds the states and one batch. Above `MAX_ROWS` scores that would take too long: then a fixed share of the customers
is recomputed with their whole history, without the merchants' features, which need every row.

What the stored rows cannot tell is left out and counted: an event that was scored although another one owned its
id (shop.transactions has only that one), all later rows of its customer, and from there on the merchants' features
of its partition; customers in more than one partition, whose state may have moved with them; and, in a partition
whose oldest scores are gone, customers who had paid before and the merchants' features.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import NamedTuple

import numpy as np
import psycopg
from psycopg.types.json import Jsonb

from include.events.rows import with_transactions
from include.events.transaction import Transaction
from include.features import known_frauds
from include.features.definitions import FEATURE_SET, FEATURES, PARTITION_FEATURES
from include.settings import Settings
from include.sql import one_row, statement
from include.training import feature_differences
from include.training.feature_differences import FeatureDifference, ParityBroken
from include.training.recompute import BATCH, Recomputation

MAX_ROWS = 1_000_000
HISTORY = FEATURES.index("history")
OF_PARTITION = np.isin(FEATURES, PARTITION_FEATURES)


class LoggedEvent(NamedTuple):
    """What parity/scored.sql says of a scored event beside the fields of its transaction."""

    partition: int
    offset: int
    feature_set: int
    features: list[float]
    customer: str
    stored: bool


@dataclass(frozen=True)
class ParityCheck:
    """What was compared: rows, those of them with merchants' features, rows left out, share of customers, time."""

    rows: int
    merchants: int
    left_out: int
    share: float
    seconds: float
    differences: tuple[FeatureDifference, ...]

    def __str__(self) -> str:
        return (
            f"{self.rows:,} logged vectors of feature set {FEATURE_SET} compared in {self.seconds:.0f} s "
            f"(merchants' features in {self.merchants:,}, {self.left_out:,} rows left out, "
            f"{self.share:.0%} of the customers)"
        )


def check(settings: Settings, max_rows: int = MAX_ROWS) -> ParityCheck:
    """Compares, and stores the result in shop.parity_checks; PostgreSQL's errors are the caller's."""
    started = time.monotonic()
    with psycopg.connect(settings.conninfo("trainer")) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        (scores,) = one_row(connection.execute("select count(*) from shop.fraud_scores"))
        share = min(1.0, max_rows / max(scores, 1))
        result = _compared(connection, share)
        result = replace(result, seconds=time.monotonic() - started)
        connection.execute(statement("parity/record"), {
            "feature_set": FEATURE_SET, "rows": result.rows, "merchants": result.merchants,
            "left_out": result.left_out, "share": share, "seconds": result.seconds,
            "mismatches": Jsonb([vars(difference) for difference in result.differences]),
        })  # fmt: skip
    return result


def require(result: ParityCheck) -> ParityCheck:
    """The check itself, when nothing differs.

    Raises:
        ParityBroken: naming each feature that differs, in how many rows, by how much at most, and where.
    """
    if result.differences:
        raise ParityBroken(
            f"{result}: recomputed features differ: " + "; ".join(map(str, result.differences))
        )
    return result


class _Comparable:
    """Which logged vectors the stored rows can be compared with, batch after batch; see this module's docstring."""

    def __init__(self, connection: psycopg.Connection, share: float) -> None:
        self._share = share
        self._unknown = {customer for (customer,) in connection.execute(statement("parity/moved"))}
        self._shortened = {partition for (partition,) in connection.execute(statement("parity/gone"))}
        self._lost_merchants = set(self._shortened)  # partitions whose merchants' features cannot be known
        self._begun: set[tuple[int, str]] = set()

    def select(
        self, partition: int, events: Sequence[tuple[LoggedEvent, Transaction]]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Which of a partition's next N events can be compared, and with their merchants' features: (N,) bool each."""
        chosen, with_merchant = np.zeros(len(events), bool), np.zeros(len(events), bool)
        for i, (event, _) in enumerate(events):
            customer = event.customer
            if partition in self._shortened and (partition, customer) not in self._begun:
                self._begun.add((partition, customer))
                if len(event.features) <= HISTORY or event.features[HISTORY] > 0:
                    self._unknown.add(customer)
            if not event.stored:
                self._unknown.add(customer)
                self._lost_merchants.add(partition)
            chosen[i] = _is_of_this_set(event) and customer not in self._unknown
            with_merchant[i] = chosen[i] and self._share == 1 and partition not in self._lost_merchants
        return chosen, with_merchant


def _is_of_this_set(event: LoggedEvent) -> bool:
    return event.feature_set == FEATURE_SET and len(event.features) == len(FEATURES)


def _compared(connection: psycopg.Connection, share: float) -> ParityCheck:
    recomputation, comparable = (
        Recomputation(known_frauds.as_read(connection)),
        _Comparable(connection, share),
    )
    worst: dict[str, FeatureDifference] = {}
    rows = merchants = left_out = 0
    for partition, events in _batches(connection, share):
        stored = [event.stored for event, _ in events]
        recomputed = np.empty((len(events), len(FEATURES)), np.float32)
        recomputed[stored] = recomputation.vectors(
            partition, [transaction for event, transaction in events if event.stored]
        )
        chosen, with_merchant = comparable.select(partition, events)
        rows, merchants = rows + int(chosen.sum()), merchants + int(with_merchant.sum())
        left_out += sum(_is_of_this_set(event) for event, _ in events) - int(chosen.sum())
        compared = [event for (event, _), is_chosen in zip(events, chosen, strict=True) if is_chosen]
        logged = np.array([event.features for event in compared], np.float32).reshape(-1, len(FEATURES))
        without = np.ix_(~with_merchant[chosen], OF_PARTITION)
        ours = recomputed[chosen]
        ours[without] = logged[without]
        for mismatch in feature_differences.compare(logged, ours):
            _add(worst, mismatch, f"partition {partition}, offset {compared[mismatch.row].offset}")
    order = sorted(
        worst.values(), key=lambda difference: -np.inf if difference.largest is None else -difference.largest
    )
    return ParityCheck(rows, merchants, left_out, share, 0.0, tuple(order))


def _add(
    worst: dict[str, FeatureDifference], mismatch: feature_differences.Mismatch, log_position: str
) -> None:
    largest = float(mismatch.largest) if np.isfinite(mismatch.largest) else None
    new = FeatureDifference(mismatch.feature, mismatch.rows, largest, log_position)
    old = worst.get(mismatch.feature)
    if old is not None:
        larger = old.largest is None or (largest is not None and old.largest >= largest)
        new = replace(old if larger else new, rows=old.rows + new.rows)
    worst[mismatch.feature] = new


def _batches(
    connection: psycopg.Connection, share: float
) -> Iterator[tuple[int, list[tuple[LoggedEvent, Transaction]]]]:
    """Scored events of one partition, in log order, some at a time; without the fields of one that is not stored."""
    with connection.cursor("parity", row_factory=with_transactions(LoggedEvent)) as cursor:
        cursor.itersize = BATCH
        cursor.execute(statement("parity/scored"), {"share": share}, binary=True)
        while batch := cursor.fetchmany(BATCH):
            for partition, group in groupby(batch, key=lambda row: row[0].partition):
                yield partition, list(group)
