"""Whether stored transactions, replayed, give the vectors that the stream logged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from include import features
from include.features import FEATURES

if TYPE_CHECKING:
    from include.transaction import Transaction

BATCH = 20_000
TOLERANCE = 1e-5  # vectors are float32; another processor's exp and log may differ in the last bit


class ParityBroken(ValueError):
    """Logged and recomputed vectors differ; the message names the features and how far apart they are."""


class Mismatch(NamedTuple):
    """A feature that differs: in how many rows, by how much at most, and the row where that is."""

    feature: str
    rows: int
    largest: float
    row: int


class Replay:
    """The feature vectors of a log, batch after batch, from empty states.

    Args:
        merchants: keep merchants' states, as the stream does; without them their features are neutral.
    """

    def __init__(self, *, merchants: bool = True):
        self._merchants = merchants
        self._users: dict[int, _States] = {}
        self._shops: dict[int, _States] = {}

    def vectors(self, partition: int, transactions: Sequence[Transaction]) -> np.ndarray:
        """(N, len(FEATURES)) float32 of transactions of one partition, in the order of its log."""
        columns = features.columns(transactions)
        users = self._users.setdefault(partition, _States(features.new_state))
        user_index = users.index(t.user_id for t in transactions)
        if not self._merchants:
            return features.compute(users.states, user_index, columns)
        shops = self._shops.setdefault(partition, _States(features.new_merchant_state))
        shop_index = shops.index(t.merchant_id for t in transactions)
        return features.compute(users.states, user_index, columns, shops.states, shop_index)


def recompute(
    transactions: Sequence[Transaction], partitions: Sequence[int], *, merchants: bool = True
) -> np.ndarray:
    """Feature vectors of scored transactions, replayed from the first one.

    Args:
        transactions: N transactions that the stream scored, in the order of the log within each partition.
        partitions: (N,) their Kafka partitions.
        merchants: as for `Replay`.

    Returns:
        (N, len(FEATURES)) float32 in the order of `transactions`.
    """
    replay = Replay(merchants=merchants)
    partitions = np.asarray(partitions)
    result = np.empty((len(transactions), len(FEATURES)), np.float32)
    for partition in np.unique(partitions).tolist():
        rows = np.flatnonzero(partitions == partition)
        for start in range(0, len(rows), BATCH):
            batch = rows[start : start + BATCH]
            result[batch] = replay.vectors(partition, [transactions[row] for row in batch])
    return result


def compare(logged: np.ndarray, recomputed: np.ndarray, tolerance: float = TOLERANCE) -> list[Mismatch]:
    """The features in which two sets of vectors (N, len(FEATURES)) differ by more than `tolerance`, worst first.

    A difference counts against 1 plus the logged value's size; a value that is not a number differs from all.

    Raises:
        ParityBroken: the shapes differ, so that there is nothing to compare.
    """
    logged, recomputed = np.asarray(logged, np.float64), np.asarray(recomputed, np.float64)
    if logged.shape != recomputed.shape or logged.ndim != 2 or logged.shape[1] != len(FEATURES):
        raise ParityBroken(f"logged vectors have shape {logged.shape}, recomputed ones {recomputed.shape}")
    difference = np.abs(logged - recomputed)
    difference[np.isnan(difference)] = np.inf
    wrong = difference > tolerance * (1 + np.abs(np.nan_to_num(logged)))
    found = [
        Mismatch(FEATURES[j], int(wrong[:, j].sum()), float(difference[:, j].max()), int(difference[:, j].argmax()))
        for j in np.flatnonzero(wrong.any(axis=0))
    ]
    return sorted(found, key=lambda mismatch: -mismatch.largest)


def require(logged: np.ndarray, recomputed: np.ndarray, tolerance: float = TOLERANCE) -> None:
    """Refuse vectors that differ.

    Raises:
        ParityBroken: naming each feature that differs, in how many rows and by how much at most.
    """
    if mismatches := compare(logged, recomputed, tolerance):
        raise ParityBroken(
            f"recomputed features differ from the logged ones ({len(logged)} rows): "
            + "; ".join(f"{m.feature} in {m.rows} rows, by up to {m.largest:.3g} (row {m.row})" for m in mismatches)
        )


class _States:
    """States of keys as they come, in an array that grows."""

    def __init__(self, new):
        self._new = new
        self._numbers: dict[str, int] = {}
        self.states = new(0)

    def index(self, keys: Iterable[str | None]) -> np.ndarray:
        """The number of each key, -1 for None; states of new keys are added."""
        numbers = self._numbers
        index = np.array([-1 if key is None else numbers.setdefault(key, len(numbers)) for key in keys], np.int64)
        missing = len(numbers) - len(self.states)
        if missing > 0:
            self.states = np.concatenate([self.states, self._new(max(missing, len(self.states)))])
        return index
