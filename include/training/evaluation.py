"""How well scores separate fraud: rankings, alerts, daily investigation capacity, customers and money.

Everything here is numpy on arrays of equal length; only `evaluate` reads PostgreSQL. Days are UTC days of the
event, times are seconds since 1970, amounts are added up as stored, whatever their currency.

A transaction's label is the latest one known at the time of the evaluation. A transaction without a label counts as
not fraud, but only when it is settled, that is older than the maturity of labels. Younger ones are left out, since
their frauds are not all reported yet: unlabelled frauds would count as honest and lower the precision, and where only
fraud is ever reported, the labels that have arrived are all frauds and raise the recall.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any, TypedDict, cast

import numpy as np
import psycopg

from include.features import behaviour
from include.registry import loading
from include.settings import Settings
from include.training import stored_rows

LABEL_MATURITY = timedelta(days=3)  # the shortest; longer when the known labels took longer
ARRIVED = 0.9  # share of the known fraud labels that arrived within the maturity
FULLY_LABELLED = 0.95  # transactions younger than the maturity count when this share of them has a label
DRAWS = 200
DAY = 86_400.0  # seconds


class NothingToEvaluate(ValueError):
    """No settled transaction in the range; the message says how many scores there are and what to do."""


class AtK(TypedDict):
    """Means over days, when k are investigated a day."""

    precision: float | None
    recall: float | None


class Detection(TypedDict):
    """Defrauded customers, and hours from their first fraud to the first one with an alert."""

    customers: int
    detected: int
    median_hours: float | None
    mean_hours: float | None


class Money(TypedDict):
    """Amounts of fraud."""

    fraud: float
    caught: float
    lost_before_detection: float
    stopped: float


class DetectionAndMoney(TypedDict):
    detection: Detection
    money: Money


class ScenarioRecall(TypedDict):
    """The alerts among the transactions of one kind of fraud."""

    frauds: int
    caught: int
    recall: float | None


class Day(TypedDict):
    """Counts and measures of one UTC day."""

    day: str
    transactions: int
    frauds: int
    alerts: int
    caught: int
    precision: float | None
    recall: float | None
    average_precision: float | None


class Metrics(DetectionAndMoney):
    """Every measure of labelled decisions, None where it is not defined; intervals are 95 % bounds."""

    transactions: int
    frauds: int
    fraud_rate: float | None
    alerts: int
    alert_rate: float | None
    caught: int
    auc: float | None
    average_precision: float | None
    precision_at_threshold: float | None
    recall_at_threshold: float | None
    intervals: dict[str, list[float]]
    k: int
    at_k: AtK
    customers_at_k: AtK
    per_scenario: dict[str, ScenarioRecall]
    per_day: list[Day]


class Reliability(TypedDict):
    """Frauds that probabilities expect, and those that are known: in all, and among alerts."""

    transactions: int
    expected: float
    frauds: int
    expected_in_alerts: float
    frauds_in_alerts: int


Range = TypedDict("Range", {"from": str, "to": str})  # ISO 8601; `to` is excluded


class Evaluation(Range, Metrics):
    """Metrics of the stored scores of a range; times are ISO 8601."""

    as_of: str
    versions: list[int]
    settled_until: str
    left_out: int
    labels_without_event: int


@dataclass(frozen=True)
class LabelledScores:
    """N labelled decisions: users as codes, times in seconds, `alert` and `fraud` boolean, scenario '' if unknown."""

    user: np.ndarray
    timestamp: np.ndarray
    amount: np.ndarray
    score: np.ndarray
    alert: np.ndarray
    fraud: np.ndarray
    scenario: np.ndarray

    def __len__(self) -> int:
        return len(self.user)

    def __getitem__(self, rows: np.ndarray | slice) -> LabelledScores:
        return LabelledScores(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


class Ranking:
    """Areas under the ROC and the precision-recall curve of N scores, for any weights of the rows.

    Sorting is done once, so that a bootstrap draw costs two cumulative sums. Equal scores are one step of the
    curve. Average precision is sum((R_i - R_(i-1)) P_i), as in scikit-learn.
    """

    def __init__(self, fraud: np.ndarray, score: np.ndarray) -> None:
        self.order = np.argsort(-score, kind="stable")
        self.fraud = fraud[self.order].astype(float)
        ranked = score[self.order]
        steps = np.flatnonzero(ranked[1:] != ranked[:-1])
        self.ends = np.append(steps, len(ranked) - 1) if len(ranked) else steps

    def areas(self, weight: np.ndarray | None = None) -> tuple[float, float]:
        """(ROC AUC, average precision); NaN where a class is missing."""
        if not len(self.ends):
            return np.nan, np.nan
        weight = np.ones(len(self.fraud)) if weight is None else weight[self.order].astype(float)
        caught = np.cumsum(weight * self.fraud)[self.ends]
        flagged = np.cumsum(weight)[self.ends]
        frauds, honest = caught[-1], flagged[-1] - caught[-1]
        if not frauds:
            return np.nan, np.nan
        gained = np.diff(caught, prepend=0.0)
        precision = np.divide(caught, flagged, out=np.zeros_like(caught), where=flagged > 0)
        average_precision = float((gained * precision).sum() / frauds)
        if not honest:
            return np.nan, average_precision
        wrong = np.diff(flagged - caught, prepend=0.0)
        return float((wrong * (caught - gained / 2)).sum() / (frauds * honest)), average_precision


def ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else np.nan


def bootstrap_weights(user: np.ndarray, draws: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yields `draws` arrays (N,): how often each row is drawn when whole customers are drawn with replacement.

    Rows of one customer depend on one another; drawing rows would make the intervals too narrow.
    """
    users, index = np.unique(user, return_inverse=True)
    for _ in range(draws):
        yield np.bincount(rng.integers(len(users), size=len(users)), minlength=len(users))[index]


