"""A champion for the scoring stream without an MLflow: a real forest, kept where the registry keeps its last good one.

The campaign runs no MLflow, so the stream scores all the time as it does while MLflow is down.
"""

from __future__ import annotations

from datetime import timedelta
from hashlib import sha256

import numpy as np
import psycopg
import skops.io

from include.events.transaction import Transaction, decode
from include.faults.events import EventKind, Events
from include.features.behaviour import FEATURE_SET
from include.models.isolation_forest import IsolationForestDetector
from include.settings import Settings
from include.training.recompute import recompute

VERSION = 1
ROWS = 1_000
ALERT_RATE = 0.03


def install(settings: Settings, events: Events) -> None:
    """Trains on the first events of the campaign; registers in shop.models and keeps the bytes in `settings.home`."""
    transactions = _transactions(settings, events)
    vectors = recompute(transactions, np.zeros(ROWS, np.int64))
    detector = IsolationForestDetector(trees=50, samples=128).fit(vectors)
    threshold = float(np.quantile(detector.score(vectors), 1 - ALERT_RATE))
    raw = skops.io.dumps(detector)
    kept = settings.home / "champion" / f"{VERSION}.skops"
    kept.parent.mkdir()
    kept.write_bytes(raw)
    times = [transaction.timestamp for transaction in transactions]
    values = VERSION, sha256(raw).hexdigest(), detector.family, threshold, FEATURE_SET, min(times), max(times)
    with psycopg.connect(settings.conninfo("trainer")) as connection:
        connection.execute(
            "insert into shop.models (version, run_id, sha256, family, threshold, feature_set, trained_from, "
            "trained_to) values (%s, 'fault campaign', %s, %s, %s, %s, %s, %s)",
            values,
        )


def _transactions(settings: Settings, events: Events) -> list[Transaction]:
    tolerance = timedelta(seconds=settings.future_tolerance_seconds)
    later = events.start + timedelta(days=365)
    transactions: list[Transaction] = []
    number = 0
    while len(transactions) < ROWS:
        event = events.event(number)
        if event.kind is EventKind.NEW:
            decoded = decode(
                event.value, later, max_bytes=settings.max_event_bytes, future_tolerance=tolerance
            )
            transactions.append(decoded.transaction)
        number += 1
    return transactions
