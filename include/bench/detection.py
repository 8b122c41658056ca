"""How well detectors find fraud in our own and six other worlds: amount alone, usual models on raw fields, ours.

Every world is made from a seed (include.bench.worlds). Features are computed once, in one pass in the order
of time, by the code of the stream. All detectors learn from the same earlier time and are measured on the
same later time, against the full truth. One that learns from labels sees those known at the end of the
earlier time, late and partly wrong as they are, as training does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from rich.table import Table
from sklearn.ensemble import HistGradientBoostingClassifier, IsolationForest
from threadpoolctl import threadpool_limits

from include.bench.worlds import WORLDS
from include.bench.worlds.history import DAY, HOUR, SECOND, History, Labels
from include.events.transaction import Transaction
from include.features.entities import entities_of
from include.features.known_frauds import KnownFrauds, changes
from include.models.base import Detector
from include.models.gradient_boosting import GradientBoostingDetector
from include.models.isolation_forest import IsolationForestDetector
from include.training import evaluation, stored_rows
from include.training.evaluation import LabelledScores
from include.training.parity import recompute
from include.training.retraining import threshold_at

SEEDS = (11, 12, 13)
WARM, SPLIT = (
    0.1,
    0.7,
)  # shares of the rows that only build states, and that are earlier than what is measured
ALERT_RATE, K = 0.01, 100
MEASURES = ("average_precision", "auc", "precision", "recall")
PEOPLE = ("user_id", "first_name", "last_name", "full_name", "email")  # no raw feature of anyone's model


@dataclass(frozen=True)
class Dataset:
    """N transactions in order of time.

    Attributes:
        raw: (N, R) fields as they come: numbers, texts as their places in the alphabet, NaN where missing.
        vectors: (N, F) features of the stream.
        known_fraud, settled: (N,) by the labels known at the split.
    """

    name: str
    user: np.ndarray
    seconds: np.ndarray
    amount: np.ndarray
    raw: np.ndarray
    vectors: np.ndarray
    fraud: np.ndarray
    scenario: np.ndarray
    known_fraud: np.ndarray
    settled: np.ndarray

    @property
    def fit(self) -> slice:
        return slice(round(WARM * len(self.user)), round(SPLIT * len(self.user)))

    @property
    def labelled(self) -> np.ndarray:
        """Rows to learn from whose labels are settled."""
        rows = np.arange(self.fit.start, self.fit.stop)
        return np.asarray(rows[self.settled[rows]])

    @property
    def known(self) -> np.ndarray:
        """Labels of the rows to learn from: 1 fraud, 0 honest, -1 not settled at the split."""
        return np.where(self.settled, self.known_fraud, -1)[self.fit].astype(np.int8)

    @property
    def later(self) -> slice:
        return slice(self.fit.stop, len(self.user))


Scores = Callable[[Dataset], np.ndarray]
"""Scores (L,) of a data set's later rows by a detector that learned from its earlier ones."""


def dataset(name: str, history: History) -> Dataset:
    """A history with its features, and with what its shop knows at the split."""
    seconds = history.time / SECOND
    transactions, at = history.transactions(), np.arange(len(history))
    split = seconds[round(SPLIT * len(at))]
    known = _known_at(history, split)
    labelled, known_fraud, _ = known.of(at)
    earlier = at < round(SPLIT * len(at))
    until = evaluation.settled_until(seconds[earlier], known, labelled[earlier], split)
    return Dataset(
        name=name,
        user=_codes(history.fields["user_id"]),
        seconds=seconds,
        amount=history.fields["amount"].astype(float),
        raw=raw_fields(history),
        vectors=recompute(transactions, np.zeros(len(at), int), _known_frauds(history.labels, transactions)),
        fraud=history.fraud,
        scenario=history.scenario.astype(object),
        known_fraud=known_fraud,
        settled=seconds <= until,
    )


def raw_fields(history: History) -> np.ndarray:
    """(N, R) what a usual model gets: amount, hour, weekday, positions, own numbers, and texts by their alphabet."""
    day, hour = history.time // DAY, history.time % DAY // HOUR
    columns = [history.fields["amount"], hour, (day + 3) % 7]
    positions = [history.fields[name] for name in ("latitude", "longitude") if name in history.fields]
    columns += [*positions, *history.numbers.values()]
    left_out = {*PEOPLE, "amount", "latitude", "longitude"}
    texts = [values for name, values in history.fields.items() if name not in left_out]
    columns += [_codes(values) for values in (*texts, *history.categories.values())]
    return np.column_stack([column.astype(float) for column in columns])