def intervals(scored: LabelledScores, draws: int, rng: np.random.Generator) -> dict[str, list[float]]:
    """95 % bootstrap intervals (percentiles) over customers of AUC, average precision, precision and recall."""
    ranking = Ranking(scored.fraud, scored.score)
    caught = scored.alert & scored.fraud
    drawn = []
    for weight in bootstrap_weights(scored.user, draws, rng):
        right = weight[caught].sum()
        drawn.append(
            (
                *ranking.areas(weight),
                ratio(right, weight[scored.alert].sum()),
                ratio(right, weight[scored.fraud].sum()),
            )
        )
    names = ("auc", "average_precision", "precision_at_threshold", "recall_at_threshold")
    return {
        name: [float(bound) for bound in np.nanpercentile(values, (2.5, 97.5))]
        if not np.isnan(values).all()
        else []
        for name, values in zip(names, np.array(drawn).reshape(-1, 4).T, strict=True)
    }


def better_share(
    fraud: np.ndarray,
    user: np.ndarray,
    score: np.ndarray,
    than: np.ndarray,
    draws: int,
    rng: np.random.Generator,
) -> float:
    """Share of bootstrap draws over customers in which `score` has a higher average precision than `than`."""
    one, other = Ranking(fraud, score), Ranking(fraud, than)
    weights = bootstrap_weights(user, draws, rng)
    return float(np.mean([one.areas(weight)[1] > other.areas(weight)[1] for weight in weights]))


def days_of(timestamp: np.ndarray) -> np.ndarray:
    """(N,) UTC days since 1970."""
    return np.floor(timestamp / DAY).astype(np.int64)


