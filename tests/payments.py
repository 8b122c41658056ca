"""Payments of a few customers, their feature vectors in one pass, and a small real forest that scores them."""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from hashlib import sha256
from typing import Any

import numpy as np
import psycopg
import skops.io

from include.events.transaction import Transaction
from include.features import behaviour
from include.models.isolation_forest import IsolationForestDetector
from include.settings import Settings
from tests.builders import NOW, event_bytes, transaction


def payments(n: int, users: int = 7, seed: int = 1) -> list[dict[str, Any]]:
    """Fields of n payments of some users at some merchants, a minute apart."""
    rng, own = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    return [
        {
            "transaction_id": f"t-{seed}-{i:05d}",
            "user_id": f"user-{rng.integers(users):04d}",
            "merchant_id": f"merchant-{rng.integers(5)}" if i % 9 else None,
            "timestamp": NOW - timedelta(minutes=n - i),
            "amount": round(float(rng.lognormal(3, 1)), 2),
            "number_1": float(own.normal(0, 100)) if i % 5 else None,
            "category_1": f"value {own.integers(20)}" if i % 4 else None,
        }
        for i in range(n)
    ]


def events(fields: list[dict[str, Any]]) -> list[bytes]:
    return [event_bytes(**payment) for payment in fields]


def vectors_of(transactions: list[Transaction]) -> np.ndarray:
    """The vectors of transactions that come in one log, computed at once."""
    users, user = np.unique([transaction.user_id for transaction in transactions], return_inverse=True)
    names = [transaction.merchant_id or "" for transaction in transactions]
    merchants, merchant = np.unique(names, return_inverse=True)
    merchant = np.where(np.array(names) == "", -1, merchant)
    states = behaviour.new_state(len(users)), behaviour.new_merchant_state(len(merchants))
    return behaviour.compute(states[0], user, behaviour.columns(transactions), states[1], merchant)


@cache
def detector() -> tuple[IsolationForestDetector, float]:
    """A forest fitted on payments, and a threshold that a twentieth of them reach."""
    vectors = vectors_of([transaction(**fields) for fields in payments(600)])
    fitted = IsolationForestDetector(trees=20, samples=64, seed=1).fit(vectors)
    return fitted, float(np.quantile(fitted.score(vectors), 0.95))


def keep_champion(settings: Settings) -> None:
    """Makes the forest the last good champion: the scoring stream takes it while MLflow is down."""
    fitted, threshold = detector()
    raw = skops.io.dumps(fitted)
    kept = settings.home / "champion" / "1.skops"
    kept.parent.mkdir()
    kept.write_bytes(raw)
    values = sha256(raw).hexdigest(), fitted.family, threshold, behaviour.FEATURE_SET, NOW, NOW
    with psycopg.connect(settings.conninfo("trainer")) as connection:
        connection.execute(
            "insert into shop.models (version, run_id, sha256, family, threshold, feature_set, trained_from, "
            "trained_to) values (1, 'tests', %s, %s, %s, %s, %s, %s)",
            values,
        )
