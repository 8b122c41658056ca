"""Detectors learn from earlier time and from what was known then, and are measured on later time."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from click.testing import CliRunner

from include.bench import detection
from include.bench.worlds import WORLDS, bank, mobile_money, own
from include.bench.worlds.history import DAY, History, Labels
from include.cli import main
from include.features.definitions import EXTRA_FEATURES, FEATURES
from include.features.entities import KINDS, Coded, coded
from include.models.isolation_forest import IsolationForestDetector
from include.training import stored_rows
from include.training.evaluation import Ranking, better_share
from tests.builders import transaction


@pytest.fixture(scope="module")
def small():
    return detection.dataset("own", own.simulate(3, 6_000, customers=100, days=30))


def test_a_world_has_its_truth_and_only_labels_known_at_the_split(small):
    n = len(small.user)
    assert small.vectors.shape == (n, len(FEATURES)) and np.isfinite(small.vectors).all()
    assert (np.diff(small.seconds) >= 0).all() and len(np.unique(small.user)) <= 100
    assert small.fraud.mean() == pytest.approx(0.01, abs=0.006)
    assert set(small.scenario[~small.fraud]) == {""} and "" not in set(small.scenario[small.fraud])
    assert (small.known[small.fit] == 1).any() and (small.known[small.later] == -1).all()
    assert (small.vectors[:, FEATURES.index("merchant_frauds_30d")] > 0).any()


def test_raw_fields_are_numbers_without_people():
    history = mobile_money.simulate(1, 3_000)
    raw = detection.raw_fields(history)
    assert raw.shape == (len(history), 8)  # amount, hour, weekday, two balances, receiver, kind, currency
    assert np.isnan(raw).any() and (raw[:, 1] < 24).all() and np.ptp(raw[:, -1]) == 0


def history(labels: Labels) -> History:
    merchants = np.array(["shop", "shop", None], object)
    return History(np.array([1, 1, 1]) * DAY, {"merchant_id": merchants}, {}, {}, np.array([""] * 3), labels)


def test_the_newest_label_that_is_known_at_the_split_counts():
    labels = Labels(np.array([1, 1, 2, 0]), np.array([True, False, True, True]), np.array([3, 5, 4, 9]) * DAY)
    known = detection._known_at(history(labels), 6 * DAY / 1e6)
    labelled, fraud, _ = known.of(np.arange(3))
    assert labelled.tolist() == [False, True, True] and fraud.tolist() == [False, False, True]
    assert known.delay.tolist() == [4 * 86_400, 3 * 86_400]


def test_a_correction_takes_a_known_fraud_back():
    labels = Labels(np.array([1, 1, 2]), np.array([True, False, True]), np.array([3, 5, 4]) * DAY)
    fields = [{"merchant_id": "m"}, {"merchant_id": "m"}, {"merchant_id": None}]
    known = detection.known_frauds(labels, [transaction(**given) for given in fields])
    days = np.array([3, 4, 5, 6]) * DAY
    counts = known.counts({"shop": Coded([""], np.zeros(4, int)), "merchant": coded(["m"] * 4)}, days)
    assert counts[:, [KINDS.index(kind) for kind in ("shop", "merchant")], -1].tolist() == [
        [0, 0],
        [1, 1],
        [2, 1],
        [1, 0],
    ]


def test_measures_are_means_over_seeds_with_intervals(small):
    rng = np.random.default_rng(0)
    truth = small.fraud[small.later]
    perfect = detection.decided(small, truth + rng.random(len(truth)) / 2)
    blind = detection.decided(small, rng.random(len(truth)))
    result = detection.measured([perfect, blind], draws=20)
    apart = [Ranking(scored.fraud, scored.score).areas()[1] for scored in (perfect, blind)]
    assert apart[0] == 1 > apart[1]
    assert result["average_precision"] == pytest.approx(np.mean(apart))
    low, high = result["intervals"]["average_precision"]
    assert low <= result["average_precision"] <= high
    assert sum(scenario["frauds"] for scenario in result["scenarios"].values()) == 2 * truth.sum()
    best = detection.measured([perfect], draws=0)
    assert best["auc"] == 1 and best["precision"] == pytest.approx(1, abs=0.5)


def test_the_command_compares_every_detector_in_every_world(monkeypatch):
    makers = {"own": partial(own.simulate, payments=6_000, customers=100, days=30),
              "bank": partial(bank.simulate, payments=6_000)}  # fmt: skip
    whole = detection.compare_detectors
    monkeypatch.setattr(
        detection,
        "compare_detectors",
        lambda **given: whole(makers, seeds=(3,), draws=2, processes=1, **given),
    )
    result = CliRunner().invoke(main.cli, ["bench", "detection", "--json"])
    result = json.loads(result.stdout)
    assert result["worlds"].keys() == makers.keys()
    for values in result["worlds"].values():
        detectors = values["detectors"]
        assert tuple(detectors) == (*detection.COLUMNS, detection.MEASURED, detection.WITHOUT)
        assert all(0 <= measures["recall_at_k"] <= 1 for measures in detectors.values())
    ours, plain = (
        detectors[name]["average_precision"] for name in (detection.FOREST, detection.PLAIN_FOREST)
    )
    assert ours > plain
    shown = list(detection.tables(result))
    assert "seeds 3" in shown[0] and len(shown) == 6
    assert {cell for cell in shown[-1].columns[0].cells} >= {"theft", "card_testing"}


@pytest.mark.parametrize("world", sorted(WORLDS))
def test_the_forest_is_not_worse_than_its_best_feature(world):
    """In every world, beyond noise, though the feature is chosen by the truth of the later time."""
    data = detection.dataset(world, WORLDS[world](5, 60_000))
    later, truth = data.vectors[data.later], data.fraud[data.later]
    forest = IsolationForestDetector(seed=1).fit(data.vectors[data.fit], data.known[data.fit])
    features = [side * column for column in later.T for side in (1, -1)]
    best = max(features, key=lambda feature: Ranking(truth, feature).areas()[1])
    rng = np.random.default_rng(0)
    share = better_share(truth, data.user[data.later], best, forest.score(later), 100, rng)
    assert share < 0.95


def test_the_champion_is_made_as_a_training_at_the_split_makes_it(small):
    """With few labels it is the forest; the one that is fitted again has learned from more rows."""
    none = stored_rows.Labels(np.array([], int), np.array([], bool), np.array([], object), np.array([]))
    few = replace(small, training=replace(small.training, labels=none, labels_at_split=none))
    assert detection.champion(few).again.family == "isolation_forest"
    data = small.training
    assert len(data.rows) == small.fit.stop - small.fit.start and data.measured
    assert data.as_of.timestamp() == pytest.approx(small.seconds[small.later][0], abs=1e-3)
    chosen = detection.champion(small)
    assert chosen.again.family == chosen.measured.family and chosen.again is not chosen.measured


def test_a_shop_without_fields_of_its_own_is_compared_with_one_that_names_them(small):
    assert small.without_own_fields() is None
    made = detection.dataset("mobile money", mobile_money.simulate(1, 4_000))
    bare = made.without_own_fields()
    own = [FEATURES.index(name) for name in EXTRA_FEATURES]
    assert made.vectors[:, own].any() and made.training.rows.features[:, own].any()
    assert not bare.vectors[:, own].any() and not bare.training.rows.features[:, own].any()
    np.testing.assert_array_equal(np.delete(bare.vectors, own, 1), np.delete(made.vectors, own, 1))


def test_another_process_measures_the_same():
    makers = {"bank": partial(bank.simulate, payments=3_000)}
    apart, together = (
        detection.compare_detectors(makers, seeds=(3,), draws=0, processes=processes) for processes in (2, 1)
    )
    assert apart["worlds"] == together["worlds"]
