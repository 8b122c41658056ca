"""What ordinary feature values are: quantiles of the training vectors, for reasons."""

from __future__ import annotations

import numpy as np

_TAILS = np.array([0.5, 0.25, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0005, 0.0002, 0.0001, 0.0])


def reference(X: np.ndarray, used: np.ndarray | None = None) -> np.ndarray:
    """Upper and lower quantiles (2 Q, F) of vectors (N, F); the first row is the median.

    Columns that a model does not use (not in `used`) get no tails: none of their values is rare.

    >>> X = np.arange(1001, dtype=np.float32)[:, None]
    >>> reference(X).shape, median(reference(X)).tolist()
    ((26, 1), [500.0])
    """
    upper = np.quantile(X, 1 - _TAILS, axis=0, method="lower")
    lower = np.quantile(X, _TAILS, axis=0, method="higher")
    if used is not None:
        unused = np.setdiff1d(np.arange(X.shape[1]), used)
        upper[1:, unused], lower[1:, unused] = np.inf, -np.inf
    return np.concatenate([upper, lower]).astype(X.dtype)


def median(reference: np.ndarray) -> np.ndarray:
    """(F,) an ordinary vector: the medians of the training vectors.

    >>> median(reference(np.array([[1.0, 5.0], [2.0, 6.0], [9.0, 7.0]])))
    array([2., 6.])
    """
    return reference[0]


def rarity(reference: np.ndarray, X: np.ndarray) -> np.ndarray:
    """How far out each value lies on its side of the training values: (N, F) log(0.5 / tail), 0 near the median.

    tail is the share of the training values that lie as far out, in steps: 0.5, 0.25, 0.1, ... 0.0001, half of that
    beyond all of them.

    >>> trained = reference(np.arange(1001, dtype=np.float32)[:, None])
    >>> rarity(trained, np.array([[500.0], [910.0], [9999.0]])).T.round(2)
    array([[0.  , 1.61, 9.21]])
    """
    upper, lower = np.split(reference, 2)
    beyond = np.maximum((X[:, None] > upper).sum(axis=1), (X[:, None] < lower).sum(axis=1))
    rarities = np.log(0.5 / np.maximum(_TAILS, _TAILS[-2] / 2))
    return np.where(beyond > 0, rarities[beyond - 1], 0.0)
