"""The Isolation Forest detector."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from sklearn.ensemble import IsolationForest

from include.features.behaviour import FEATURES
from include.models.isolation_forest import COLUMNS, IsolationForestDetector


def test_scores_are_those_of_scikit_learn(vectors):
    X, _ = vectors
    forest = IsolationForest(n_estimators=100, max_samples=256, random_state=0).fit(X)
    scorer = (
        IsolationForestDetector(samples=256, seed=0).fit(X).scorer(threshold=0.5, version=1, feature_set=1)
    )
    np.testing.assert_allclose(scorer.score(X), -forest.score_samples(X), rtol=0, atol=1e-6)


def test_is_one_tree_ensemble(vectors):
    graph = onnx.load_from_string(IsolationForestDetector(trees=20).fit(vectors[0]).to_onnx()).graph
    assert [node.op_type for node in graph.node] == ["TreeEnsembleRegressor", "Mul", "Exp"]


def test_fewer_rows_than_samples():
    X = np.random.default_rng(1).normal(size=(40, 3)).astype(np.float32)
    detector = IsolationForestDetector(trees=20, samples=256).fit(X)
    scorer = detector.scorer(threshold=0.5, version=1, feature_set=1)
    np.testing.assert_allclose(scorer.score(X), detector.score(X), rtol=0, atol=1e-6)


def test_other_columns_do_not_count(vectors):
    X, _ = vectors
    detector = IsolationForestDetector(trees=20, columns=(2, 5)).fit(X)
    scorer = detector.scorer(threshold=0.5, version=1, feature_set=1)
    changed = X.copy()
    changed[:, [0, 1, 3, 4]] = 1e4
    np.testing.assert_array_equal(scorer.score(changed), scorer.score(X))
    changed[:, 5] = 1e4
    assert (scorer.score(changed) != scorer.score(X)).any()


def test_one_row_is_nothing_to_separate(vectors):
    with pytest.raises(ValueError, match="at least 2 rows"):
        IsolationForestDetector().fit(vectors[0][:1])


def test_uses_the_chosen_features_of_a_transaction():
    X = np.random.default_rng(1).normal(size=(600, len(FEATURES))).astype(np.float32)
    detector = IsolationForestDetector(trees=10).fit(X)
    assert detector.columns_.tolist() == list(COLUMNS)
    other = X.copy()
    other[:, np.setdiff1d(np.arange(len(FEATURES)), COLUMNS)] = 99
    np.testing.assert_array_equal(detector.score(other), detector.score(X))
    everything = IsolationForestDetector(trees=10, columns=tuple(range(len(FEATURES)))).fit(X)
    assert (everything.score(other) != everything.score(X)).any()
