"""Reasons of alerts: the right feature first, in words that say what is unusual."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from include.features import behaviour
from include.features.behaviour import FEATURES
from include.features.definitions import DEFINITIONS, SUSPICIOUS
from include.features.entities import KINDS
from include.features.known_frauds import WINDOWS
from include.features.words import ScoredPayment
from include.models import explain
from include.models.gradient_boosting import GradientBoostingDetector
from include.models.isolation_forest import IsolationForestDetector
from include.models.vectors import UnusableFeatures
from tests.builders import NOW, transaction

# How full a life, how well known a merchant: what other features are judged by, not suspicious in themselves.
CONTEXT = {"history", "merchant_history", "known_devices", "known_countries", "known_merchants", "since_last"}
DEFINITION = {feature.name: feature for feature in DEFINITIONS}
TOPIC_OF = {feature.name: feature.topic for feature in DEFINITIONS}
# Many payments are unusual only where the customer makes fewer, and nothing is new when no value is.
TOGETHER = {
    "count_1h": ("rate_1h",),
    "rate_1h": ("count_1h",),
    "count_1d": ("rate_1d",),
    "rate_1d": ("count_1d",),
    "newness": ("new_device", "new_country", "new_category", "new_merchant"),
}
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


def injected(X: np.ndarray, rows: np.ndarray, feature: str) -> np.ndarray:
    """Rows in which a feature, and what it never comes without, lies far beyond all values."""
    vectors = X[rows].copy()
    for name in (feature, *TOGETHER.get(feature, ())):
        at = FEATURES.index(name)
        beyond = 0.3 * np.ptp(X[:, at])
        short = name == "gap_ratio"  # long gaps are not odd
        vectors[:, at] = X[:, at].min() - beyond if short else X[:, at].max() + beyond
    return vectors


def first_reason_right(scorer, ordinary, features) -> dict[str, float]:
    """For each feature, in what share of the payments in which it was injected the first reason names it."""
    X, transactions = ordinary
    scores = scorer.score(X)
    rows = np.random.default_rng(6).choice(np.flatnonzero(scores <= np.median(scores)), 40, replace=False)
    right = {}
    for name in features:
        explained = explain.reasons(scorer, injected(X, rows, name), [transactions[row] for row in rows])
        expected = {name, *TOGETHER.get(name, ())}
        right[name] = float(np.mean([bool(given) and given[0]["feature"] in expected for given in explained]))
    return right


def test_the_first_reason_names_the_injected_anomaly(ordinary, detector, scorer):
    features = [FEATURES[column] for column in detector.columns_ if FEATURES[column] not in CONTEXT]
    right = first_reason_right(scorer, ordinary, features)
    assert len(right) >= 14
    assert np.mean(list(right.values())) >= 0.95, right
    assert min(right.values()) >= 0.8, right


def test_the_first_reason_of_a_model_that_learned_the_anomalies_names_them(ordinary):
    X, _ = ordinary
    rng, parts, labels = np.random.default_rng(8), [X], [np.zeros(len(X))]
    for name in SUSPICIOUS:
        rows = rng.choice(len(X), 60, replace=False)
        parts.append(injected(X, rows, name))
        labels.append(np.ones(60))
    boosting = GradientBoostingDetector(seed=1).fit(
        np.concatenate(parts), np.concatenate(labels).astype(np.int8)
    )
    scorer = boosting.scorer(threshold=0.5, version=1, feature_set=behaviour.FEATURE_SET)
    right = first_reason_right(scorer, ordinary, SUSPICIOUS)
    assert np.mean(list(right.values())) >= 0.95, right
    assert min(right.values()) >= 0.8, right


def test_three_reasons_of_different_topics(ordinary, scorer):
    X, transactions = ordinary
    alerts = np.argsort(-scorer.score(X))[:50]
    for given in explain.reasons(scorer, X[alerts], [transactions[row] for row in alerts]):
        topics = [TOPIC_OF.get(reason["feature"]) for reason in given]
        assert 1 <= len(given) == len(set(topics)) <= 3
        assert all(set(reason) == {"feature", "value", "text"} and reason["text"] for reason in given)


def test_an_ordinary_payment_has_no_reason_that_calls_a_value_unusual(scorer):
    for given in explain.reasons(scorer, scorer.reference[:1], [transaction()]):
        assert [reason["feature"] for reason in given] in ([], [explain.COMBINATION])


def test_an_alert_without_an_unusual_value_names_its_combination(ordinary, scorer):
    X, transactions = ordinary
    usual = np.flatnonzero((scorer.evidence(X) == 0).all(axis=1))
    row = usual[scorer.score(X[usual]).argmax()]  # the most suspicious of those
    (given,) = explain.reasons(scorer, X[[row]], [transactions[row]])
    assert [reason["feature"] for reason in given] == [explain.COMBINATION]
    assert given[0]["text"].startswith("unusual combination of ") and given[0]["value"] > 0


def test_no_alerts(scorer):
    assert explain.reasons(scorer, np.empty((0, len(FEATURES)), np.float32), []) == []


def test_refuses_vectors_that_cannot_be_scored(scorer):
    with pytest.raises(UnusableFeatures):
        explain.reasons(scorer, np.full((1, len(FEATURES)), np.nan), [transaction()])


# Whether these are unusual, the population says and not the customer; here the merchant has no history.
ORDINARY_WITH_WORDS = ("amount", "spread", "merchant_history")


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
        ("amount_ratio", {"amount": 399.0}, "amount of 399.00 EUR, 8 times this customer's usual 49.00 EUR"),
        ("amount_ratio", {"amount": 4.0}, "amount of 4.00 EUR, 10 % of this customer's usual 49.00 EUR"),
        ("amount_z", {"amount": 399.0}, "amount of 399.00 EUR above this customer's range of 32.40 to 73.85"),
        ("amount", {"amount": 1399.0}, "amount of 1,399.00 EUR, this customer usually pays about 49.00 EUR"),
        ("new_country", {"transaction_location": "Nairobi, Kenya"},
         "first payment from Kenya, 40 minutes after one in Germany"),
        ("country_change", {"transaction_location": "Kenya"}, "payment from Kenya 40 minutes after one in Germany"),
        ("foreign", {"transaction_location": "Kenya"}, "payment from Kenya, home is Germany"),
        ("new_device", {"device": "Microwave"}, "first payment with Microwave"),
        ("new_category", {"merchant_category": "jewellery"}, "first payment in category jewellery"),
        ("new_merchant", {"merchant_id": "merchant-7"}, "first payment at merchant-7"),
        ("newness", {"device": "Microwave", "merchant_id": "m"}, "new for this customer: device, merchant"),
        ("since_last", {}, "40 minutes after the last payment, this customer usually pays every 23 hours"),
        ("gap_ratio", {"timestamp": NOW + timedelta(days=60)},
         "first payment for 21 days, this customer usually pays every 2 days"),
        ("hour_surprise", {"timestamp": NOW + timedelta(days=39, hours=15)},
         "paid at 03:00 UTC, when this customer rarely pays"),
        ("distance", {"latitude": -1.286, "longitude": 36.817}, "6,370 km from the position of the last payment"),
        ("speed", {"latitude": -1.286, "longitude": 36.817},
         "position reachable only at 2,000 km/h since the last payment"),
    ],
)  # fmt: skip
def test_words_have_the_usual_beside_the_unusual(feature, change, text):
    assert reason_for(feature, change)["text"].replace("6,369", "6,370").replace("6,371", "6,370") == text


@pytest.mark.parametrize("feature", [name for name in FEATURES if name not in ORDINARY_WITH_WORDS])
def test_what_is_usual_has_no_words(feature):
    usual = {"timestamp": NOW + timedelta(days=40)}  # the 41st daily payment, like all before
    assert reason_for(feature, usual) is None


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
            "2 payments in category groceries were reported as fraud in the last 30 days, "
            "4 times as many as its share of all payments",
        ),
        (
            "country_frauds_7d",
            "2 payments from Germany were reported as fraud in the last 7 days, "
            "4 times as many as its share of all payments",
        ),
    ],
)
def test_words_of_known_frauds_name_what_they_have_in_common(feature, text):
    lifts = {name: float(np.log(4)) for name in FEATURES if "_lift_" in name}
    vector = dict.fromkeys(FEATURES, 0.0) | lifts | {feature: float(np.log(3))}
    assert explain.reason(ScoredPayment(vector, transaction()), DEFINITION[feature])["text"] == text


class Everything:
    """A scorer for which every feature speaks for an alert, the later ones more."""

    def evidence(self, X):
        return np.tile(1.0 + np.arange(X.shape[1]), (len(X), 1))

    attributions = evidence


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
        "amount of 42.50 EUR"
    ]  # without a history no gap is short


@pytest.mark.parametrize("feature", DEFINITIONS, ids=FEATURES)
def test_every_feature_has_words_that_name_no_person(feature):
    payment = transaction(transaction_location="Kenya", device="Microwave")
    texts = []
    for value in (0.9, 7.0, 0.1, -3.0):  # other features as unusual as this one, upwards and downwards
        values = dict.fromkeys(FEATURES, value) | {"history": 3.0} | {feature.name: value}
        if reason := explain.reason(ScoredPayment(values, payment), feature):
            texts.append(reason["text"])
    assert texts and all(texts)
    assert not any(name in text for text in texts for name in ("Ada", "Byron", "example.com", "user-0001"))


@pytest.mark.parametrize(
    ("feature", "value", "fields", "text"),
    [
        ("number_1_ratio", np.log(10), {"number_1": 999.0}, "balance of 999, this customer's usual is 99"),
        ("number_1_ratio", np.log(1.2), {"number_1": 999.0}, None),
        ("number_1_ratio", -np.log(121) * 2, {"number_1": -120.0}, "balance of -120, this customer's usual is 120"),
        ("number_1_z", -3.04, {"number_1": 1.5}, "balance of 1.5, 3 standard deviations below that of all payments"),
        ("number_1_z", 1.9, {"number_1": 1.5}, None),
        (
            "number_1_amount_z", 2.5, {"number_1": 50.0, "amount": 49.0},
            "amount of 49.00 EUR is 98 % of balance, 2.5 standard deviations above what is usual",
        ),
        (
            "number_1_amount_z", 2.5, {"number_1": 10.0, "amount": 49.0},
            "amount of 49.00 EUR is 4.9 times balance, 2.5 standard deviations above what is usual",
        ),
        ("number_1_amount_z", 2.5, {"number_1": 0.0}, None),
        ("number_1_amount_z", 1.5, {"number_1": 50.0}, None),
        ("new_category_2", 0.75, {"category_2": "phone"}, "first payment with channel phone"),
        (
            "category_2_rarity", np.log(4000), {"category_2": "phone"},
            "channel phone, which about 1 payment of 4,000 has",
        ),
        ("category_2_rarity", np.log(50), {"category_2": "phone"}, None),
        (
            "category_2_fraud_lift_7d", np.log(4), {"category_2": "phone"},
            "payments with channel phone were reported as fraud in the last 7 days, 4 times as many as its share of "
            "all payments",
        ),
        ("category_2_fraud_lift_7d", np.log(0.2), {"category_2": "phone"}, None),
    ],
)  # fmt: skip
def test_a_shops_own_field_is_told_by_its_name_when_it_is_unusual(feature, value, fields, text):
    names = {"number_1": "balance", "category_2": "channel"}
    payment = ScoredPayment({feature: value}, transaction(**fields), "", names)
    given = explain.reason(payment, DEFINITION[feature])
    assert (given and given["text"]) == text


def test_a_combination_names_a_shops_own_fields():
    attributions = np.zeros(len(FEATURES))
    attributions[[FEATURES.index(name) for name in ("number_1_z", "category_2_fraud_lift_7d")]] = 2.0, 1.0
    (given,) = explain.combination(attributions, {"number_1": "balance"})
    assert given["text"] == "unusual combination of balance and reports of category 2"
