"""Feature vectors of ordinary customers, and a few frauds that lie apart."""

from __future__ import annotations

import numpy as np
import pytest

WIDTH = 12


@pytest.fixture(scope="session")
def vectors() -> tuple[np.ndarray, np.ndarray]:
    """(4000, WIDTH) float32 and labels; the 80 frauds are far out in three features."""
    rng = np.random.default_rng(11)
    X = rng.normal(size=(4000, WIDTH)).astype(np.float32)
    X[:, 3] = rng.random(4000) < 0.05
    X[:, 4] = np.float32(0.1) * rng.integers(0, 20, 4000)  # thresholds that float32 cannot hold exactly
    y = np.arange(4000) % 50 == 0
    X[y, :3] += 5
    return X, y
