"""How well scores separate fraud: rankings, alerts, daily investigation capacity, customers and money.

Everything here is numpy on arrays of equal length; only `evaluate` reads PostgreSQL. Days are UTC days of the
event, times are seconds since 1970, amounts are added up as stored, whatever their currency.

Which label a transaction has: the latest one known at the time of the evaluation. A transaction without a label
counts as not fraud, but only when it is settled, that is older than the maturity of labels. Before that, frauds
among the unlabelled have not been reported yet, and where only fraud is reported, the labels that have arrived
are all frauds: precision would be wrong in one direction and recall in the other.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import psycopg

from include.features import behaviour
from include.registry import loading
from include.settings import Settings
from include.training import stored_rows

LABEL_MATURITY = timedelta(days=3)  # at least; longer when the known labels took longer
ARRIVED = 0.9  # of the known fraud labels arrived within the maturity
FULLY_LABELLED = 0.95  # transactions younger than the maturity count when this share of them has a label
DRAWS = 200
DAY = 86_400.0


class NothingToEvaluate(ValueError):
    """No settled transaction in the range; the message says what there is and what to do."""


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

    def __getitem__(self, rows: np.ndarray) -> LabelledScores:
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
        self.ends = (
            np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1) if len(ranked) else []
        )

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


def bootstrap_weights(user: np.ndarray, draws: int, rng: np.random.Generator):
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


def at_k_per_day(scored: LabelledScores, k: int) -> dict[str, float]:
    """Precision and recall when the k highest scores of each day are investigated, as means over days.

    Precision divides by the transactions that were investigated (fewer than k on a quiet day); recall is the
    mean over the days that have a fraud.
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


