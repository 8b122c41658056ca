"""Isolation Forest: what few random cuts separate from the rest is suspicious. Needs no labels."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.ensemble import IsolationForest

from include.features.behaviour import FEATURES
from include.models import tree_ensemble
from include.models.reference import reference
from include.models.scorer import Scorer
from include.models.vectors import checked

# Chosen by average precision on later time: docs/decisions/0002-isolation-forest.md and 0006-known-labels.md. A
# forest cuts every feature equally often, so each one that says little hides those that say much.
COLUMNS = tuple(
    FEATURES.index(name)
    for name in (
        "amount", "amount_ratio", "amount_z", "mean_1d", "mean_7d", "gap_ratio", "newness", "new_device",
        "new_country", "foreign", "country_change", "tiny_burst", "merchant_tiny", "merchant_amount_z",
        "merchant_frauds_30d",
    )
)  # fmt: skip


class IsolationForestDetector(BaseEstimator):
    """Isolation Forest over some of the features.

    The score is 2^(-E[h(x)] / c(samples)) with h(x) the depth at which a tree isolates x (Liu, Ting and Zhou,
    "Isolation Forest", ICDM 2008): near 1 is suspicious, below 0.5 is ordinary.

    Args:
        trees: number of trees.
        samples: rows that each tree sees, or all when there are fewer.
        columns: indices of the features to use. None takes `COLUMNS` of vectors of include.features.behaviour, and all
            columns of vectors of another width.
        seed: of every random choice.

    >>> rng = np.random.default_rng(1)
    >>> X = rng.normal(size=(1000, 3)).astype(np.float32)
    >>> X[0] = 6
    >>> detector = IsolationForestDetector(seed=1).fit(X)
    >>> scores = detector.score(X)
    >>> int(scores.argmax()), bool(scores[0] > 0.7), bool(np.median(scores) < 0.5)
    (0, True, True)
    >>> fast = detector.scorer(threshold=0.7, version=1, feature_set=2)
    >>> bool(np.allclose(fast.score(X), scores, atol=1e-6)), np.flatnonzero(fast.is_alert(fast.score(X))).tolist()
    (True, [0])
    """

    family = "isolation_forest"
    supervised = False
    trusted_types = (
        "include.models.isolation_forest.IsolationForestDetector",
        "sklearn.tree._tree.Tree",
    )

    def __init__(
        self, trees: int = 100, samples: int = 512, columns: tuple[int, ...] | None = None, seed: int = 0
    ):
        self.trees = trees
        self.samples = samples
        self.columns = columns
        self.seed = seed

    def fit(self, X: np.ndarray, y: np.ndarray | None = None) -> Self:
        """Grow the trees on X; labels are not looked at.

        Raises:
            ValueError: fewer than two rows.
        """
        X = checked(X)
        if len(X) < 2:
            raise ValueError(f"an isolation forest needs at least 2 rows to separate, got {len(X)}")
        self.n_features_in_ = X.shape[1]
        chosen = COLUMNS if X.shape[1] == len(FEATURES) else range(X.shape[1])
        self.columns_ = np.array(chosen if self.columns is None else self.columns)
        self.reference_ = reference(X, self.columns_)
        self.forest_ = IsolationForest(
            n_estimators=self.trees, max_samples=min(self.samples, len(X)), random_state=self.seed
        ).fit(X[:, self.columns_])
        return self

    def score(self, X: np.ndarray) -> np.ndarray:
        """Scores (N,) in [0, 1], higher is more suspicious."""
        return -self.forest_.score_samples(checked(X, self.n_features_in_)[:, self.columns_])

    def to_onnx(self) -> bytes:
        """One TreeEnsembleRegressor whose leaves hold depth + c(rows in the leaf), then 2^(-sum / (T c))."""
        scale = -np.log(2) / (self.trees * _mean_depth(np.array([self.forest_.max_samples_]))[0])
        trees = [self._tree(estimator.tree_) for estimator in self.forest_.estimators_]
        return tree_ensemble.model(trees, width=self.n_features_in_, base=0, scale=scale, activation="Exp")

    def scorer(self, *, threshold: float, version: int, feature_set: int) -> Scorer:
        """The fast form."""
        return Scorer(self.to_onnx(), self.reference_, threshold, version, feature_set, self.family)

    def _tree(self, tree: Any) -> tree_ensemble.Tree:
        depth = np.zeros(tree.node_count)
        for parent in range(tree.node_count):  # a parent stands before its children
            if tree.children_left[parent] >= 0:
                depth[[tree.children_left[parent], tree.children_right[parent]]] = depth[parent] + 1
        value = depth + _mean_depth(tree.n_node_samples)
        feature = self.columns_[np.maximum(tree.feature, 0)]
        return tree_ensemble.Tree(feature, tree.threshold, tree.children_left, tree.children_right, value)


def _mean_depth(n: np.ndarray) -> np.ndarray:
    """c(n): mean depth of an unsuccessful search in a binary tree of n rows (equation 1 of the paper)."""
    n = np.asarray(n, np.float64)
    many = np.maximum(n, 3)
    depth = 2 * (np.log(many - 1) + np.euler_gamma) - 2 * (many - 1) / many
    return np.where(n <= 1, 0.0, np.where(n == 2, 1.0, depth))
