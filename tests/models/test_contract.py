"""The contract of include.models.base.Detector, over every detector."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import skops.io
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from include.models.families import FAMILIES, detector_class
from include.models.gradient_boosting import GradientBoostingDetector
from include.models.isolation_forest import IsolationForestDetector
from include.models.vectors import UnusableFeatures

DETECTORS = [
    IsolationForestDetector(trees=60, samples=128, seed=3),
    GradientBoostingDetector(trees=30, seed=3),
]


def test_every_family_is_here_by_its_name():
    assert {detector.family for detector in DETECTORS} == FAMILIES.keys()
    assert {name: detector_class(name).family for name in FAMILIES} == {name: name for name in FAMILIES}


@pytest.fixture(scope="module", params=DETECTORS, ids=lambda detector: detector.family)
def detector(request, vectors):
    X, y = vectors
    return clone(request.param).fit(X, y.astype(np.int8))


@pytest.fixture(scope="module")
def scorer(detector):
    return detector.scorer(threshold=0.6, version=7, feature_set=1)


def test_a_supervised_family_needs_labels_and_another_does_not(detector, vectors):
    X, y = vectors
    for labels in (None, np.full(len(X), -1), np.where(y, -1, 0), np.where(y, 1, -1)):
        if detector.supervised:
            with pytest.raises(ValueError, match="needs labels"):
                clone(detector).fit(X, labels)
        else:
            assert roc_auc_score(y, clone(detector).fit(X, labels).score(X)) > 0.95


def test_a_supervised_family_leaves_out_rows_that_are_not_settled(detector, vectors):
    X, y = vectors
    odd = np.full((300, X.shape[1]), 50, np.float32)
    more = clone(detector).fit(np.concatenate([X, odd]), np.append(y, np.full(300, -1)).astype(np.int8))
    assert np.array_equal(more.score(X), detector.score(X)) == detector.supervised


def test_a_supervised_family_is_calibrated_and_another_is_not(detector, vectors):
    X, y = vectors
    fitted = clone(detector).fit(X, y)
    if not fitted.supervised:
        with pytest.raises(TypeError, match="no probabilities"):
            fitted.calibrate(1.0, 0.0)
        return
    before = fitted.score(X)
    scorer = fitted.calibrate(0.5, -1.0).scorer(threshold=0.5, version=1, feature_set=1)
    expected = 1 / (1 + np.exp(-(0.5 * np.log(before / (1 - before)) - 1)))
    np.testing.assert_allclose(fitted.score(X), expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(scorer.score(X), fitted.score(X), rtol=0, atol=1e-6)


def test_a_column_that_never_varies_takes_no_part(detector, vectors):
    X, y = vectors
    X = X.copy()
    X[:, 5] = 3
    fitted = clone(detector).fit(X, y)
    other = X.copy()
    other[:, 5] = -7
    np.testing.assert_array_equal(fitted.score(other), fitted.score(X))


def test_frauds_score_higher(detector, scorer, vectors):
    X, y = vectors
    assert roc_auc_score(y, detector.score(X)) > 0.95
    ordinary, injected = np.median(X, axis=0)[None], np.median(X, axis=0)[None].copy()
    injected[0, :3] = 6
    assert scorer.score(injected)[0] > scorer.score(ordinary)[0] + 0.05


def test_scores_lie_in_the_unit_interval(detector, scorer, vectors):
    X, _ = vectors
    far = np.concatenate([X[:100] * 1e6, np.zeros_like(X[:1]), np.full_like(X[:1], -3e38)])
    for score in (detector.score, scorer.score):
        scores = score(far)
        assert scores.shape == (102,) and scores.dtype == np.float64
        assert (scores >= 0).all() and (scores <= 1).all()


def test_the_fast_form_agrees(detector, scorer, vectors):
    X, _ = vectors
    grid = np.repeat(np.float32(0.05) * np.arange(40, dtype=np.float32), X.shape[1]).reshape(40, -1)
    for rows in (X, grid):
        np.testing.assert_allclose(scorer.score(rows), detector.score(rows), rtol=0, atol=1e-6)


def test_a_row_alone_scores_as_in_its_batch(scorer, vectors):
    X, _ = vectors
    alone = [scorer.score(row[None])[0] for row in X[:200]]
    np.testing.assert_array_equal(alone, scorer.score(X)[:200])


def test_the_seed_decides(detector, scorer, vectors):
    again = clone(detector).fit(*vectors)
    np.testing.assert_array_equal(again.score(vectors[0]), detector.score(vectors[0]))
    assert again.scorer(threshold=0.6, version=7, feature_set=1).sha256 == scorer.sha256


def test_refuses_what_cannot_be_scored(detector, scorer, vectors):
    X, _ = vectors
    for score in (detector.score, scorer.score):
        for bad in (np.nan, np.inf, -np.inf):
            rows = X[:3].copy()
            rows[1, 2] = bad
            with pytest.raises(UnusableFeatures, match="feature 2 of row 1"):
                score(rows)
        with pytest.raises(UnusableFeatures, match="shape"):
            score(X[:3, :-1])
        with pytest.raises(UnusableFeatures, match="shape"):
            score(X[0])


def test_refuses_to_learn_from_what_is_not_finite(detector, vectors):
    X, y = vectors
    X = X.copy()
    X[7, 1] = np.nan
    with pytest.raises(UnusableFeatures, match="feature 1 of row 7"):
        clone(detector).fit(X, y)


def test_skops_stores_it_with_its_trusted_types(detector, vectors):
    X, _ = vectors
    stored = skops.io.dumps(detector)
    assert set(skops.io.get_untrusted_types(data=stored)) == set(detector.trusted_types)
    loaded = skops.io.loads(stored, trusted=list(detector.trusted_types))
    np.testing.assert_array_equal(loaded.score(X), detector.score(X))
    assert loaded.to_onnx() == detector.to_onnx()


def test_the_fast_form_travels_to_other_processes(detector, scorer, vectors):
    X, _ = vectors
    scorer.score(X[:1])
    arrived = pickle.loads(pickle.dumps(scorer))
    np.testing.assert_array_equal(arrived.score(X), scorer.score(X))
    assert (arrived.threshold, arrived.version, arrived.feature_set) == (0.6, 7, 1)
    assert arrived.family == detector.family


def test_attributions_have_the_right_sign(scorer, vectors):
    """Pushing an ordinary vector out in one feature is blamed on that feature."""
    X, y = vectors
    rows = X[~y & (abs(X) < 2).all(axis=1)][:50].copy()
    rows[:, 1] = 6
    attributions = scorer.attributions(rows)
    assert attributions.shape == rows.shape
    assert (attributions[:, 1] > 0).all()
    assert (attributions.argmax(axis=1) == 1).mean() >= 0.95
