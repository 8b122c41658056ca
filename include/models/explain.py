"""Why a transaction is an alert, in an analyst's words.

A reason is {"feature", "value", "text"}: the feature that raised the score, its value in the unit that the text
speaks of, and a sentence. At most one reason comes from a topic, so that an unusual amount is not told three
times, and none from a value that only says that nothing is known (include.features.definitions). Texts name countries,
device, merchant and category of the payment, never a person.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from include.features.definitions import DEFINITIONS, FEATURES, NEUTRAL, Feature
from include.features.words import ScoredPayment

if TYPE_CHECKING:
    from include.events.transaction import Transaction
    from include.models.scorer import Scorer

MOST = 3


class AlertReason(TypedDict):
    """Why a score is high; value is in the unit that the text speaks of."""

    feature: str
    value: float
    text: str


def reasons(
    scorer: Scorer,
    X: np.ndarray,
    transactions: Sequence[Transaction],
    previous_countries: Sequence[bytes] | np.ndarray | None = None,
) -> list[list[AlertReason]]:
    """Up to three reasons for each of N alerts, the strongest first.

    Args:
        scorer: the model that raised the alerts.
        X: (N, len(FEATURES)) their feature vectors.
        transactions: the N transactions.
        previous_countries: (N,) `Columns.previous_country` of them, to name where the last payment was.

    Raises:
        UnusableFeatures: X is not finite or has another width.

    >>> from include.events.transaction import FIELDS, Transaction
    >>> from include.features.behaviour import FEATURE_SET
    >>> from include.models.isolation_forest import IsolationForestDetector
    >>> X = np.random.default_rng(1).normal(size=(1000, len(FEATURES))).astype(np.float32)
    >>> scorer = IsolationForestDetector(seed=1).fit(X).scorer(threshold=0.6, version=1, feature_set=FEATURE_SET)
    >>> odd = scorer.reference[:1].copy()
    >>> odd[0, FEATURES.index("amount_ratio")] = np.log(300)
    >>> reasons(scorer, odd, [Transaction(*[field.example for field in FIELDS])])[0][0]["text"]
    "amount 300 times this customer's usual"
    """
    evidence = scorer.evidence(X)
    evidence[np.isclose(X, NEUTRAL)] = 0
    previous = [b""] * len(transactions) if previous_countries is None else previous_countries
    result = []
    for vector, weight, transaction, country in zip(X, evidence, transactions, previous, strict=True):
        values = dict(zip(FEATURES, vector.tolist(), strict=True))
        payment = ScoredPayment(values, transaction, bytes(country).decode("utf-8", "ignore").title())
        by_topic: dict[str, AlertReason] = {}
        for j in np.argsort(-weight, kind="stable"):
            if len(by_topic) == MOST or weight[j] <= 0:
                break
            by_topic.setdefault(DEFINITIONS[j].topic, reason(payment, DEFINITIONS[j]))
        result.append(list(by_topic.values()))
    return result


def reason(payment: ScoredPayment, feature: Feature) -> AlertReason:
    """What a feature says of a payment.

    >>> history = DEFINITIONS[FEATURES.index("history")]
    >>> reason(ScoredPayment({"history": float(np.log(41))}, None), history)
    {'feature': 'history', 'value': 40.0, 'text': '40 earlier payments of this customer'}
    """
    value, text = feature.words(payment, payment.values[feature.name])
    return {"feature": feature.name, "value": round(float(value), 4), "text": text}
