"""How rare a value is on a side of its column."""

from __future__ import annotations

import numpy as np

from include.models.surprise import FEWEST_BEYOND, surprises


def test_is_the_log_of_the_share_that_lies_as_far_out():
    X = np.random.default_rng(1).normal(size=(5000, 1)).astype(np.float32)
    high, low = surprises(X, np.array([np.nan]))
    assert (high.side, low.side) == (1, -1)
    for surprise in (high, low):
        signed = surprise.side * X[:, 0]
        exact = -np.log((signed[None] >= surprise.edges[:, None]).mean(axis=1))
        np.testing.assert_allclose(surprise.values[1:], exact, rtol=1e-5)
        assert (np.diff(surprise.values) > 0).all() and surprise.values[0] == 0
        assert (surprise.step(X)[signed <= surprise.side * np.median(X)] == 0).all()
        assert surprise.step(np.array([[surprise.side * 99]], np.float32)) == len(surprise.edges)


def test_a_neutral_value_that_hardly_anybody_has_gives_way_to_the_median():
    X = np.random.default_rng(1).integers(20, 60, size=(3000, 1)).astype(np.float32)
    high, low = surprises(X, np.array([0.0]))
    assert high.edges.min() > np.median(X) and -low.edges.max() <= np.median(X)
    upper, lower = surprises(X, np.array([50.0]))
    assert upper.edges.min() > 50 and (-lower.edges).max() < 50


def test_a_side_needs_rows():
    X = np.zeros((20_000, 2), np.float32)
    few = round(FEWEST_BEYOND * len(X)) - 1
    X[:few, 0] = 1
    X[: few + 1, 1] = 1
    assert [(surprise.column, surprise.side) for surprise in surprises(X, np.zeros(2))] == [(1, 1)]
