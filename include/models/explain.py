"""Why a transaction is an alert, in an analyst's words.

A reason is {"feature", "value", "text"}: the feature that raised the score, its value in the unit that the text
speaks of, and a sentence that says what is unusual, with what is usual beside it. At most one reason comes from a
topic, so that an unusual amount is not named three times, and none from a value that is ordinary or only says that
nothing is known (include.features.definitions). When no value of an alert is unusual in itself, its one reason names
the topics of their combination. Texts name countries, device, merchant and category of the payment, never a person.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from include.features.definitions import DEFINITIONS, FEATURES, NEUTRAL, Feature
from include.features.words import ScoredPayment

if TYPE_CHECKING:
    from include.events.transaction import Transaction
    from include.models.scorer import Scorer

MOST = 3
COMBINATION = "combination"  # in place of a feature's name


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
    names: Mapping[str, str] = MappingProxyType({}),
) -> list[list[AlertReason]]:
    """One to three reasons for each of N alerts, the strongest first; none where nothing raises the score.

    Args:
        scorer: the model that raised the alerts.
        X: (N, len(FEATURES)) their feature vectors.
        transactions: the N transactions.
        previous_countries: (N,) `Columns.previous_country` of them, to name where the last payment was.
        names: what the shop calls its own fields (include.features.extra_fields).

    Raises:
        UnusableFeatures: X is not finite or has another width.

    >>> from include.events.transaction import FIELDS, Transaction
    >>> from include.features.behaviour import FEATURE_SET
    >>> from include.models.isolation_forest import IsolationForestDetector
    >>> X = np.random.default_rng(1).normal(size=(1000, len(FEATURES))).astype(np.float32)
    >>> scorer = IsolationForestDetector(seed=1).fit(X).scorer(threshold=0.6, version=1, feature_set=FEATURE_SET)
    >>> odd = scorer.reference[:1].copy()
    >>> odd[0, [FEATURES.index(name) for name in ("amount", "amount_ratio")]] = np.log(43.5), np.log(20)
    >>> reasons(scorer, odd, [Transaction(*[field.example for field in FIELDS])])[0][0]["text"]
    'amount of 42.50 EUR, this customer usually pays about 1.17 EUR'
    """
    evidence = scorer.evidence(X)
    evidence[np.isclose(X, NEUTRAL)] = 0
    previous = [b""] * len(transactions) if previous_countries is None else previous_countries
    result = []
    for vector, weight, transaction, country in zip(X, evidence, transactions, previous, strict=True):
        values = dict(zip(FEATURES, vector.tolist(), strict=True))
        payment = ScoredPayment(values, transaction, bytes(country).decode("utf-8", "ignore").title(), names)
        by_topic: dict[str, AlertReason] = {}
        for j in np.argsort(-weight, kind="stable"):
            if len(by_topic) == MOST or weight[j] <= 0:
                break
            if DEFINITIONS[j].topic not in by_topic and (given := reason(payment, DEFINITIONS[j])):
                by_topic[DEFINITIONS[j].topic] = given
        result.append(list(by_topic.values()) or combination(scorer.attributions(vector[None])[0], names))
    return result


def combination(
    attributions: np.ndarray, names: Mapping[str, str] = MappingProxyType({})
) -> list[AlertReason]:
    """The reason of an alert without an unusual value: the topics that raise its score most; value is in log odds.

    >>> attributions = np.zeros(len(FEATURES))
    >>> attributions[[FEATURES.index("amount"), FEATURES.index("hour_surprise")]] = 1.0, 0.5
    >>> combination(attributions)
    [{'feature': 'combination', 'value': 1.5, 'text': 'unusual combination of amount and hour'}]
    """
    topics: dict[str, float] = {}
    for j in np.argsort(-attributions, kind="stable"):
        if attributions[j] <= 0 or (len(topics) == MOST and DEFINITIONS[j].topic not in topics):
            break
        topics[DEFINITIONS[j].topic] = topics.get(DEFINITIONS[j].topic, 0.0) + float(attributions[j])
    if not topics:
        return []
    *first, last = (_in_words(topic, names) for topic in topics)
    text = f"{', '.join(first)} and {last}" if first else f"{last} and other values"
    return [
        {
            "feature": COMBINATION,
            "value": round(sum(topics.values()), 4),
            "text": f"unusual combination of {text}",
        }
    ]


def _in_words(topic: str, names: Mapping[str, str]) -> str:
    """A topic, in which a field of the shop's own stands by its name."""
    field = topic.rpartition(" ")[2]
    return topic.replace(field, names.get(field, field.replace("_", " ")))


def reason(payment: ScoredPayment, feature: Feature) -> AlertReason | None:
    """What a feature says of a payment; None where its value is too ordinary for words.

    >>> history = DEFINITIONS[FEATURES.index("history")]
    >>> reason(ScoredPayment({"history": float(np.log(3))}, None), history)
    {'feature': 'history', 'value': 2.0, 'text': 'only 2 earlier payments of this customer'}
    """
    worded = feature.words(payment, payment.values[feature.name])
    if worded is None:
        return None
    value, text = worded
    return {"feature": feature.name, "value": round(float(value), 4), "text": text}
