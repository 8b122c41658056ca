"""How well detectors find fraud in fresh worlds: the first design's, amount alone, ours, and two together.

Every world is made from a seed, with 1 % fraud. Features are computed once, in one pass in the order of time. All
detectors learn from the same earlier time and are measured on the same later time, against the full truth. One that
learns from labels sees those known at the end of the earlier time, late and partly wrong as they are, as training does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.table import Table
from threadpoolctl import threadpool_limits

from include.bench import START
from include.events.transaction import Transaction
from include.features.behaviour import FEATURES
from include.features.known_frauds import KnownFrauds
from include.generator.batch import plain
from include.generator.config import Config
from include.generator.profiles import simulation
from include.models.base import Detector
from include.models.gradient_boosting import GradientBoostingDetector
from include.models.isolation_forest import COLUMNS, IsolationForestDetector
from include.training import evaluation
from include.training.evaluation import LabelledScores
from include.training.parity import recompute
from include.training.retraining import threshold_at
from include.training.stored_rows import Labels

SEEDS = (11, 12, 13, 14, 15)
DAYS, EVENTS, CUSTOMERS = 60, 100_000, 1_000
WARM, SPLIT = (
    0.1,
    0.7,
)  # shares of the rows that only build states, and that are earlier than what is measured
ALERT_RATE, K = 0.01, 100
ALL = tuple(range(len(FEATURES)))
MEASURES = ("average_precision", "auc", "precision", "recall")


@dataclass(frozen=True)
class Dataset:
    """N transactions in order of time with their vectors (N, F), truth, and codes (N, 3) as the first design's."""

    seed: int
    user: np.ndarray
    seconds: np.ndarray
    amount: np.ndarray
    codes: np.ndarray
    vectors: np.ndarray
    fraud: np.ndarray
    scenario: np.ndarray
    known_fraud: np.ndarray  # by the labels known at the split
    settled: np.ndarray  # at the split

    @property
    def fit(self) -> slice:
        return slice(round(WARM * len(self.user)), round(SPLIT * len(self.user)))

    @property
    def later(self) -> slice:
        return slice(self.fit.stop, len(self.user))


Scores = Callable[[Dataset], np.ndarray]
"""Scores (L,) of a data set's later rows by a detector that learned from its earlier ones."""


def dataset(seed: int, events: int = EVENTS, customers: int = CUSTOMERS, days: float = DAYS) -> Dataset:
    """Transactions of the world of a seed, with what the shop knows of them at the split."""
    config = Config(seed=seed, fraud_rate=0.01, customers=customers)
    batches = list(simulation(config).between(START, START + timedelta(days=days), events=events))
    tables = [
        pa.concat_tables(getattr(batch, name) for batch in batches) for name in ("events", "truth", "labels")
    ]
    rows, truth, labels = (plain(table) for table in tables)
    seconds = np.concatenate([batch.time for batch in batches]) / 1e6
    columns = {name: rows[name].to_pylist() for name in Transaction.__struct_fields__ if name != "timestamp"}
    columns["timestamp"] = [datetime.fromtimestamp(at, UTC) for at in seconds.tolist()]
    transactions = [
        Transaction(**dict(zip(columns, values, strict=True)))
        for values in zip(*columns.values(), strict=True)
    ]
    split = seconds[round(SPLIT * len(seconds))]
    known = _labels_at(labels, truth["transaction_id"], split)
    at = np.arange(len(seconds))
    labelled, known_fraud, _ = known.of(at)
    earlier = at < round(SPLIT * len(seconds))
    until = evaluation.settled_until(seconds[earlier], known, labelled[earlier], split)
    return Dataset(
        seed=seed,
        user=np.unique(columns["user_id"], return_inverse=True)[1],
        seconds=seconds,
        amount=np.array(columns["amount"]),
        codes=np.column_stack(
            [columns["amount"], _codes(columns["device"]), _codes(columns["transaction_location"])]
        ),
        vectors=recompute(transactions, np.zeros(len(transactions), int), _known_frauds(labels)),
        fraud=truth["is_fraud"].to_numpy(zero_copy_only=False),
        scenario=np.array(truth["scenario_id"].fill_null("").to_pylist(), object),
        known_fraud=known_fraud,
        settled=seconds <= until,
    )


