"""Rarity of values against the training values."""

from __future__ import annotations

import numpy as np
import pytest

from include.models.reference import median, rarity, reference


def test_rarity_is_the_log_of_the_tail():
    X = np.random.default_rng(2).normal(size=(20_000, 1)).astype(np.float32)
    rare = rarity(reference(X), np.array([[0.0], [0.1], [2.4], [-2.4], [50.0]], np.float32))[:, 0]
    assert rare[0] == rare[1] == 0
    assert rare[2] == rare[3] == pytest.approx(np.log(0.5 / 0.01))
    assert rare[4] == rare.max() > rare[3]


def test_a_flag_is_as_rare_as_it_was_in_training():
    X = (np.arange(10_000) % 33 == 0).astype(np.float32)[:, None]
    ref = reference(X)
    assert median(ref) == 0
    assert rarity(ref, np.array([[0.0], [1.0]], np.float32))[:, 0] == pytest.approx([0, np.log(0.5 / 0.05)])


def test_a_column_that_is_not_used_has_no_rare_values():
    X = np.random.default_rng(2).normal(size=(1000, 3)).astype(np.float32)
    rare = rarity(reference(X, np.array([1])), np.full((1, 3), 9, np.float32))
    assert rare[0, 1] > 0 and rare[0, 0] == rare[0, 2] == 0
