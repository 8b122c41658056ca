"""The contract of a fraud detector."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self

import numpy as np

if TYPE_CHECKING:
    from include.models.scorer import Scorer


class UnusableFeatures(ValueError):
    """Feature vectors of the wrong width, or not finite; the message says which row and column."""


class Detector(Protocol):
    """Learns from feature vectors and scores them; tests/models/test_contract.py runs over every one.

    A score lies in [0, 1] and a higher score is more suspicious. A detector is a scikit-learn estimator, so
    that skops can store it; `trusted_types` names the types that skops must be told to trust for it.
    """

    family: str
    trusted_types: tuple[str, ...]

    def fit(self, X: np.ndarray, y: np.ndarray | None = None) -> Self:
        """Learn from vectors (N, F) float32 and, where the family uses them, labels (N,) bool.

        Raises:
            UnusableFeatures: X is not a finite matrix.
            ValueError: the family needs labels of both classes and has not got them.
        """

    def score(self, X: np.ndarray) -> np.ndarray:
        """Scores (N,) float64 of vectors (N, F), by scikit-learn itself.

        Raises:
            UnusableFeatures: X is not finite or has another width than the training vectors.
        """

    def to_onnx(self) -> bytes:
        """The fitted detector as one ONNX graph from float32 (N, F) to scores (N, 1)."""

    def scorer(self, *, threshold: float, version: int, feature_set: int) -> Scorer:
        """The fast form of the fitted detector."""


def checked(X: np.ndarray, width: int | None = None) -> np.ndarray:
    """X as a finite C-ordered float32 matrix of `width` columns.

    Raises:
        UnusableFeatures: it is not one. scikit-learn and ONNX would score NaN without a word.
    """
    X = np.ascontiguousarray(X, dtype=np.float32)
    if X.ndim != 2 or (width is not None and X.shape[1] != width):
        raise UnusableFeatures(f"feature vectors have shape {X.shape}, expected (N, {width or 'F'})")
    if not np.isfinite(X).all():
        row, column = np.argwhere(~np.isfinite(X))[0].tolist()
        raise UnusableFeatures(f"feature {column} of row {row} is {X[row, column]}, not a finite number")
    return X
