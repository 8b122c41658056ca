"""Columns chosen by known frauds."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from include.models import selection


@pytest.fixture
def labels():
    """(9000,) int8: frauds in the first two thirds, labels that are not settled at the end."""
    rng = np.random.default_rng(3)
    y = (rng.random(9000) < 0.02).astype(np.int8)
    y[7500:] = -1
    return y


def test_blocks_hold_the_settled_rows_in_order_with_as_many_frauds(labels):
    parts = selection.blocks(labels, np.random.default_rng(0))
    rows = [np.sort(part.rows) for part in parts]
    np.testing.assert_array_equal(np.concatenate(rows), np.flatnonzero(labels >= 0))
    frauds = [int(part.fraud.sum()) for part in parts]
    assert max(frauds) - min(frauds) <= 1 and sum(frauds) == (labels == 1).sum()
    for part in parts:
        np.testing.assert_array_equal(part.fraud, labels[part.rows] == 1)


def test_drawn_honest_rows_stand_for_all(labels, monkeypatch):
    monkeypatch.setattr(selection, "HONEST", 500)
    for part in selection.blocks(labels, np.random.default_rng(0)):
        assert (~part.fraud).sum() == 500
        assert part.weight[part.fraud].max() == 1


def test_average_precision_is_scikit_learns(labels):
    (part, *_) = selection.blocks(labels, np.random.default_rng(0))
    weighted = part._replace(weight=np.where(part.fraud, 1.0, 7.0))
    score = np.random.default_rng(1).integers(0, 40, len(part.rows)) + 9.0 * part.fraud
    assert selection.average_precision(weighted, score) == pytest.approx(
        average_precision_score(part.fraud, score, sample_weight=weighted.weight)
    )


def test_what_serves_one_block_only_is_not_chosen(labels):
    rng = np.random.default_rng(5)
    parts = selection.blocks(labels, rng)
    X = rng.normal(size=(3, len(labels)))
    X[0] += 2 * (labels == 1)
    first = parts[0].rows
    X[1, first] += 6 * (labels[first] == 1)
    X[1, np.concatenate([part.rows for part in parts[1:]])] *= -1
    chosen = selection.shares(parts, [X[:, part.rows] for part in parts])
    assert sum(chosen.values()) == pytest.approx(1)
    assert chosen[0] == max(chosen.values())
