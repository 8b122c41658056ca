"""A live rate that is raised brings more customers: a model that was fitted before does not flood with alerts."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from include.events.transaction import Transaction, decode
from include.generator.batch import Batch
from include.generator.config import Config
from include.generator.profiles import simulation
from include.models.isolation_forest import IsolationForestDetector
from include.settings import Settings
from include.training.recompute import Recomputation
from tests.generator.worlds import START

LOW, HIGH = 0.05, 10.0
CHUNK = 2_000


def transactions(batches: Iterable[Batch]) -> list[Transaction]:
    return [
        decode(
            value,
            datetime.fromtimestamp(time / 1e6, UTC),
            max_bytes=10_000,
            future_tolerance=timedelta(days=1),
        ).transaction
        for batch in batches
        for time, _, value in batch.transactions()
    ]


def vectors(log: Recomputation, payments: list[Transaction]) -> np.ndarray:
    parts = [payments[start : start + CHUNK] for start in range(0, len(payments), CHUNK)]
    return np.concatenate([log.vectors(0, part) for part in parts])


@pytest.mark.parametrize("rate", [LOW, HIGH])
def test_the_share_of_alerts_stays_small_when_the_rate_is_200_times_as_high(rate):
    settings = Settings(_env_file=None, history_events=15_000)
    log = Recomputation()
    history = vectors(log, transactions(simulation(Config.from_settings(settings, rate=LOW)).history(START)))
    split = round(0.6 * len(history))
    detector = IsolationForestDetector().fit(history[:split])
    threshold = np.quantile(detector.score(history[split:]), 0.99)
    live = simulation(Config.from_settings(settings, rate=rate))
    span = timedelta(minutes=25) if rate == HIGH else timedelta(days=2)
    payments = transactions(live.between(START, START + span, rate=rate))
    assert len(payments) > 8_000
    share = (detector.score(vectors(log, payments)) >= threshold).mean()
    assert share < 0.05, share  # with customers who pay 200 times as often: more than 0.3