def at_k_per_day(scored: LabelledScores, k: int) -> AtK:
    """Precision and recall when the k highest scores of each day are investigated, as means over days.

    Precision divides by the investigated transactions (fewer than k on a quiet day); recall is the mean over the
    days with a fraud. NaN where there is no such day.
    """
    day = days_of(scored.timestamp)
    order = np.lexsort((-scored.score, day))
    day, fraud = day[order], scored.fraud[order]
    _, first, index = np.unique(day, return_index=True, return_inverse=True)
    top = np.arange(len(day)) - first[index] < k
    investigated, caught = np.bincount(index[top]), np.bincount(index, fraud & top)
    frauds = np.bincount(index, fraud)
    return {
        "precision": float(np.mean(caught / investigated)) if len(first) else np.nan,
        "recall": float(np.mean(caught[frauds > 0] / frauds[frauds > 0])) if frauds.any() else np.nan,
    }


def customers_at_k_per_day(scored: LabelledScores, k: int) -> AtK:
    """The same for the k customers with the highest score of each day.

    A customer whose fraud was caught is left out of the following days: the account is blocked.
    """
    day = days_of(scored.timestamp)
    caught: np.ndarray = np.array([], dtype=scored.user.dtype)
    precisions, recalls = [], []
    for today in np.unique(day):
        rows = np.flatnonzero((day == today) & ~np.isin(scored.user, caught))
        if not len(rows):
            continue
        users, index = np.unique(scored.user[rows], return_inverse=True)
        highest = np.full(len(users), -np.inf)
        np.maximum.at(highest, index, scored.score[rows])
        defrauded = np.bincount(index, scored.fraud[rows]) > 0
        top = np.argsort(-highest, kind="stable")[:k]
        precisions.append(defrauded[top].mean())
        if defrauded.any():
            recalls.append(defrauded[top].sum() / defrauded.sum())
        caught = np.append(caught, users[top][defrauded[top]])
    return {
        "precision": float(np.mean(precisions)) if precisions else np.nan,
        "recall": float(np.mean(recalls)) if recalls else np.nan,
    }


def per_day(scored: LabelledScores) -> list[Day]:
    """One entry a UTC day: counts, precision and recall of the alerts, and average precision."""
    day = days_of(scored.timestamp)
    series: list[Day] = []
    for today in np.unique(day):
        rows = scored[day == today]
        caught = int((rows.alert & rows.fraud).sum())
        series.append(
            {
                "day": datetime.fromtimestamp(today * DAY, UTC).date().isoformat(),
                "transactions": len(rows),
                "frauds": int(rows.fraud.sum()),
                "alerts": int(rows.alert.sum()),
                "caught": caught,
                "precision": ratio(caught, rows.alert.sum()),
                "recall": ratio(caught, rows.fraud.sum()),
                "average_precision": Ranking(rows.fraud, rows.score).areas()[1],
            }
        )
    return series


def per_scenario(scored: LabelledScores) -> dict[str, ScenarioRecall]:
    """Recall of the alerts for each kind of fraud that the labels name, 'unknown' where they name none."""
    names = np.where(scored.scenario == "", "unknown", scored.scenario)
    scenarios: dict[str, ScenarioRecall] = {}
    for name in np.unique(names[scored.fraud]):
        rows = scored.fraud & (names == name)
        caught = int(scored.alert[rows].sum())
        frauds = int(rows.sum())
        scenarios[str(name)] = {"frauds": frauds, "caught": caught, "recall": ratio(caught, frauds)}
    return scenarios