def customers_at_k_per_day(scored: LabelledScores, k: int) -> dict[str, float]:
    """The same for the k customers with the highest score of each day.

    A customer whose fraud was found is left out of the days after: the account is blocked and counts no more.
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


def per_day(scored: LabelledScores) -> list[dict]:
    """One entry a UTC day: counts, precision and recall of the alerts, and average precision."""
    day = days_of(scored.timestamp)
    series = []
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


def per_scenario(scored: LabelledScores) -> dict[str, dict]:
    """Recall of the alerts for each kind of fraud whose name came with the labels ('unknown' otherwise)."""
    names = np.where(scored.scenario == "", "unknown", scored.scenario)
    found = {}
    for name in np.unique(names[scored.fraud]):
        rows = scored.fraud & (names == name)
        caught = int(scored.alert[rows].sum())
        found[str(name)] = {"frauds": int(rows.sum()), "caught": caught, "recall": ratio(caught, rows.sum())}
    return found


def detection(scored: LabelledScores) -> dict[str, dict]:
    """Time until a defrauded customer's first fraud with an alert, and the money before and after it.

    `detection`: hours from a customer's first fraud to the first fraud that raised an alert, over customers in
    whom one did. `money`: amounts of fraud; "lost_before_detection" is what was taken before that alert (all of
    it when there was none), "stopped" is the rest: the transaction that raised it and all that followed.
    """
    frauds = scored[scored.fraud]
    users, index = np.unique(frauds.user, return_inverse=True)
    first = np.full(len(users), np.inf)
    detected = np.full(len(users), np.inf)
    np.minimum.at(first, index, frauds.timestamp)
    np.minimum.at(detected, index[frauds.alert], frauds.timestamp[frauds.alert])
    found = np.isfinite(detected)
    hours = (detected[found] - first[found]) / 3600
    before = frauds.timestamp < detected[index]
    total = frauds.amount.sum()
    return {
        "detection": {
            "customers": len(users),
            "detected": int(found.sum()),
            "median_hours": float(np.median(hours)) if found.any() else np.nan,
            "mean_hours": float(hours.mean()) if found.any() else np.nan,
        },
        "money": {
            "fraud": float(total),
            "caught": float(frauds.amount[frauds.alert].sum()),
            "lost_before_detection": float(frauds.amount[before].sum()),
            "stopped": float(frauds.amount[~before].sum()),
        },
    }


def metrics(scored: LabelledScores, *, k: int = 100, draws: int = DRAWS, rng: np.random.Generator) -> dict:
    """Every measure of these decisions, ready for JSON (None where a measure is not defined).

    `draws` bootstrap draws make the intervals; 0 leaves them out.
    """
    auc, average_precision = Ranking(scored.fraud, scored.score).areas()
    caught = int((scored.alert & scored.fraud).sum())
    frauds, alerts = int(scored.fraud.sum()), int(scored.alert.sum())
    return without_nan(
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


def without_nan(value):
    """The value with None for every NaN in it, since JSON has no NaN."""
    if isinstance(value, dict):
        return {name: without_nan(item) for name, item in value.items()}
    if isinstance(value, list):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and np.isnan(value) else value


def settled_until(
    timestamp: np.ndarray,
    labels: stored_rows.Labels,
    labelled: np.ndarray,
    as_of: float,
    maturity: timedelta | None = None,
) -> float:
    """The time (seconds) before which the label of every transaction is settled, as the module's head explains.

    That is `as_of` minus the maturity: unless given, the delay within which `ARRIVED` of the known frauds were
    reported, and at least `LABEL_MATURITY`. It is `as_of` itself when labels come with the events: when at least
    `FULLY_LABELLED` of the transactions (N,) that are younger are `labelled`.
    """
    if maturity is None:
        delay = labels.delay[labels.fraud]
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
) -> dict:
    """Measures of the stored scores with event time in [start, end), against the labels known at `as_of`.

    Without `version` these are the decisions as they were made, by whichever model was champion then; with it, the
    logged feature vectors are scored again by that version. `as_of` is the newest event's time unless given,
    `end` is `as_of`, and `start` is 30 days before `end`. `maturity` is how old a transaction must be for its
    label to be settled (see `settled_until`). The result is ready for JSON; `left_out` counts the scores whose
    label is not settled yet.

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
        if version is None:
            rows = stored_rows.scored_rows(connection, start, end)
        else:
            scorer = loading.load_scorer(settings, version)
            rows = rescored(connection, start, end, scorer)
        labels = stored_rows.labels(connection, start, end, as_of)
    labelled, _, _ = labels.of(rows.key)
    until = settled_until(rows.timestamp, labels, labelled, as_of.timestamp(), maturity)
    settled = rows[rows.timestamp <= until]
    if not len(settled):
        what = "scores" if version is None else f"feature vectors that version {version} understands"
        raise NothingToEvaluate(
            f"{len(rows)} {what} between {start:%Y-%m-%d %H:%M} and {end:%Y-%m-%d %H:%M} UTC, none with a settled "
            f"label: labels are settled until {datetime.fromtimestamp(until, UTC):%Y-%m-%d %H:%M}. Choose an earlier "
            f"range, wait, or shorten the maturity."
        )
    return {
        "from": start.isoformat(),
        "to": end.isoformat(),
        "as_of": as_of.isoformat(),
        "versions": [int(number) for number in np.unique(settled.version)],
        "settled_until": datetime.fromtimestamp(until, UTC).isoformat(),
        "left_out": len(rows) - len(settled),
        **metrics(label(settled, labels), k=k, draws=draws, rng=np.random.default_rng(seed)),
    }


def rescored(connection: psycopg.Connection, start: datetime, end: datetime, scorer) -> stored_rows.Rows:
    """The logged feature vectors of [start, end), scored by `scorer` instead of the model of that time."""
    rows = stored_rows.feature_rows(
        connection, start, end, feature_set=behaviour.FEATURE_SET, width=len(behaviour.FEATURES)
    )
    score = scorer.score(rows.features)
    return replace(
        rows,
        score=score,
        alert=scorer.is_alert(score),
        version=np.full(len(rows), scorer.version),
        features=None,
    )
