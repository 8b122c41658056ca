"""The Isolation Forest detector: scikit-learn's trees, and what they look at."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from sklearn.ensemble import IsolationForest

from include.features.definitions import FEATURES, SUSPICIOUS
from include.models.isolation_forest import FEWEST_FRAUDS, IsolationForestDetector


def test_scores_are_those_of_scikit_learn(vectors):
    """2^-E[h]/c over all trees: the product of each column's own forests to the power of its share of the trees."""
    X, y = vectors
    detector = IsolationForestDetector(trees=40, samples=256, seed=2).fit(X, y)
    expected = np.ones(len(X))
    for surprise, forest in zip(detector.surprises_, detector.forests_, strict=True):
        assert isinstance(forest, IsolationForest) and forest.max_samples_ == 256
        column = surprise.values[surprise.step(X)][:, None]
        expected *= (-forest.score_samples(column)) ** (len(forest.estimators_) / 40)
    assert sum(len(forest.estimators_) for forest in detector.forests_) == 40
    scorer = detector.scorer(threshold=0.5, version=1, feature_set=1)
    np.testing.assert_allclose(scorer.score(X), expected, rtol=0, atol=1e-6)


def test_is_one_tree_ensemble(vectors):
    graph = onnx.load_from_string(IsolationForestDetector(trees=20).fit(vectors[0]).to_onnx()).graph
    assert [node.op_type for node in graph.node] == ["TreeEnsembleRegressor", "Mul", "Exp"]


def test_fewer_rows_than_samples():
    X = np.random.default_rng(1).normal(size=(40, 3)).astype(np.float32)
    detector = IsolationForestDetector(trees=20, samples=256).fit(X)
    scorer = detector.scorer(threshold=0.5, version=1, feature_set=1)
    np.testing.assert_allclose(scorer.score(X), detector.score(X), rtol=0, atol=1e-6)


def test_one_row_is_nothing_to_separate(vectors):
    with pytest.raises(ValueError, match="at least 2 rows"):
        IsolationForestDetector().fit(vectors[0][:1])


def test_without_a_column_that_varies_there_is_nothing_to_separate():
    with pytest.raises(ValueError, match="a column that varies"):
        IsolationForestDetector().fit(np.ones((50, 3)))


def test_known_frauds_choose_the_columns_and_their_sides():
    rng = np.random.default_rng(4)
    X = rng.normal(size=(6000, 30)).astype(np.float32)
    y = (np.arange(6000) % 60 == 0).astype(np.int8)
    X[y == 1, 7] -= 3
    X[y == 1, 12] += 3
    detector = IsolationForestDetector(seed=1).fit(X, y)
    trees = {
        (surprise.column, surprise.side): len(forest.estimators_)
        for surprise, forest in zip(detector.surprises_, detector.forests_, strict=True)
    }
    assert trees[7, -1] + trees[12, 1] >= 75
    assert (7, 1) not in trees and (12, -1) not in trees


def test_few_known_frauds_choose_nothing(vectors):
    X, y = vectors
    few = np.where(np.cumsum(y) < FEWEST_FRAUDS, y, -1)
    detector = IsolationForestDetector(trees=60, seed=1)
    unlabelled = detector.fit(X).score(X)
    np.testing.assert_array_equal(detector.fit(X, few).score(X), unlabelled)
    assert (detector.fit(X, y).score(X) != unlabelled).any()


def test_without_labels_a_transaction_is_judged_by_high_values_of_what_is_suspicious():
    X = np.random.default_rng(1).normal(size=(600, len(FEATURES))).astype(np.float32)
    detector = IsolationForestDetector(trees=50).fit(X)
    columns = sorted(FEATURES.index(name) for name in SUSPICIOUS)
    assert detector.columns_.tolist() == columns
    other = X.copy()
    other[:, np.setdiff1d(np.arange(len(FEATURES)), columns)] = 99
    np.testing.assert_array_equal(detector.score(other), detector.score(X))
    low, high = X.min(axis=0, keepdims=True) - 9, X.max(axis=0, keepdims=True) + 9
    assert detector.score(low) < np.quantile(detector.score(X), 0.2)
    assert detector.score(high) > detector.score(X).max()