def detection(scored: LabelledScores) -> DetectionAndMoney:
    """Time until a defrauded customer's first fraud with an alert, and the money before and after it.

    `detection`: hours from a customer's first fraud to the first fraud with an alert, over customers with such an
    alert. `money`: amounts of fraud; "lost_before_detection" was taken before that alert (all of it without an
    alert), "stopped" is the rest: the transaction with the alert and all later ones.
    """
    frauds = scored[scored.fraud]
    users, index = np.unique(frauds.user, return_inverse=True)
    first_fraud = np.full(len(users), np.inf)
    first_alert = np.full(len(users), np.inf)
    np.minimum.at(first_fraud, index, frauds.timestamp)
    np.minimum.at(first_alert, index[frauds.alert], frauds.timestamp[frauds.alert])
    detected = np.isfinite(first_alert)
    hours = (first_alert[detected] - first_fraud[detected]) / 3600
    before = frauds.timestamp < first_alert[index]
    total = frauds.amount.sum()
    return {
        "detection": {
            "customers": len(users),
            "detected": int(detected.sum()),
            "median_hours": float(np.median(hours)) if detected.any() else np.nan,
            "mean_hours": float(hours.mean()) if detected.any() else np.nan,
        },
        "money": {
            "fraud": float(total),
            "caught": float(frauds.amount[frauds.alert].sum()),
            "lost_before_detection": float(frauds.amount[before].sum()),
            "stopped": float(frauds.amount[~before].sum()),
        },
    }


def reliability(scored: LabelledScores) -> Reliability:
    """How many frauds the scores as probabilities expect, and how many are known."""
    alerts = scored[scored.alert]
    return {
        "transactions": len(scored),
        "expected": float(scored.score.sum()),
        "frauds": int(scored.fraud.sum()),
        "expected_in_alerts": float(alerts.score.sum()),
        "frauds_in_alerts": int(alerts.fraud.sum()),
    }


def metrics(scored: LabelledScores, *, k: int = 100, draws: int = DRAWS, rng: np.random.Generator) -> Metrics:
    """Every measure of these decisions, ready for JSON (None where a measure is not defined).

    `draws` bootstrap draws make the intervals; 0 leaves them out.
    """
    auc, average_precision = Ranking(scored.fraud, scored.score).areas()
    caught = int((scored.alert & scored.fraud).sum())
    frauds, alerts = int(scored.fraud.sum()), int(scored.alert.sum())
    return _without_nan(
        {
            "transactions": len(scored),
            "frauds": frauds,
            "fraud_rate": ratio(frauds, len(scored)),
            "alerts": alerts,
            "alert_rate": ratio(alerts, len(scored)),
            "caught": caught,
            "auc": auc,
            "average_precision": average_precision,
            "precision_at_threshold": ratio(caught, alerts),
            "recall_at_threshold": ratio(caught, frauds),
            "intervals": intervals(scored, draws, rng) if draws else {},
            "k": k,
            "at_k": at_k_per_day(scored, k),
            "customers_at_k": customers_at_k_per_day(scored, k),
            **detection(scored),
            "per_scenario": per_scenario(scored),
            "per_day": per_day(scored),
        }
    )


def _without_nan(metrics: Metrics) -> Metrics:
    """The metrics with None for every NaN in them, since JSON has no NaN."""

    def without_nan(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: without_nan(item) for name, item in value.items()}
        if isinstance(value, list):
            return [without_nan(item) for item in value]
        return None if isinstance(value, float) and np.isnan(value) else value

    return cast(Metrics, without_nan(metrics))


def settled_until(
    timestamp: np.ndarray,
    labels: stored_rows.Labels,
    labelled: np.ndarray,
    as_of: float,
    maturity: timedelta | None = None,
) -> float:
    """The time (seconds) before which the label of every transaction is settled; see the module's docstring.

    That is `as_of` minus the maturity. The maturity, unless given, is the delay within which `ARRIVED` of the known
    frauds were reported, and at least `LABEL_MATURITY`. Where labels come with the events, that is when at least
    `FULLY_LABELLED` of the younger transactions (N,) are `labelled`, it is `as_of` itself.
    """
    if maturity is None:
        delay = labels.delay[labels.fraud & np.isfinite(labels.delay)]
        late = timedelta(seconds=float(np.quantile(delay, ARRIVED))) if len(delay) else LABEL_MATURITY
        maturity = max(LABEL_MATURITY, late)
    mature = as_of - maturity.total_seconds()
    young = timestamp >= mature
    return as_of if young.any() and labelled[young].mean() >= FULLY_LABELLED else mature


