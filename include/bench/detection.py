"""How well detectors find fraud in our own and six other worlds: amount alone, usual models on raw fields, ours.

Every world is made from a seed (include.bench.worlds). Features are computed once, in one pass in the order
of time, by the code of the stream. All detectors learn from the same earlier time and are measured on the
same later time, against the full truth. One that learns from labels sees those known at the end of the
earlier time, late and partly wrong as they are, as training does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from multiprocessing import get_context
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table
from sklearn.ensemble import HistGradientBoostingClassifier, IsolationForest
from threadpoolctl import threadpool_limits

from include.bench.worlds import WORLDS
from include.bench.worlds.history import DAY, HOUR, SECOND, History, Labels
from include.events.transaction import Transaction
from include.features.definitions import EXTRA_FEATURES, FEATURES
from include.features.entities import entities_of
from include.features.known_frauds import KnownFrauds, changes
from include.models import families
from include.models.base import Detector
from include.training import evaluation, retraining, split, stored_rows
from include.training.evaluation import LabelledScores
from include.training.recompute import recompute
from include.training.thresholds import Limits, threshold_at

SEEDS = (21, 22, 23)  # nothing was chosen on them
WARM, SPLIT = (
    0.1,
    0.7,
)  # shares of the rows that only build states, and that are earlier than what is measured
ALERT_RATE, K = 0.01, 100
LIMITS = Limits(alerts_per_day=K, review_cost=0.0, decline_cost=0.0, alert_rate=ALERT_RATE)
MEASURES = ("average_precision", "auc", "precision", "recall")
PEOPLE = ("user_id", "first_name", "last_name", "full_name", "email")  # no raw feature of anyone's model


@dataclass(frozen=True)
class Dataset:
    """N transactions in order of time.

    Attributes:
        raw: (N, R) fields as they come: numbers, texts as their places in the alphabet, NaN where missing.
        vectors: (N, F) features of the stream.
        known: (N,) int8 by the labels known at the split: 1 fraud, 0 honest, -1 not settled.
        training: the rows to learn from as a training at the split reads them.
    """

    name: str
    user: np.ndarray
    seconds: np.ndarray
    amount: np.ndarray
    raw: np.ndarray
    vectors: np.ndarray
    fraud: np.ndarray
    scenario: np.ndarray
    known: np.ndarray
    training: split.TrainingData

    @property
    def fit(self) -> slice:
        return _fit_rows(len(self.user))

    @property
    def labelled(self) -> np.ndarray:
        """Rows to learn from whose labels are settled."""
        return np.asarray(self.fit.start + np.flatnonzero(self.known[self.fit] >= 0))

    @property
    def later(self) -> slice:
        return slice(self.fit.stop, len(self.user))

    def without_own_fields(self) -> Dataset | None:
        """The same of a shop that names none of its own fields; None where it has none."""
        own = [FEATURES.index(name) for name in EXTRA_FEATURES]
        if not self.vectors[:, own].any():
            return None
        vectors = self.vectors.copy()
        vectors[:, own] = 0
        rows = replace(self.training.rows, features=vectors[self.fit])
        return replace(self, vectors=vectors, training=replace(self.training, rows=rows))


def _fit_rows(rows: int) -> slice:
    return slice(round(WARM * rows), round(SPLIT * rows))


Scores = Callable[[Dataset], np.ndarray]
"""Scores (L,) of a data set's later rows by a detector that learned from its earlier ones."""


def dataset(name: str, history: History) -> Dataset:
    """A history with its features, and with what its shop knows at the split."""
    transactions, rows = history.transactions(), len(history)
    vectors = recompute(transactions, np.zeros(rows, int), known_frauds(history.labels, transactions))
    return Dataset(
        name=name,
        user=_codes(history.fields["user_id"]),
        seconds=history.time / SECOND,
        amount=history.fields["amount"].astype(float),
        raw=raw_fields(history),
        vectors=vectors,
        fraud=history.fraud,
        scenario=history.scenario.astype(object),
        known=_labels_at(history, round(SPLIT * rows)),
        training=_training_data(history, vectors),
    )


