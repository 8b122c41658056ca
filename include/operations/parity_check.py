"""Compares the feature vectors that the stream logged with those of the stored transactions, and remembers the result.

Every partition is replayed from its first scored event in the order of its log, as the stream saw it, in memory that
holds the states and one batch. Above `MAX_ROWS` scores that would take too long: then a fixed share of the customers
is replayed with their whole history, without the merchants' features, which need every row.

What the stored rows cannot tell is left out and counted: an event that was scored although another one owned its
id (shop.transactions has only that one), all later rows of its customer, and from there on the merchants' features
of its partition; customers in more than one partition, whose state may have moved with them; and, in a partition
whose oldest scores are gone, customers who had paid before and the merchants' features.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from typing import NamedTuple

import numpy as np
import psycopg
from psycopg.types.json import Jsonb

from include.events.rows import with_transactions
from include.events.transaction import Transaction
from include.features import known_frauds
from include.features.definitions import FEATURE_SET, FEATURES, MERCHANT_FEATURES
from include.settings import Settings
from include.sql import statement
from include.training import parity
from include.training.parity import FeatureDifference, ParityBroken, Replay
from include.training.recompute import BATCH

MAX_ROWS = 1_000_000
HISTORY = FEATURES.index("history")
OF_MERCHANTS = np.isin(FEATURES, MERCHANT_FEATURES)


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
        (scores,) = connection.execute("select count(*) from shop.fraud_scores").fetchone()
        share = min(1.0, max_rows / max(scores, 1))
        found = _compared(connection, share)
        found = replace(found, seconds=time.monotonic() - started)
        connection.execute(statement("parity/record"), {
            "feature_set": FEATURE_SET, "rows": found.rows, "merchants": found.merchants,
            "left_out": found.left_out, "share": share, "seconds": found.seconds,
            "mismatches": Jsonb([vars(each) for each in found.differences]),
        })  # fmt: skip
    return found


def require(found: ParityCheck) -> ParityCheck:
    """The check itself, when nothing differs.

    Raises:
        ParityBroken: naming each feature that differs, in how many rows, by how much at most, and where.
    """
    if found.differences:
        raise ParityBroken(f"{found}: recomputed features differ: " + "; ".join(map(str, found.differences)))
    return found


def _compared(connection: psycopg.Connection, share: float) -> ParityCheck:
    replay = Replay(known_frauds.as_read(connection))
    unknown = {user for (user,) in connection.execute(statement("parity/moved"))}
    shortened = {partition for (partition,) in connection.execute(statement("parity/gone"))}
    lost_merchants = set(shortened)  # partitions with scored events of which nothing is stored
    began: set[tuple[int, str]] = set()
    worst: dict[str, FeatureDifference] = {}
    rows = merchants = left_out = 0
    for partition, batch in _batches(connection, share):
        vectors = np.empty((len(batch), len(FEATURES)), np.float32)
        vectors[[event.stored for event, _ in batch]] = replay.vectors(
            partition, [transaction for event, transaction in batch if event.stored]
        )
        kept, with_merchant = np.zeros(len(batch), bool), np.zeros(len(batch), bool)
        for i, (event, _) in enumerate(batch):
            user = event.customer
            if partition in shortened and (partition, user) not in began:
                began.add((partition, user))
                if len(event.features) <= HISTORY or event.features[HISTORY] > 0:
                    unknown.add(user)
            if not event.stored:
                unknown.add(user)
                lost_merchants.add(partition)
            if event.feature_set == FEATURE_SET and len(event.features) == len(FEATURES):
                kept[i] = user not in unknown
                left_out += not kept[i]
                with_merchant[i] = kept[i] and share == 1 and partition not in lost_merchants
        chosen = np.flatnonzero(kept)
        rows, merchants = rows + len(chosen), merchants + int(with_merchant.sum())
        logged = np.array([batch[i][0].features for i in chosen], np.float32).reshape(-1, len(FEATURES))
        ours = vectors[chosen]
        ours[np.ix_(~with_merchant[chosen], OF_MERCHANTS)] = logged[
            np.ix_(~with_merchant[chosen], OF_MERCHANTS)
        ]
        for mismatch in parity.compare(logged, ours):
            event, _ = batch[chosen[mismatch.row]]
            _add(worst, mismatch, f"partition {partition}, offset {event.offset}")
    order = sorted(worst.values(), key=lambda each: -np.inf if each.largest is None else -each.largest)
    return ParityCheck(rows, merchants, left_out, share, 0.0, tuple(order))


def _add(worst: dict[str, FeatureDifference], mismatch: parity.Mismatch, place: str) -> None:
    largest = float(mismatch.largest) if np.isfinite(mismatch.largest) else None
    new = FeatureDifference(mismatch.feature, mismatch.rows, largest, place)
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
