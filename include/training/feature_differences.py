"""In which features logged and recomputed vectors differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from include.features.behaviour import FEATURES

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