def _training_data(history: History, vectors: np.ndarray) -> split.TrainingData:
    """What a training at the split reads: the rows to learn from, and the labels known then."""
    fit = _fit_rows(len(history))
    as_of = history.time[fit.stop] / SECOND
    count = fit.stop - fit.start
    rows = stored_rows.FeatureRows(
        key=np.arange(fit.start, fit.stop),
        user=_codes(history.fields["user_id"])[fit],
        timestamp=history.time[fit] / SECOND,
        amount=history.fields["amount"][fit].astype(float),
        score=np.full(count, np.nan),
        alert=np.zeros(count, bool),
        version=np.zeros(count, np.int32),
        features=vectors[fit],
    )
    labels = _known_at(history, as_of)
    until = evaluation.settled_until(rows.timestamp, labels, labels.of(rows.key)[0], as_of)
    parts = split.divide(rows.timestamp, until)
    at_split = _known_at(history, parts.split)
    return split.TrainingData(
        rows, parts, split.from_seconds(as_of), until, labels, at_split, source="recomputed", share=1.0
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


def _labels_at(history: History, row: int) -> np.ndarray:
    """(N,) int8 labels as known when a row comes: 1 fraud, 0 honest, -1 not settled, or that row and later."""
    seconds, rows = history.time / SECOND, np.arange(len(history))
    known = _known_at(history, seconds[row])
    labelled, fraud, _ = known.of(rows)
    until = evaluation.settled_until(seconds[:row], known, labelled[:row], seconds[row])
    return np.where((rows < row) & (seconds <= until), fraud, -1).astype(np.int8)


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


def known_frauds(labels: Labels, transactions: Sequence[Transaction]) -> KnownFrauds:
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
    model = HistGradientBoostingClassifier(random_state=0).fit(dataset.raw[rows], dataset.known[rows])
    return np.asarray(model.predict_proba(dataset.raw[dataset.later])[:, 1])


def learned(new: Callable[[], Detector]) -> Scores:
    """A new detector on the vectors and on the labels known at the split."""

    def scores(dataset: Dataset) -> np.ndarray:
        detector = new().fit(dataset.vectors[dataset.fit], dataset.known[dataset.fit])
        return detector.score(dataset.vectors[dataset.later])

    return scores


AMOUNT, PLAIN_FOREST, PLAIN_BOOSTING = (
    "amount alone",
    "plain forest, raw fields",
    "plain boosting, raw fields",
)
FOREST, BOOSTING, CHAMPION = "our forest", "our boosting", "champion"
MEASURED, WITHOUT = "champion before it is fitted again", "champion without the shop's own fields"
DETECTORS: dict[str, Scores] = {
    AMOUNT: amount_alone,
    PLAIN_FOREST: plain_forest,
    FOREST: learned(families.detector_class("isolation_forest")),
    PLAIN_BOOSTING: plain_boosting,
    BOOSTING: learned(families.detector_class("gradient_boosting")),
}
COLUMNS = (*DETECTORS, CHAMPION)


class Champion(NamedTuple):
    """What a training at the split makes: the best family as it was measured, and fitted again on all that is known."""

    measured: Detector
    again: Detector


def champion(dataset: Dataset) -> Champion:
    """The champion by training's own rules (include.training.retraining): of every family that the labels allow."""
    data, rng = dataset.training, np.random.default_rng(0)
    detectors = [families.detector_class(name)() for name in families.FAMILIES]
    candidates, _ = retraining.fit_all(detectors, data, LIMITS, None, rng)
    best = retraining.best(candidates)
    again = retraining.refit(best, data)[0] if data.measured else best.detector
    return Champion(best.detector, again)


def compare_detectors(
    makers: Mapping[str, Callable[[int], History]] = WORLDS,
    seeds: Sequence[int] = SEEDS,
    draws: int = 100,
    starting: Callable[[str], None] = lambda text: None,
    processes: int | None = None,
) -> dict[str, Any]:
    """Every detector in every world; means over seeds with 95 % intervals, ready for JSON.

    A draw takes customers with replacement in the world of each seed, and is the mean over the seeds.

    Args:
        starting: called with each world's name and seed.
        processes: that worlds are divided among; as many as there are cores when not given.
    """
    tasks = [(name, make, seed) for name, make in makers.items() for seed in seeds]
    scored: dict[str, dict[str, list[LabelledScores]]] = {}
    with _mapping(processes or len(os.sched_getaffinity(0))) as in_order:
        for (name, _, seed), by_detector in zip(tasks, in_order(_of_world, tasks), strict=True):
            starting(f"detection in the world {name} of seed {seed}")
            for detector, rows in by_detector.items():
                scored.setdefault(name, {}).setdefault(detector, []).append(rows)
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "seeds": list(seeds),
        "alert_rate": ALERT_RATE,
        "k": K,
        "worlds": {
            name: {
                "transactions": sum(map(len, of_world[AMOUNT])),
                "frauds": sum(int(rows.fraud.sum()) for rows in of_world[AMOUNT]),
                "detectors": {detector: measured(rows, draws) for detector, rows in of_world.items()},
            }
            for name, of_world in scored.items()
        },
    }


@contextmanager
def _mapping(processes: int) -> Iterator[Callable[..., Iterable[Any]]]:
    """Something that works as `map`, in so many processes."""
    if processes == 1:
        yield map
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield pool.map


def _of_world(task: tuple[str, Callable[[int], History], int]) -> dict[str, LabelledScores]:
    """What every detector says in the world of a seed."""
    name, make, seed = task
    made = dataset(name, make(seed))
    with threadpool_limits(1):  # threads that wait for one another crawl on a busy machine
        scores = {detector: decided(made, score(made)) for detector, score in DETECTORS.items()}
        chosen = champion(made)
        scores[CHAMPION] = decided(made, chosen.again.score(made.vectors[made.later]))
        scores[MEASURED] = decided(made, chosen.measured.score(made.vectors[made.later]))
        scores[WITHOUT] = scores[CHAMPION]
        if bare := made.without_own_fields():
            scores[WITHOUT] = decided(bare, champion(bare).again.score(bare.vectors[bare.later]))
    return scores


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
        table = Table(measure.replace("_", " ").capitalize(), "Transactions", "Frauds", *COLUMNS)
        for name, values in worlds.items():
            cells = [_with_interval(values["detectors"][detector], measure) for detector in COLUMNS]
            table.add_row(name, f"{values['transactions']:,}", f"{values['frauds']:,}", *cells)
        yield table
    versions = (MEASURED, CHAMPION, WITHOUT)
    table = Table("Average precision of the champion", *(name.removeprefix("champion ") for name in versions))
    for name, values in worlds.items():
        cells = [_with_interval(values["detectors"][version], "average_precision") for version in versions]
        table.add_row(name, *cells)
    yield table
    table = Table("Recall by kind of fraud", "World", "Frauds", *COLUMNS)
    for name, values in worlds.items():
        for scenario, counts in values["detectors"][AMOUNT]["scenarios"].items():
            recalls = [values["detectors"][detector]["scenarios"][scenario]["recall"] for detector in COLUMNS]
            table.add_row(scenario, name, f"{counts['frauds']:,}", *(f"{recall:.2f}" for recall in recalls))
    yield table


def _with_interval(values: dict[str, Any], measure: str) -> str:
    low, high = values["intervals"][measure]
    return f"{values[measure]:.3f} ({low:.3f}–{high:.3f})"