def label(rows: stored_rows.Rows, labels: stored_rows.Labels) -> LabelledScores:
    """The decisions with their labels; a transaction without a label counts as not fraud."""
    _, fraud, scenario = labels.of(rows.key)
    return LabelledScores(rows.user, rows.timestamp, rows.amount, rows.score, rows.alert, fraud, scenario)


def evaluate(
    settings: Settings,
    start: datetime | None = None,
    end: datetime | None = None,
    *,
    version: int | None = None,
    k: int = 100,
    as_of: datetime | None = None,
    maturity: timedelta | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Evaluation:
    """Measures of the stored scores with event time in [start, end), against the labels known at `as_of`.

    Args:
        start: 30 days before `end` unless given.
        end: just after `as_of` unless given.
        version: score the logged feature vectors again with this version; without it the stored decisions are
            measured, by whichever model was champion then.
        as_of: the newest event's time unless given.
        maturity: how old a transaction must be for its label to be settled (see `settled_until`).

    Returns:
        a result that is ready for JSON; `left_out` counts the scores whose label is not settled yet,
        `labels_without_event` the labels of the range whose event is not stored.

    Raises:
        NothingToEvaluate: no score in the range is settled.
        ModelRejected, RegistryUnavailable: `version` cannot be loaded.
    """
    with psycopg.connect(settings.conninfo("trainer")) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        as_of = as_of or stored_rows.newest_event(connection)
        if as_of is None:
            raise NothingToEvaluate(
                "shop.transactions is empty: start the streams and produce transactions first"
            )
        end = end or as_of + timedelta(microseconds=1)
        start = start or end - timedelta(days=30)
        rows = _decisions(settings, connection, start, end, version)
        labels = stored_rows.labels(connection, start, end, as_of)
        without_event = stored_rows.labels_without_event(connection, start, end, as_of)
    labelled, _, _ = labels.of(rows.key)
    until = settled_until(rows.timestamp, labels, labelled, as_of.timestamp(), maturity)
    settled = rows[rows.timestamp <= until]
    if not len(settled):
        raise NothingToEvaluate(_none_settled(len(rows), start, end, version, until))
    return {
        "from": start.isoformat(),
        "to": end.isoformat(),
        "as_of": as_of.isoformat(),
        "versions": [int(number) for number in np.unique(settled.version)],
        "settled_until": datetime.fromtimestamp(until, UTC).isoformat(),
        "left_out": len(rows) - len(settled),
        "labels_without_event": without_event,
        **metrics(label(settled, labels), k=k, draws=draws, rng=np.random.default_rng(seed)),
    }


def _none_settled(scores: int, start: datetime, end: datetime, version: int | None, until: float) -> str:
    """Why nothing of a range can be evaluated, and what to do."""
    rows = "scores" if version is None else f"feature vectors that version {version} understands"
    return (
        f"{scores} {rows} between {start:%Y-%m-%d %H:%M} and {end:%Y-%m-%d %H:%M} UTC, none with a settled "
        f"label: labels are settled until {datetime.fromtimestamp(until, UTC):%Y-%m-%d %H:%M}. Choose an earlier "
        "range, wait, or shorten the maturity."
    )


def _decisions(
    settings: Settings,
    connection: psycopg.Connection,
    start: datetime,
    end: datetime,
    version: int | None,
) -> stored_rows.Rows:
    """The stored decisions, or those that `version` makes on the logged feature vectors."""
    if version is None:
        return stored_rows.scored_rows(connection, start, end)
    scorer = loading.load_scorer(settings, version)
    rows = stored_rows.feature_rows(
        connection, start, end, feature_set=behaviour.FEATURE_SET, width=len(behaviour.FEATURES)
    )
    score = scorer.score(rows.features)
    versions = np.full(len(rows), scorer.version)
    alert = scorer.is_alert(score)
    return stored_rows.Rows(rows.key, rows.user, rows.timestamp, rows.amount, score, alert, versions)
