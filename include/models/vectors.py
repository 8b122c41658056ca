"""Feature vectors as every detector and scorer takes them: a finite matrix of the expected width."""

from __future__ import annotations

import numpy as np


class UnusableFeatures(ValueError):
    """Feature vectors of the wrong width, or not finite; the message says which row and column."""


def checked(X: np.ndarray, width: int | None = None) -> np.ndarray:
    """X as a finite C-ordered float32 matrix of `width` columns.

    Raises:
        UnusableFeatures: it is not one. scikit-learn and ONNX would score NaN without a word.

    >>> checked(np.array([[1.0, 2.0]]), width=2).dtype
    dtype('float32')
    >>> checked(np.array([[1.0, np.nan]]))
    Traceback (most recent call last):
    include.models.vectors.UnusableFeatures: feature 1 of row 0 is nan, not a finite number
    """
    X = np.ascontiguousarray(X, dtype=np.float32)
    if X.ndim != 2 or (width is not None and X.shape[1] != width):
        raise UnusableFeatures(f"feature vectors have shape {X.shape}, expected (N, {width or 'F'})")
    if not np.isfinite(X).all():
        row, column = np.argwhere(~np.isfinite(X))[0].tolist()
        raise UnusableFeatures(f"feature {column} of row {row} is {X[row, column]}, not a finite number")
    return X
