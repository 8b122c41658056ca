"""Whether stored transactions give the vectors that the stream logged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from include.features import behaviour
from include.features.behaviour import FEATURES
from include.features.known_frauds import KnownFrauds
from include.training.recompute import BATCH, Log

if TYPE_CHECKING:
    from include.events.transaction import Transaction

TOLERANCE = 1e-5  # vectors are float32; another processor's exp and log may differ in the last bit


class ParityBroken(ValueError):
    """Logged and recomputed vectors differ; the message names the features and how far apart they are."""


class Mismatch(NamedTuple):
    """A feature that differs in one comparison: in how many rows, by how much at most, and the row where that is."""

    feature: str
    rows: int
    largest: float
    row: int


@dataclass(frozen=True)
class FeatureDifference:
    """A feature that differs in a whole parity check: in how many rows, and where by how much at most.

    largest: None where a value is not a number.
    """

    feature: str
    rows: int
    largest: float | None
    place: str

    def __str__(self) -> str:
        size = "where one is not a number" if self.largest is None else f"by up to {self.largest:.3g}"
        return f"{self.feature} in {self.rows:,} rows, {size} ({self.place})"


class Recomputation:
    """The feature vectors of a log from empty states, batch after batch.

    Args:
        frauds: what the stream knew of fraud (`include.features.known_frauds.as_read`); nothing when not given.
    """

    def __init__(self, frauds: KnownFrauds | None = None) -> None:
        self._frauds = frauds or KnownFrauds()
        self._logs: dict[int, Log] = {}

    def vectors(self, partition: int, transactions: Sequence[Transaction]) -> np.ndarray:
        """(N, len(FEATURES)) float32 of transactions of one partition, in the order of its log."""
        if partition not in self._logs:
            self._logs[partition] = Log(self._frauds)
        return self._logs[partition].vectors(behaviour.columns(transactions))


def recompute(
    transactions: Sequence[Transaction],
    partitions: Sequence[int] | np.ndarray,
    frauds: KnownFrauds | None = None,
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
    result = np.empty((len(transactions), len(FEATURES)), np.float32)
    for partition in np.unique(partition_of).tolist():
        rows = np.flatnonzero(partition_of == partition)
        for start in range(0, len(rows), BATCH):
            batch = rows[start : start + BATCH]
            result[batch] = recomputation.vectors(partition, [transactions[row] for row in batch])
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
    mismatches = [
        Mismatch(
            FEATURES[j], int(wrong[:, j].sum()), float(difference[:, j].max()), int(difference[:, j].argmax())
        )
        for j in np.flatnonzero(wrong.any(axis=0))
    ]
    return sorted(mismatches, key=lambda mismatch: -mismatch.largest)


def require(logged: np.ndarray, recomputed: np.ndarray, tolerance: float = TOLERANCE) -> None:
    """Refuse vectors that differ.

    Raises:
        ParityBroken: naming each feature that differs, in how many rows and by how much at most.
    """
    if mismatches := compare(logged, recomputed, tolerance):
        raise ParityBroken(
            f"recomputed features differ from the logged ones ({len(logged)} rows): "
            + "; ".join(
                f"{m.feature} in {m.rows} rows, by up to {m.largest:.3g} (row {m.row})" for m in mismatches
            )
        )