def _labels_at(labels: pa.Table, ids: pa.ChunkedArray, split: float) -> Labels:
    """The labels known at a time (seconds), by the row of their transaction."""
    known_at = labels["known_at"].to_numpy().astype("datetime64[us]").astype(np.int64) / 1e6
    labels, known_at = labels.filter(pa.array(known_at <= split)), known_at[known_at <= split]
    happened = labels["timestamp"].to_numpy().astype("datetime64[us]").astype(np.int64) / 1e6
    key = pc.index_in(labels["transaction_id"], ids.combine_chunks()).to_numpy().astype(np.int64)
    newest = np.lexsort((known_at, key))
    newest = newest[np.append(np.diff(key[newest]) > 0, True)] if len(newest) else newest
    fraud = labels["is_fraud"].to_numpy(zero_copy_only=False)[newest]
    return Labels(key[newest], fraud, np.full(len(newest), ""), (known_at - happened)[newest])


def _known_frauds(labels: pa.Table) -> KnownFrauds:
    """What the stream knows of merchants when it reads each label in time; a label says its last word."""
    fraud = labels.filter(labels["is_fraud"])
    days = (fraud["known_at"].to_numpy().astype("datetime64[D]").astype(np.int64) + 1).tolist()
    changes = zip(fraud["merchant_id"].to_pylist(), days, days, [1] * len(days), strict=True)
    return KnownFrauds(change for change in changes if change[0] is not None)


def _codes(texts: Sequence[str | None]) -> np.ndarray:
    """(N,) the rank of each text in the alphabet."""
    return np.unique([text or "" for text in texts], return_inverse=True)[1]


def amount_alone(dataset: Dataset) -> np.ndarray:
    return dataset.amount[dataset.later]


def first_design(dataset: Dataset) -> np.ndarray:
    """scikit-learn's default forest on amount, device and location, texts as their ranks in the alphabet."""
    detector = IsolationForestDetector(trees=100, samples=256).fit(dataset.codes[dataset.fit])
    return detector.score(dataset.codes[dataset.later])


def learned(new: Callable[[], Detector]) -> Scores:
    """A new detector on the vectors; one that learns from labels sees the settled transactions only."""

    def scores(dataset: Dataset) -> np.ndarray:
        detector = new()
        rows = np.arange(dataset.fit.start, dataset.fit.stop)
        if detector.supervised:
            rows = rows[dataset.settled[rows]]
            detector.fit(dataset.vectors[rows], dataset.known_fraud[rows])
        else:
            detector.fit(dataset.vectors[rows])
        return detector.score(dataset.vectors[dataset.later])

    return scores


def forest(**options: Any) -> Scores:
    return learned(lambda: IsolationForestDetector(**options))


def forest_on(*names: str, **options: Any) -> Scores:
    return forest(columns=tuple(FEATURES.index(name) for name in names), **options)


def ranks(score: np.ndarray) -> np.ndarray:
    """(N,) each score's rank among all, from 0 to 1."""
    return np.argsort(np.argsort(score, kind="stable"), kind="stable") / max(1, len(score) - 1)


OURS, BOOSTED = "our forest", "gradient boosting, labels known by then"
DETECTORS: dict[str, Scores] = {
    "amount alone": amount_alone,
    "the first design's forest: amount, device, location": first_design,
    "a forest on amount, new device, foreign": forest_on("amount", "new_device", "foreign", samples=256),
    OURS: forest(),
    BOOSTED: learned(GradientBoostingDetector),
}
TOGETHER = "mean of both ranks"
STUDY: dict[str, Scores] = {
    "all features, 100 × 256": forest(columns=ALL, samples=256),
    "all features, 100 × 1024": forest(columns=ALL, samples=1024),
    "ours, 100 × 256": forest(samples=256),
    "ours, 100 × 512": forest(samples=512),
    "ours, 100 × 2048": forest(samples=2048),
    "ours without merchants' known frauds, 100 × 512": forest(
        columns=tuple(at for at in COLUMNS if FEATURES[at] != "merchant_fraud_share")
    ),
    "ours, 200 × 512": forest(trees=200, samples=512),
}


