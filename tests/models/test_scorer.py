"""The fast form of a detector."""

from __future__ import annotations

import numpy as np

from include.models import scorer as module
from include.models.isolation_forest import IsolationForestDetector


def make(vectors, seed=0, **fields):
    detector = IsolationForestDetector(trees=10, samples=64, seed=seed).fit(vectors[0])
    return detector.scorer(**{"threshold": 0.5, "version": 1, "feature_set": 1, **fields})


def test_no_rows(vectors):
    assert make(vectors).score(np.empty((0, vectors[0].shape[1]), np.float32)).shape == (0,)
    assert make(vectors).attributions(np.empty((0, vectors[0].shape[1]), np.float32)).shape == (0, 12)


def test_reaching_the_threshold_is_an_alert(vectors):
    assert make(vectors, threshold=0.6).is_alert(np.array([0.59, 0.6, 0.7])).tolist() == [False, True, True]


def test_an_open_session_is_used_again_and_few_are_kept(vectors):
    module._SESSIONS.clear()
    X = vectors[0][:1]
    first = make(vectors)
    first.score(X)
    session = module._SESSIONS[(1, first.sha256)]
    make(vectors).score(X)
    assert module._SESSIONS[(1, first.sha256)] is session
    for version in range(2, 12):
        make(vectors, version=version).score(X)
    assert len(module._SESSIONS) == module._KEPT_SESSIONS


def test_the_same_version_with_other_bytes_is_another_session(vectors):
    X = vectors[0][:50]
    one, other = make(vectors, seed=1), make(vectors, seed=2)
    assert one.sha256 != other.sha256
    assert (one.score(X) != other.score(X)).any()


def test_an_ordinary_transaction_has_no_attribution(vectors):
    scorer = make(vectors)
    np.testing.assert_allclose(scorer.attributions(scorer.reference[:1]), 0, atol=1e-6)
    assert (scorer.evidence(scorer.reference[:1]) == 0).all()


def test_evidence_is_what_is_both_rare_and_suspicious(vectors):
    scorer = make(vectors)
    rows = np.tile(scorer.reference[:1], (3, 1))
    rows[0, 1], rows[1, 1], rows[2, 1] = 9, 0.3, -9
    evidence = scorer.evidence(rows)
    assert evidence[0, 1] > 0 and evidence[2, 1] > 0
    assert evidence[1, 1] == 0
    assert (np.delete(evidence, 1, axis=1) == 0).all()
