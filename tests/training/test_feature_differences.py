"""Recomputed vectors against logged ones."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.features.behaviour import FEATURES
from include.training import feature_differences, recompute
from include.training.feature_differences import ParityBroken
from tests.builders import NOW, transaction


def log(n: int, seed: int = 3):
    """n transactions of 12 customers at 6 merchants in 2 partitions, some late, some without a merchant."""
    rng = np.random.default_rng(seed)
    users = rng.integers(0, 12, n)
    transactions = [
        transaction(
            user_id=f"user-{user}",
            timestamp=NOW + timedelta(seconds=float(i * 500 - rng.integers(0, 4000))),
            amount=round(float(rng.lognormal(3, 1)), 2),
            device=f"d{rng.integers(3)}",
            merchant_id=None if rng.random() < 0.1 else f"m{rng.integers(6)}",
        )
        for i, user in enumerate(users)
    ]
    return transactions, users % 2


def as_streamed(transactions, partitions, sizes):
    """What a stream logs that takes a partition's rows in batches of these sizes."""
    recomputation, logged = (
        recompute.Recomputation(),
        np.empty((len(transactions), len(FEATURES)), np.float32),
    )
    for partition in (1, 0):
        rows, start, turn = np.flatnonzero(partitions == partition), 0, 0
        while start < len(rows):
            batch = rows[start : start + sizes[turn % len(sizes)]]
            logged[batch] = recomputation.vectors(partition, [transactions[row] for row in batch])
            start, turn = start + len(batch), turn + 1
    return logged


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 120), seed=st.integers(0, 99), sizes=st.lists(st.integers(1, 30), min_size=1, max_size=5)
)
def test_a_recomputation_gives_what_the_stream_logged(n, seed, sizes):
    transactions, partitions = log(n, seed)
    logged = as_streamed(transactions, partitions, sizes)
    np.testing.assert_array_equal(recompute.recompute(transactions, partitions), logged)
    feature_differences.require(logged, recompute.recompute(transactions, partitions))


def test_interleaved_partitions_do_not_matter():
    transactions, partitions = log(100)
    by_partition = np.argsort(partitions, kind="stable")
    np.testing.assert_array_equal(
        recompute.recompute([transactions[row] for row in by_partition], partitions[by_partition]),
        recompute.recompute(transactions, partitions)[by_partition],
    )


def test_a_forgotten_transaction_is_found_and_named():
    transactions, partitions = log(60)
    logged = recompute.recompute(transactions, partitions)
    kept = [row for row in range(60) if row != 20]
    mismatches = feature_differences.compare(
        logged[kept], recompute.recompute([transactions[row] for row in kept], partitions[kept])
    )
    assert "history" in {mismatch.feature for mismatch in mismatches}


def test_mismatches_are_named_with_their_size():
    logged = np.zeros((5, len(FEATURES)), np.float32)
    other = logged.copy()
    other[2, FEATURES.index("speed")] = 0.25
    other[[1, 3], FEATURES.index("growth")] = [0.5, -2]
    other[4, FEATURES.index("foreign")] = np.nan
    assert feature_differences.compare(logged, other) == [
        ("foreign", 1, np.inf, 4), ("growth", 2, 2.0, 3), ("speed", 1, 0.25, 2),
    ]  # fmt: skip
    with pytest.raises(ParityBroken, match=r"growth in 2 rows, by up to 2 \(row 3\); speed in 1 rows"):
        feature_differences.require(logged, other)


def test_the_last_bit_may_differ():
    logged = np.full((1, len(FEATURES)), 11.366755, np.float32)
    assert feature_differences.compare(logged, np.nextafter(logged, np.float32(99))) == []


def test_refuses_other_shapes():
    with pytest.raises(ParityBroken, match="shape"):
        feature_differences.compare(np.zeros((3, len(FEATURES))), np.zeros((2, len(FEATURES))))
    with pytest.raises(ParityBroken, match="shape"):
        feature_differences.compare(np.zeros((3, 5)), np.zeros((3, 5)))


def test_no_rows():
    assert recompute.recompute([], []).shape == (0, len(FEATURES))
