"""Registered models for tests of whatever reads the registry."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from include.features.behaviour import FEATURES
from include.models.base import Detector
from include.models.isolation_forest import IsolationForestDetector
from include.registry import registration
from include.registry.versions import ModelVersion
from include.settings import Settings

X = np.random.default_rng(0).normal(size=(400, len(FEATURES))).astype(np.float32)
Y = X[:, 0] > 1.5
METRICS = {
    "average_precision": 0.4,
    "auc": None,
    "intervals": {"average_precision": [0.3, 0.5]},
    "per_day": [{"day": "2026-03-01", "frauds": 2}, {"day": "2026-03-02", "frauds": 3}],
}


def register(settings: Settings, detector: Detector | None = None, **changed: Any) -> ModelVersion:
    given: dict[str, Any] = {
        "threshold": 0.6,
        "metrics": METRICS,
        "params": {"trees": 10},
        "figures": {"scores": Figure()},
        "trained_from": datetime(2026, 3, 1, tzinfo=UTC),
        "trained_to": datetime(2026, 3, 20, tzinfo=UTC),
    }
    return registration.register(
        settings, detector or IsolationForestDetector(trees=10).fit(X), **given | changed
    )


def down(settings: Settings) -> Settings:
    return settings.model_copy(update={"mlflow_tracking_uri": "http://127.0.0.1:9"})
