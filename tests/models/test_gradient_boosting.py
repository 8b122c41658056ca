"""The gradient boosting detector."""

from __future__ import annotations

import numpy as np
import pytest

from include.models.gradient_boosting import GradientBoostingDetector


def test_needs_labels_of_both_classes(vectors):
    X, y = vectors
    for labels in (None, np.zeros_like(y), np.ones_like(y)):
        with pytest.raises(ValueError, match="both classes"):
            GradientBoostingDetector().fit(X, labels)


def test_scores_are_those_of_scikit_learn(vectors):
    X, y = vectors
    detector = GradientBoostingDetector(trees=40).fit(X, y)
    expected = detector.classifier_.predict_proba(X)[:, 1]
    scorer = detector.scorer(threshold=0.5, version=1, feature_set=1)
    np.testing.assert_allclose(scorer.score(X), expected, rtol=0, atol=1e-6)
