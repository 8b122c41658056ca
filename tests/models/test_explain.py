"""Reasons of alerts: the right feature first, in words that say what is unusual."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from include.features import behaviour
from include.features.behaviour import FEATURES
from include.features.definitions import DEFINITIONS
from include.features.entities import KINDS
from include.features.known_frauds import WINDOWS
from include.features.words import ScoredPayment
from include.models import explain
from include.models.isolation_forest import IsolationForestDetector
from include.models.vectors import UnusableFeatures
from tests.builders import NOW, transaction

# How full a life, how well known a merchant: what other features are judged by, not suspicious in themselves.
CONTEXT = {"history", "merchant_history", "known_devices", "known_countries", "known_merchants", "since_last"}
DEFINITION = {feature.name: feature for feature in DEFINITIONS}
TOPIC_OF = {feature.name: feature.topic for feature in DEFINITIONS}
HOMES = ("Germany", "Japan", "Kenya", "Brazil")


@pytest.fixture(scope="module")
def ordinary():
    """Vectors and transactions of 150 customers with habits of their own and 2 % honest oddities of each kind."""
    rng = np.random.default_rng(5)
    rows = []
    for user in range(150):
        mean, spread, pace, hour = (
            rng.normal(3.6, 0.5),
            rng.uniform(0.3, 0.8),
            rng.uniform(0.5, 3),
            rng.normal(14, 2),
        )
        latitude, longitude = rng.uniform(-50, 60), rng.uniform(-150, 150)
        shops, day, device = rng.choice(300, rng.integers(4, 15), replace=False), 0.0, 0
        for _ in range(60):
            day += rng.exponential(1 / pace)
            new_device, new_shop, away, tiny = rng.random(4) < 0.02
            device += int(new_device)
            shop = rng.integers(300) if new_shop else rng.choice(shops)
            position = (
                (40.4, -3.7) if away else (latitude + rng.normal(0, 0.1), longitude + rng.normal(0, 0.1))
            )
            rows.append((user, shop, transaction(
                timestamp=NOW + timedelta(days=int(day), hours=rng.normal(hour, 3) % 24),
                amount=2.0 if tiny else round(float(rng.lognormal(mean, spread)), 2),
                device=f"phone-{user}-{device}", location=HOMES[user % 4],
                transaction_location="Spain" if away else HOMES[user % 4],
                merchant_id=f"m{shop}", merchant_category=f"c{shop % 20}",
                latitude=position[0], longitude=position[1],
            )))  # fmt: skip
    rows.sort(key=lambda row: row[2].timestamp)
    users, shops, transactions = (list(column) for column in zip(*rows, strict=True))
    columns = behaviour.columns(transactions)
    state, merchants = behaviour.new_state(150), behaviour.new_merchant_state(300)
    frauds = np.random.default_rng(7).poisson(0.3, (len(rows), len(KINDS), len(WINDOWS))).cumsum(axis=2)
    return behaviour.compute(
        state, np.array(users), columns, merchants, np.array(shops), frauds
    ), transactions


@pytest.fixture(scope="module")
def detector(ordinary):
    return IsolationForestDetector(seed=1).fit(ordinary[0])


@pytest.fixture(scope="module")
def scorer(detector):
    return detector.scorer(threshold=0.6, version=1, feature_set=behaviour.FEATURE_SET)


def test_the_first_reason_names_the_injected_anomaly(ordinary, detector, scorer):
    X, transactions = ordinary
    scores = scorer.score(X)
    rng = np.random.default_rng(6)
    rows = rng.choice(np.flatnonzero(scores < np.median(scores)), 40, replace=False)
    highest, lowest = X.max(axis=0), X.min(axis=0)
    named = {}
    for j in detector.columns_:
        name = FEATURES[j]
        if name in CONTEXT:
            continue
        injected = X[rows].copy()
        beyond = 0.3 * (highest[j] - lowest[j])
        injected[:, j] = (
            lowest[j] - beyond if name == "gap_ratio" else highest[j] + beyond
        )  # short gaps are odd
        explained = explain.reasons(scorer, injected, [transactions[row] for row in rows])
        named[name] = np.mean([bool(given) and given[0]["feature"] == name for given in explained])
    assert len(named) >= 14
    assert np.mean(list(named.values())) >= 0.95, named
    assert min(named.values()) >= 0.8, named


def test_three_reasons_of_different_topics(ordinary, scorer):
    X, transactions = ordinary
    alerts = np.argsort(-scorer.score(X))[:50]
    for given in explain.reasons(scorer, X[alerts], [transactions[row] for row in alerts]):
        topics = [TOPIC_OF[reason["feature"]] for reason in given]
        assert len(given) == 3 and len(set(topics)) == 3
        assert all(set(reason) == {"feature", "value", "text"} and reason["text"] for reason in given)


def test_nothing_unusual_gives_no_reason(scorer):
    assert explain.reasons(scorer, scorer.reference[:1], [transaction()]) == [[]]


def test_no_alerts(scorer):
    assert explain.reasons(scorer, np.empty((0, len(FEATURES)), np.float32), []) == []


def test_refuses_vectors_that_cannot_be_scored(scorer):
    with pytest.raises(UnusableFeatures):
        explain.reasons(scorer, np.full((1, len(FEATURES)), np.nan), [transaction()])


def reason_for(feature, change=None, **fields):
    """The reason of a feature about the last of 40 daily payments; `change` are fields of that last one."""
    rows = [transaction(timestamp=NOW + timedelta(days=day), amount=49.0) for day in range(40)]
    at = NOW + timedelta(days=39, minutes=40)
    rows.append(transaction(**{"timestamp": at, "amount": 49.0, **(change or {})}))
    columns = behaviour.columns(rows)
    vector = behaviour.compute(behaviour.new_state(1), np.zeros(41, int), columns)[-1]
    country = columns.previous_country[-1].decode().title()
    values = dict(zip(FEATURES, vector.tolist(), strict=True))
    return explain.reason(ScoredPayment(values, rows[-1], country), DEFINITION[feature])


@pytest.mark.parametrize(
    ("feature", "change", "text"),
    [
        ("amount_ratio", {"amount": 399.0}, "amount 8 times this customer's usual"),
        ("amount_ratio", {"amount": 4.0}, "amount 10 % of this customer's usual"),
        ("amount", {"amount": 1399.0}, "amount of 1,399.00 EUR"),
        ("new_country", {"transaction_location": "Nairobi, Kenya"},
         "first payment from Kenya, 40 minutes after one in Germany"),
        ("country_change", {"transaction_location": "Kenya"}, "payment from Kenya 40 minutes after one in Germany"),
        ("foreign", {"transaction_location": "Kenya"}, "payment from Kenya, home is Germany"),
        ("new_device", {"device": "Microwave"}, "first payment with Microwave"),
        ("new_device", {}, "known device"),
        ("new_category", {"merchant_category": "jewellery"}, "first payment in category jewellery"),
        ("new_merchant", {"merchant_id": "merchant-7"}, "first payment at merchant-7"),
        ("newness", {"device": "Microwave", "merchant_id": "m"}, "new for this customer: device, merchant"),
        ("since_last", {}, "40 minutes after this customer's last payment"),
        ("history", {}, "40 earlier payments of this customer"),
        ("hour_surprise", {"timestamp": NOW + timedelta(days=39, hours=15)},
         "paid at 03:00 UTC, when this customer rarely pays"),
        ("distance", {"latitude": -1.286, "longitude": 36.817}, "6,370 km from the position of the last payment"),
    ],
)  # fmt: skip
def test_words(feature, change, text):
    assert reason_for(feature, change)["text"].replace("6,369", "6,370").replace("6,371", "6,370") == text


def test_values_are_in_the_unit_of_the_words():
    assert reason_for("amount_ratio", {"amount": 399.0})["value"] == pytest.approx(8, rel=1e-3)
    assert reason_for("new_country", {"transaction_location": "Kenya"})["value"] == pytest.approx(40)
    assert reason_for("country_change", {"transaction_location": "Kenya"})["value"] == pytest.approx(
        2 / 3, rel=1e-3
    )


@pytest.mark.parametrize(
    ("frauds", "text"),
    [
        (5, "5 payments at this merchant were reported as fraud in the last 30 days"),
        (1, "1 payment at this merchant was reported as fraud in the last 30 days"),
        (0, "0 payments at this merchant were reported as fraud in the last 30 days"),
    ],
)
def test_words_of_known_frauds(frauds, text):
    vector = dict.fromkeys(FEATURES, 0.0) | {"merchant_frauds_30d": float(np.float32(np.log1p(frauds)))}
    reason = explain.reason(ScoredPayment(vector, transaction()), DEFINITION["merchant_frauds_30d"])
    assert (reason["text"], reason["value"]) == (text, frauds)


@pytest.mark.parametrize(
    ("feature", "text"),
    [
        ("customer_frauds_1d", "2 payments of this customer were reported as fraud on the day before"),
        ("device_frauds_7d", "2 payments with iPhone 15 were reported as fraud in the last 7 days"),
        (
            "category_frauds_30d",
            "2 payments in category groceries were reported as fraud in the last 30 days",
        ),
        ("country_frauds_7d", "2 payments from Germany were reported as fraud in the last 7 days"),
    ],
)
def test_known_frauds_are_told_by_what_they_have_in_common(feature, text):
    vector = dict.fromkeys(FEATURES, 0.0) | {feature: float(np.log(3))}
    assert explain.reason(ScoredPayment(vector, transaction()), DEFINITION[feature])["text"] == text


class Everything:
    """A scorer for which every feature speaks for an alert, the later ones more."""

    def evidence(self, X):
        return np.tile(1.0 + np.arange(X.shape[1]), (len(X), 1))


def test_a_value_that_says_that_nothing_is_known_is_no_reason(monkeypatch):
    monkeypatch.setattr(explain, "MOST", 99)
    columns = behaviour.columns([transaction()])
    first = behaviour.compute(behaviour.new_state(1), np.zeros(1, int), columns)
    (given,) = explain.reasons(Everything(), first, [transaction()])
    assert [reason["feature"] for reason in given] == ["amount"]
    changed = first.copy()
    changed[0, FEATURES.index("since_last")] = np.log1p(60)
    (given,) = explain.reasons(Everything(), changed, [transaction()])
    assert [reason["text"] for reason in given] == [
        "60 seconds after this customer's last payment",
        "amount of 42.50 EUR",
    ]


def test_every_feature_has_words():
    for name in FEATURES:
        assert reason_for(name)["text"]


def test_no_person_is_named():
    for name in FEATURES:
        text = reason_for(name, {"transaction_location": "Kenya", "device": "Microwave"})["text"]
        assert not any(word in text for word in ("Ada", "Byron", "example.com", "user-0001"))
