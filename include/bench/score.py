"""The forest as one ONNX graph beside scikit-learn's own scoring."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from include.bench.compare import Comparison, Side, compare, timed
from include.features.behaviour import FEATURE_SET, FEATURES
from include.models.isolation_forest import IsolationForestDetector


def measure(rounds: int = 9, rows: int = 10_000) -> list[Comparison]:
    """One vector at a time, and `rows` at once, scored by the same forest."""
    X = np.random.default_rng(0).standard_normal((rows, len(FEATURES))).astype(np.float32)
    detector = IsolationForestDetector().fit(X)
    scorer = detector.scorer(threshold=0.5, version=1, feature_set=FEATURE_SET)
    scorer.score(X[:1])  # opens its session

    def one_by_one(score: Callable[[np.ndarray], np.ndarray], times: int) -> Callable[[], float]:
        return lambda: timed(lambda: [score(X[i : i + 1]) for i in range(times)], times)

    few = min(rows, 30)
    onnx, sklearn = (
        Side("ONNX", one_by_one(scorer.score, few * 30)),
        Side("scikit-learn", one_by_one(detector.score, few)),
    )
    many = Side("ONNX", lambda: timed(lambda: scorer.score(X), rows))
    many_sklearn = Side("scikit-learn", lambda: timed(lambda: detector.score(X), rows))
    return [
        *compare("score 1 row", "row", [onnx], sklearn, rounds),
        *compare(f"score {rows:,} rows", "row", [many], many_sklearn, rounds),
    ]
