"""Detectors learn from earlier time and from what was known then, and are measured on later time."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

from include.bench import detection
from include.cli import main
from include.features.behaviour import FEATURES
from include.generator.batch import LABELS
from include.training.evaluation import Ranking


@pytest.fixture(scope="module")
def small():
    return detection.dataset(seed=3, events=6_000, customers=100, days=30)


def test_a_world_is_in_order_with_its_truth_and_only_labels_known_at_the_split(small):
    n = len(small.user)
    assert small.vectors.shape == (n, len(FEATURES)) and np.isfinite(small.vectors).all()
    assert (np.diff(small.seconds) >= 0).all() and len(np.unique(small.user)) <= 100
    assert small.fraud.mean() == pytest.approx(0.01, abs=0.006)
    assert set(small.scenario[~small.fraud]) == {""} and "" not in set(small.scenario[small.fraud])
    assert small.known_fraud[small.fit].sum() > 0 and small.known_fraud[small.later].sum() == 0
    assert small.settled[: small.fit.stop].any() and not small.settled[small.later].any()
    assert (small.vectors[:, FEATURES.index("merchant_frauds")] > 0).any()
    again = detection.dataset(seed=3, events=6_000, customers=100, days=30)
    assert np.array_equal(again.vectors, small.vectors) and np.array_equal(again.fraud, small.fraud)


def test_the_newest_label_that_is_known_at_the_split_counts():
    def at(day: int) -> datetime:
        return datetime(2026, 1, day, tzinfo=UTC)

    rows = [("b", True, 3), ("b", False, 5), ("c", True, 4), ("a", True, 9)]
    labels = pa.Table.from_pylist(
        [
            {
                "transaction_id": name,
                "user_id": "u",
                "timestamp": at(1),
                "is_fraud": fraud,
                "known_at": at(day),
            }
            for name, fraud, day in rows
        ],
        schema=LABELS,
    )
    known = detection._labels_at(labels, pa.chunked_array([["a", "b", "c"]]), at(6).timestamp())
    labelled, fraud, _ = known.of(np.arange(3))
    assert labelled.tolist() == [False, True, True] and fraud.tolist() == [False, False, True]
    assert known.delay.tolist() == [4 * 86_400, 3 * 86_400]


def test_measures_are_means_over_worlds_with_intervals(small):
    rng = np.random.default_rng(0)
    truth = small.fraud[small.later]
    perfect = detection.decided(small, truth + rng.random(len(truth)) / 2)
    blind = detection.decided(small, rng.random(len(truth)))
    found = detection.measured([perfect, blind], draws=20)
    each = [Ranking(scored.fraud, scored.score).areas()[1] for scored in (perfect, blind)]
    assert each[0] == 1 > each[1]
    assert found["average_precision"] == pytest.approx(np.mean(each))
    low, high = found["intervals"]["average_precision"]
    assert low <= found["average_precision"] <= high
    assert sum(scenario["frauds"] for scenario in found["scenarios"].values()) == 2 * truth.sum()
    best = detection.measured([perfect], draws=0)
    assert best["auc"] == 1 and best["precision"] == pytest.approx(1, abs=0.5)


def test_ranks_go_from_zero_to_one():
    assert detection.ranks(np.array([0.3, 0.9, 0.1])).tolist() == [0.5, 1.0, 0.0]


def test_the_command_compares_every_detector(monkeypatch):
    whole = detection.compare_detectors
    monkeypatch.setattr(
        detection,
        "compare_detectors",
        lambda **given: whole(seeds=(3,), events=6_000, customers=100, draws=2, **given),
    )
    result = CliRunner().invoke(main.cli, ["bench", "detection", "--json"])
    found = json.loads(result.stdout)
    assert found["detectors"].keys() == {*detection.DETECTORS, detection.TOGETHER, *detection.STUDY}
    ours, first = (found["detectors"][name] for name in (detection.OURS, list(detection.DETECTORS)[1]))
    assert ours["average_precision"] > first["average_precision"]
    assert all(0 <= each["recall_at_k"] <= 1 for each in found["detectors"].values())
    printed = "\n".join(map(str, [next(iter(detection.tables(found)))]))
    assert "worlds of the seeds 3" in printed and len(list(detection.tables(found))) == 3