def compare_detectors(
    seeds: Sequence[int] = SEEDS,
    events: int = EVENTS,
    customers: int = CUSTOMERS,
    draws: int = 100,
    starting: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Every detector in the world of each seed; means over worlds with 95 % intervals, ready for JSON.

    A draw takes customers with replacement in each world, and is the mean over the worlds.
    """
    results: dict[str, list[LabelledScores]] = {name: [] for name in (*DETECTORS, TOGETHER, *STUDY)}
    for seed in seeds:
        starting(f"detection in the world of seed {seed}")
        data = dataset(seed, events, customers)
        with threadpool_limits(1):  # threads that wait for one another crawl on a busy machine
            scores = {name: detect(data) for name, detect in (DETECTORS | STUDY).items()}
        scores[TOGETHER] = (ranks(scores[OURS]) + ranks(scores[BOOSTED])) / 2
        for name, score in scores.items():
            results[name].append(decided(data, score))
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "seeds": list(seeds),
        "transactions": [len(scored) for scored in results[OURS]],
        "frauds": [int(scored.fraud.sum()) for scored in results[OURS]],
        "alert_rate": ALERT_RATE,
        "k": K,
        "detectors": {name: measured(worlds, draws) for name, worlds in results.items()},
    }


def decided(dataset: Dataset, score: np.ndarray) -> LabelledScores:
    """The later rows with the decisions of the threshold that `ALERT_RATE` of them reach."""
    later = dataset.later
    return LabelledScores(
        dataset.user[later], dataset.seconds[later], dataset.amount[later], score,
        score >= threshold_at(score, ALERT_RATE), dataset.fraud[later], dataset.scenario[later],
    )  # fmt: skip


def measured(worlds: Sequence[LabelledScores], draws: int) -> dict[str, Any]:
    """Means over worlds: measures with intervals, precision and recall at k a day, recall by scenario."""
    rng = np.random.default_rng(0)
    rankings = [evaluation.Ranking(scored.fraud, scored.score) for scored in worlds]
    drawn = [evaluation.bootstrap_weights(scored.user, draws, rng) for scored in worlds]
    samples = [
        np.mean([_measures(*world) for world in zip(worlds, rankings, weights, strict=True)], axis=0)
        for weights in zip(*drawn, strict=True)
    ]
    by_world = np.array([_measures(*world, None) for world in zip(worlds, rankings, strict=True)])
    bounds = np.percentile(samples, (2.5, 97.5), axis=0).T if samples else [[]] * len(MEASURES)
    daily = [evaluation.at_k_per_day(scored, K) for scored in worlds]
    scenarios: dict[str, list[int]] = {}
    for scored in worlds:
        for name, counts in evaluation.per_scenario(scored).items():
            total = scenarios.setdefault(name, [0, 0])
            total[0] += counts["frauds"]
            total[1] += counts["caught"]
    return {
        **dict(zip(MEASURES, by_world.mean(axis=0).tolist(), strict=True)),
        "intervals": {name: list(map(float, pair)) for name, pair in zip(MEASURES, bounds, strict=True)},
        "average_precision_by_seed": by_world[:, 0].tolist(),
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
    yield (
        f"{result['date']}, worlds of the seeds {', '.join(map(str, result['seeds']))}: on "
        f"{sum(result['transactions']):,} later transactions with {sum(result['frauds']):,} frauds, means over worlds "
        f"with 95 % intervals over customers; precision and recall at {result['alert_rate']:.0%} alerts, and at "
        f"{result['k']} a day"
    )
    table = Table("Detector", "Average precision", "AUC", "Precision", "Recall", f"P at {result['k']}",
                  f"R at {result['k']}", "AP by seed")  # fmt: skip
    for name, measures in result["detectors"].items():
        table.add_row(
            name,
            *(_with_interval(measures, measure) for measure in MEASURES),
            f"{measures['precision_at_k']:.2f}",
            f"{measures['recall_at_k']:.2f}",
            " ".join(f"{value:.2f}" for value in measures["average_precision_by_seed"]),
        )
    yield table
    compared = [name for name in result["detectors"] if name not in STUDY]
    table = Table("Recall by scenario", "Frauds", *compared)
    for scenario, counts in result["detectors"][OURS]["scenarios"].items():
        recalls = [result["detectors"][name]["scenarios"][scenario]["recall"] for name in compared]
        table.add_row(scenario, f"{counts['frauds']:,}", *(f"{recall:.2f}" for recall in recalls))
    yield table


def _with_interval(measures: dict[str, Any], measure: str) -> str:
    low, high = measures["intervals"][measure]
    return f"{measures[measure]:.3f} ({low:.3f}–{high:.3f})"
