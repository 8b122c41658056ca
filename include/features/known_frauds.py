"""What is known of fraud at a merchant when a payment comes: the only way in which labels reach a feature.

Time is closed UTC days. A payment of day D knows the labels that count from D or an earlier day, whichever
partition it is in and however fast it came. Frauds count for 30 days from the day after they were known. From which
day a label counts, `include.streams.known_labels` decides when it reads the label.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime

import numpy as np
import psycopg

from include.sql import statement

WINDOW = 30  # days
DAY = 86_400_000_000  # microseconds


class KnownFrauds:
    """The known frauds of all merchants on any day, in memory.

    Args:
        changes: merchant, the day after the report, the day from which that is known (both days since 1970), and
            by how many frauds.

    Two frauds reported on day 99, and known on day 101, when there are three more payments:

    >>> known = KnownFrauds([("m1", 100, 101, 2)])
    >>> known.counts(["m1", "m1", "m2"], np.array([100, 101, 101]) * DAY).tolist()
    [0.0, 2.0, 0.0]
    """

    def __init__(self, changes: Iterable[tuple[str, int, int, int]] = ()):
        self._changes: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
        for merchant_id, reported, counts_from, frauds in changes:
            self._changes[merchant_id].append((reported, counts_from, frauds))

    def counts(self, merchants: Sequence[str | None], time: np.ndarray) -> np.ndarray:
        """As `counts` of this module."""
        merchant_days, index = _merchant_days(merchants, time)
        known = np.zeros(len(merchant_days) + 1)
        for i, (merchant_id, day) in enumerate(merchant_days):
            for reported, counts_from, frauds in self._changes.get(merchant_id, ()):
                if day - WINDOW < reported <= day and counts_from <= day:
                    known[i] += frauds
        return known[index]


def counts(connection: psycopg.Connection, merchants: Sequence[str | None], time: np.ndarray) -> np.ndarray:
    """Frauds known at each payment of its merchant in the 30 days before.

    Args:
        merchants: N ids, None where a payment has none.
        time: (N,) microseconds since 1970 of the payments.

    Returns:
        (N,) float64; 0 without a merchant.
    """
    merchant_days, index = _merchant_days(merchants, time)
    known = np.zeros(len(merchant_days) + 1)
    if merchant_days:
        ids, days = zip(*merchant_days, strict=True)
        rows = connection.execute(
            statement("known_frauds/counts"), {"merchants": list(ids), "days": list(days)}
        )
        for i, frauds in rows:
            known[i] = frauds
    return known[index]


def as_read(connection: psycopg.Connection) -> KnownFrauds:
    """What the stream knew, recomputed from the labels as it read them."""
    return KnownFrauds(connection.execute(statement("known_frauds/as_read")))


def in_time(connection: psycopg.Connection, start: datetime, end: datetime) -> KnownFrauds:
    """What a stream that had run all along would have known of payments with event time in [start, end)."""
    return KnownFrauds(connection.execute(statement("known_frauds/in_time"), {"start": start, "end": end}))


def _merchant_days(
    merchants: Sequence[str | None], time: np.ndarray
) -> tuple[list[tuple[str, int]], np.ndarray]:
    """The distinct merchants and days (since 1970), and for each payment its index among them, -1 without one."""
    position: dict[tuple[str, int], int] = {}
    days = (np.asarray(time) // DAY).tolist()
    index = [
        -1 if merchant_id is None else position.setdefault((merchant_id, day), len(position))
        for merchant_id, day in zip(merchants, days, strict=True)
    ]
    return list(position), np.array(index, np.int64)
