"""The contract of a fraud detector."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, Self

import numpy as np

from include.models.scorer import Scorer


class Detector(Protocol):
    """Learns from feature vectors and scores them; tests/models/test_contract.py runs over every one.

    A score lies in [0, 1] and a higher score is more suspicious. A detector is a scikit-learn estimator, so
    that skops can store it.

    Attributes:
        family: its name in `include.models.families`.
        supervised: it learns from settled labels of both classes, and `fit` needs them.
        trusted_types: the types that skops must be told to trust for it.
        calibration_: slope and shift of the log odds of a fitted supervised family, (1, 0) until `calibrate`.
    """

    family: ClassVar[str]
    supervised: ClassVar[bool]
    trusted_types: ClassVar[tuple[str, ...]]
    n_features_in_: int
    calibration_: tuple[float, float]

    def __init__(self, *, trees: int = ..., seed: int = ...) -> None: ...

    def get_params(self) -> dict[str, Any]:
        """The options that it was made with."""

    def fit(self, X: np.ndarray, y: np.ndarray | None = None) -> Self:
        """Learn from vectors (N, F) float32 in order of time.

        A supervised family uses only the rows with a settled label. Another one learns from all rows, and may choose
        by the labels what it looks at. Columns that never vary take no part.

        Args:
            y: (N,) 1 fraud, 0 honest, -1 not settled, as scikit-learn marks rows without a label.

        Raises:
            UnusableFeatures: X is not a finite matrix.
            ValueError: the family needs labels of both classes and has not got them, or has nothing to learn from.
        """

    def score(self, X: np.ndarray) -> np.ndarray:
        """Scores (N,) float64 of vectors (N, F), by scikit-learn itself.

        Raises:
            UnusableFeatures: X is not finite or has another width than the training vectors.
        """

    def calibrate(self, slope: float, shift: float) -> Self:
        """From now on a score is 1 / (1 + e^-(slope * log odds + shift)) of what it was after fitting.

        Raises:
            TypeError: the family is not supervised, and its scores are no probabilities.
        """

    def to_onnx(self) -> bytes:
        """The fitted detector as one ONNX graph from float32 (N, F) to scores (N, 1)."""

    def scorer(self, *, threshold: float, version: int, feature_set: int) -> Scorer:
        """The fast form of the fitted detector."""
