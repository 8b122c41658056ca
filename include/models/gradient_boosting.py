"""Gradient boosted trees on the labels that are known."""

from __future__ import annotations

from typing import Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.ensemble import HistGradientBoostingClassifier

from include.models import calibration, tree_ensemble
from include.models.reference import reference
from include.models.scorer import Scorer
from include.models.vectors import checked


class GradientBoostingDetector(BaseEstimator):
    """Histogram gradient boosting; the score is its probability of fraud.

    The score is 1 / (1 + e^-(slope (b + sum of f_t(x)) + shift)), with slope 1 and shift 0 until `calibrate`: b is the
    log odds of fraud in training, f_t(x) what tree t adds, each fitted to the gradient of the log loss that the trees
    before it leave (Friedman, "Greedy function approximation", Annals of Statistics 2001).

    Args:
        trees: number of boosting rounds.
        leaves: most leaves of a tree.
        learning_rate: shrinkage of each tree.
        regularization: L2 penalty of leaf values.
        seed: of every random choice.

    >>> rng = np.random.default_rng(1)
    >>> X = rng.normal(size=(2000, 3)).astype(np.float32)
    >>> fraud = X[:, 0] > 2
    >>> detector = GradientBoostingDetector(trees=20, seed=1).fit(X, fraud)
    >>> scores = detector.score(X)
    >>> bool(np.median(scores[fraud]) > 0.5 > scores[~fraud].max())
    True
    >>> fast = detector.scorer(threshold=0.5, version=1, feature_set=2)
    >>> bool(np.allclose(fast.score(X), scores, atol=1e-6))
    True
    """

    family = "gradient_boosting"
    supervised = True
    trusted_types = (
        "include.models.gradient_boosting.GradientBoostingDetector",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    )

    def __init__(
        self,
        trees: int = 150,
        leaves: int = 15,
        learning_rate: float = 0.06,
        regularization: float = 1.0,
        seed: int = 0,
    ):
        self.trees = trees
        self.leaves = leaves
        self.learning_rate = learning_rate
        self.regularization = regularization
        self.seed = seed

    def fit(self, X: np.ndarray, y: np.ndarray | None = None) -> Self:
        """Boost trees on the rows of X whose label y is settled.

        Raises:
            ValueError: no labels, or labels of one class only.
        """
        X = checked(X)
        y = np.full(len(X), -1) if y is None else np.asarray(y)
        X, y = X[y >= 0], y[y >= 0]
        if len(np.unique(y)) != 2:
            raise ValueError("gradient boosting needs labels of both classes: fraud and not fraud")
        self.n_features_in_ = X.shape[1]
        self.reference_ = reference(X)
        self.calibration_ = calibration.SAME
        self.classifier_ = HistGradientBoostingClassifier(
            max_iter=self.trees,
            max_leaf_nodes=self.leaves,
            learning_rate=self.learning_rate,
            l2_regularization=self.regularization,
            early_stopping=False,
            random_state=self.seed,
        ).fit(X, y == 1)
        return self

    def score(self, X: np.ndarray) -> np.ndarray:
        """Scores (N,) in [0, 1], higher is more suspicious."""
        probability = self.classifier_.predict_proba(checked(X, self.n_features_in_))[:, 1]
        if tuple(self.calibration_) == calibration.SAME:
            return probability
        return calibration.apply(probability, self.calibration_)

    def calibrate(self, slope: float, shift: float) -> Self:
        """From now on a score is 1 / (1 + e^-(slope * log odds + shift)) of the fitted probability."""
        self.calibration_ = (slope, shift)
        return self

    def to_onnx(self) -> bytes:
        """One TreeEnsembleRegressor of log odds, then the logistic function with slope and shift."""
        slope, shift = self.calibration_
        base = float(self.classifier_._baseline_prediction[0, 0]) + shift / slope
        trees = [_tree(predictors[0].nodes) for predictors in self.classifier_._predictors]
        width = self.n_features_in_
        return tree_ensemble.model(trees, width=width, base=base, scale=slope, activation="Sigmoid")

    def scorer(self, *, threshold: float, version: int, feature_set: int) -> Scorer:
        """The fast form."""
        return Scorer(self.to_onnx(), self.reference_, threshold, version, feature_set, self.family)


def _tree(nodes: np.ndarray) -> tree_ensemble.Tree:
    leaf = nodes["is_leaf"].astype(bool)
    left, right = (np.where(leaf, -1, nodes[side].astype(np.int64)) for side in ("left", "right"))
    return tree_ensemble.Tree(nodes["feature_idx"], nodes["num_threshold"], left, right, nodes["value"])