def _codes(texts: np.ndarray) -> np.ndarray:
    """(N,) the place of each text in the alphabet."""
    return np.unique([text or "" for text in texts], return_inverse=True)[1]


def _known_at(history: History, split: float) -> stored_rows.Labels:
    """The newest label of each row that is known at a time (seconds)."""
    labels = history.labels
    known_at = labels.known_at / SECOND
    chosen = np.flatnonzero(known_at <= split)
    chosen = chosen[np.lexsort((known_at[chosen], labels.row[chosen]))]
    chosen = chosen[np.append(np.diff(labels.row[chosen]) > 0, True)] if len(chosen) else chosen
    row = labels.row[chosen]
    delay = known_at[chosen] - history.time[row] / SECOND
    return stored_rows.Labels(row, labels.fraud[chosen], np.full(len(row), ""), delay)


def _known_frauds(labels: Labels, transactions: Sequence[Transaction]) -> KnownFrauds:
    """What the stream knows when it reads each label in time; a correction takes a fraud back."""
    return KnownFrauds(
        change
        for row, reported, counts_from, frauds in _changes(labels)
        for change in changes(entities_of(transactions[row]), reported, counts_from, frauds)
    )


def _changes(labels: Labels) -> Iterator[tuple[int, int, int, int]]:
    """Of a row: the day after its report, the day from which that is known, and by how many frauds it changes."""
    counted: dict[int, int] = {}  # the day on which a row's fraud began to count
    for label in np.lexsort((labels.known_at, labels.row)):
        row, day = int(labels.row[label]), int(labels.known_at[label] // DAY) + 1
        if row in counted:
            yield row, counted.pop(row), day, -1
        if labels.fraud[label]:
            yield row, day, day, 1
            counted[row] = day


def amount_alone(dataset: Dataset) -> np.ndarray:
    return dataset.amount[dataset.later]


def plain_forest(dataset: Dataset) -> np.ndarray:
    """scikit-learn's forest as it comes, on raw fields; a missing number is -1."""
    raw = np.nan_to_num(dataset.raw, nan=-1.0)
    forest = IsolationForest(random_state=0).fit(raw[dataset.fit])
    return -np.asarray(forest.score_samples(raw[dataset.later]))


def plain_boosting(dataset: Dataset) -> np.ndarray:
    """scikit-learn's gradient boosting as it comes, on raw fields and the labels known by then."""
    rows = dataset.labelled
    model = HistGradientBoostingClassifier(random_state=0).fit(dataset.raw[rows], dataset.known_fraud[rows])
    return np.asarray(model.predict_proba(dataset.raw[dataset.later])[:, 1])


def learned(new: Callable[[], Detector]) -> Scores:
    """A new detector on the vectors and the labels that are settled at the split."""

    def scores(dataset: Dataset) -> np.ndarray:
        detector = new().fit(dataset.vectors[dataset.fit], dataset.known)
        return detector.score(dataset.vectors[dataset.later])

    return scores


AMOUNT, PLAIN_FOREST, PLAIN_BOOSTING = (
    "amount alone",
    "plain forest, raw fields",
    "plain boosting, raw fields",
)
FOREST, BOOSTING = "our forest", "our boosting"
DETECTORS: dict[str, Scores] = {
    AMOUNT: amount_alone,
    PLAIN_FOREST: plain_forest,
    FOREST: learned(IsolationForestDetector),
    PLAIN_BOOSTING: plain_boosting,
    BOOSTING: learned(GradientBoostingDetector),
}


def compare_detectors(
    makers: Mapping[str, Callable[[int], History]] = WORLDS,
    seeds: Sequence[int] = SEEDS,
    draws: int = 100,
    starting: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Every detector in every world; means over seeds with 95 % intervals, ready for JSON.

    A draw takes customers with replacement in the world of each seed, and is the mean over the seeds.
    """
    results = {}
    for name, make in makers.items():
        scored: dict[str, list[LabelledScores]] = {detector: [] for detector in DETECTORS}
        for seed in seeds:
            starting(f"detection in the world {name} of seed {seed}")
            made = dataset(name, make(seed))
            with threadpool_limits(1):  # threads that wait for one another crawl on a busy machine
                for detector, scores in DETECTORS.items():
                    scored[detector].append(decided(made, scores(made)))
        results[name] = {
            "transactions": sum(map(len, scored[AMOUNT])),
            "frauds": sum(int(rows.fraud.sum()) for rows in scored[AMOUNT]),
            "detectors": {detector: measured(rows, draws) for detector, rows in scored.items()},
        }
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "seeds": list(seeds),
        "alert_rate": ALERT_RATE,
        "k": K,
        "worlds": results,
    }


def decided(dataset: Dataset, score: np.ndarray) -> LabelledScores:
    """The later rows with the decisions of the threshold that `ALERT_RATE` of them reach."""
    later = dataset.later
    return LabelledScores(
        dataset.user[later], dataset.seconds[later], dataset.amount[later], score,
        score >= threshold_at(score, ALERT_RATE), dataset.fraud[later], dataset.scenario[later],
    )  # fmt: skip


def measured(worlds: Sequence[LabelledScores], draws: int) -> dict[str, Any]:
    """Means over seeds: measures with intervals, precision and recall at k a day, recall by scenario."""
    rng = np.random.default_rng(0)
    rankings = [evaluation.Ranking(rows.fraud, rows.score) for rows in worlds]
    drawn = [evaluation.bootstrap_weights(rows.user, draws, rng) for rows in worlds]
    samples = [
        np.mean([_measures(*values) for values in zip(worlds, rankings, weights, strict=True)], axis=0)
        for weights in zip(*drawn, strict=True)
    ]
    by_seed = np.array([_measures(*values, None) for values in zip(worlds, rankings, strict=True)])
    bounds = np.percentile(samples, (2.5, 97.5), axis=0).T if samples else [[]] * len(MEASURES)
    daily = [evaluation.at_k_per_day(rows, K) for rows in worlds]
    scenarios: dict[str, list[int]] = {}
    for rows in worlds:
        for name, counts in evaluation.per_scenario(rows).items():
            total = scenarios.setdefault(name, [0, 0])
            total[0] += counts["frauds"]
            total[1] += counts["caught"]
    return {
        **dict(zip(MEASURES, by_seed.mean(axis=0).tolist(), strict=True)),
        "intervals": {name: list(map(float, pair)) for name, pair in zip(MEASURES, bounds, strict=True)},
        "average_precision_by_seed": by_seed[:, 0].tolist(),
        "precision_at_k": float(np.mean([day["precision"] for day in daily])),
        "recall_at_k": float(np.mean([day["recall"] for day in daily])),
        "scenarios": {
            name: {"frauds": frauds, "recall": caught / frauds}
            for name, (frauds, caught) in sorted(scenarios.items())
        },
    }


def _measures(
    scored: LabelledScores, ranking: evaluation.Ranking, weight: np.ndarray | None
) -> tuple[float, ...]:
    weight = np.ones(len(scored)) if weight is None else weight
    auc, average_precision = ranking.areas(weight)
    caught = weight[scored.alert & scored.fraud].sum()
    return (
        average_precision,
        auc,
        evaluation.ratio(caught, weight[scored.alert].sum()),
        evaluation.ratio(caught, weight[scored.fraud].sum()),
    )


def tables(result: dict[str, Any]) -> Iterator[Table | str]:
    """What to print, in order."""
    worlds = result["worlds"]
    yield (
        f"{result['date']}, seeds {', '.join(map(str, result['seeds']))}: measured on the last {1 - SPLIT:.0%} of each "
        f"world's transactions; means over seeds with 95 % intervals over customers; recall at "
        f"{result['alert_rate']:.0%} alerts"
    )
    for measure in ("average_precision", "auc", "recall"):
        table = Table(measure.replace("_", " ").capitalize(), "Transactions", "Frauds", *DETECTORS)
        for name, values in worlds.items():
            cells = [_with_interval(values["detectors"][detector], measure) for detector in DETECTORS]
            table.add_row(name, f"{values['transactions']:,}", f"{values['frauds']:,}", *cells)
        yield table
    table = Table("Recall by kind of fraud", "World", "Frauds", *DETECTORS)
    for name, values in worlds.items():
        for scenario, counts in values["detectors"][AMOUNT]["scenarios"].items():
            recalls = [
                values["detectors"][detector]["scenarios"][scenario]["recall"] for detector in DETECTORS
            ]
            table.add_row(scenario, name, f"{counts['frauds']:,}", *(f"{recall:.2f}" for recall in recalls))
    yield table


def _with_interval(values: dict[str, Any], measure: str) -> str:
    low, high = values["intervals"][measure]
    return f"{values[measure]:.3f} ({low:.3f}–{high:.3f})"
