"""Scores as probabilities: two constants on the log odds, learned on later time (Platt, 1999)."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression

SAME = (1.0, 0.0)  # slope and shift that change nothing
FEWEST_FRAUDS = 20  # in later time, to learn two constants from


def log_odds(score: np.ndarray) -> np.ndarray:
    """Log odds of probabilities; 0 and 1 count as 1e-7 and 1 - 1e-7.

    >>> log_odds(np.array([0.5, 0.9, 1.0])).round(1).tolist()
    [0.0, 2.2, 16.1]
    """
    score = np.clip(score, 1e-7, 1 - 1e-7)
    odds: np.ndarray = np.log(score / (1 - score))
    return odds


def learn(score: np.ndarray, fraud: np.ndarray) -> tuple[float, float]:
    """Slope and shift that make 1 / (1 + e^-(slope * log odds + shift)) the probability of fraud.

    `SAME` with fewer than `FEWEST_FRAUDS` frauds, or where higher scores are not more often fraud: the order of the
    scores never changes.

    Args:
        score: (N,) probabilities of transactions that the model did not learn from.
        fraud: (N,) bool.

    >>> rng = np.random.default_rng(1)
    >>> fraud = rng.random(20_000) < 0.1
    >>> too_sure = 1 / (1 + np.exp(-(rng.normal(size=20_000) + 2 * fraud) * 3))
    >>> slope, shift = learn(too_sure, fraud)
    >>> round(slope, 1), round(float(apply(too_sure, (slope, shift)).mean()), 2)
    (0.7, 0.1)
    """
    if not FEWEST_FRAUDS <= int(fraud.sum()) < len(fraud):
        return SAME
    model = LogisticRegression(C=1e6).fit(log_odds(score)[:, None], fraud)
    slope, shift = float(model.coef_[0, 0]), float(model.intercept_[0])
    return (slope, shift) if slope > 0 else SAME


def apply(score: np.ndarray, constants: tuple[float, float]) -> np.ndarray:
    """Probabilities (N,) after slope and shift.

    >>> apply(np.array([0.5, 0.9]), (0.5, 0.0)).round(2).tolist()
    [0.5, 0.75]
    """
    slope, shift = constants
    probability: np.ndarray = 1 / (1 + np.exp(-(slope * log_odds(score) + shift)))
    return probability
