"""Retraining from stored transactions to an alias, on a real MLflow server and PostgreSQL."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import uuid4

import numpy as np
import psycopg
import pytest
from mlflow import MlflowClient

from include.cli import training_report
from include.features.behaviour import FEATURES
from include.models import calibration, isolation_forest
from include.models.families import FAMILIES, UnknownFamily
from include.models.gradient_boosting import GradientBoostingDetector
from include.models.isolation_forest import IsolationForestDetector
from include.operations import parity_check
from include.registry import aliases, loading, registration
from include.registry.errors import RegistryUnavailable
from include.settings import PROJECT_ROOT
from include.training import gate, promotion, retraining, split
from include.training.evaluation import DRAWS, FULLY_LABELLED, LABEL_MATURITY, evaluate
from include.training.feature_differences import ParityBroken
from include.training.promotion import PromotionRefused
from include.training.retraining import RetrainingRuns, retrain
from include.training.split import NotEnoughData, read
from include.training.thresholds import FALLBACK_RATE, FEWEST_DECLINED, FEWEST_FRAUDS, threshold_at
from tests import stored_world

TREES = 30
FOREST = "isolation_forest"


def test_the_threshold_is_reached_by_the_share_of_alerts():
    score = np.random.default_rng(0).random(10_000)
    assert (score >= threshold_at(score, 0.01)).sum() == pytest.approx(100, abs=1)
    assert threshold_at(np.array([0.1, 0.5, 0.9]), 0.01) == 0.9


def test_the_documentation_names_the_limits_of_the_code():
    text = " ".join((PROJECT_ROOT / "docs" / "models.md").read_text().split())
    phrases = [
        f"first {1 - split.LATER_SHARE:.0%} of the settled".replace("%", " %"),
        f"at least {gate.BETTER_SHARE * 100:.0f} % of {DRAWS} bootstrap draws",
        f"fewer than {gate.MIN_DEFRAUDED} customers",
        f"less than {split.LOGGED_SHARE * 100:.0f} % of the window",
        f"Above {split.MAX_ROWS:,} transactions",
        f"It needs {split.MIN_FRAUDS} such frauds",
        f"from {split.MIN_FRAUDS} known frauds on",
        f"at least {isolation_forest.FEWEST_FRAUDS} frauds",
        f"fewer than {FEWEST_FRAUDS} known frauds",
        f"at most {FALLBACK_RATE * 100:.0f} % of the transactions",
        f"at least {FEWEST_DECLINED} such payments",
        f"{split.HELD_ALERTS} expected alerts",
        f"fewer than {calibration.FEWEST_FRAUDS} frauds in the later time",
        f"at least {LABEL_MATURITY.days} days",
        f"at least {FULLY_LABELLED * 100:.0f} % of the younger",
        f"fewer than {math.ceil(split.MIN_FIT / (1 - split.LATER_SHARE))} settled transactions",
        f"{(1 - split.UNMEASURED_SHARE) * 100:.0f} % of all transactions are fitted",
    ]
    assert [phrase for phrase in phrases if phrase not in text] == []
    features = (PROJECT_ROOT / "docs" / "features.md").read_text()
    assert f"Above {parity_check.MAX_ROWS:,} scores" in features


@pytest.fixture
def shop(clean_postgres, mlflow_server, tmp_path):
    """A stored world without a model; the registry is empty under a name of its own."""
    stored_world.fill(clean_postgres, history_events=4_000, fraud_rate=0.05)
    return clean_postgres.model_copy(update={"model_name": f"model-{uuid4().hex}", "home": tmp_path})


def make_champion(settings, detector, threshold: float = 0.5):
    """Registers a fitted detector and makes it champion, as if it had been trained long ago."""
    long_ago = stored_world.END - timedelta(days=40)
    known = registration.register(
        settings, detector, threshold=threshold, metrics={}, params={}, figures={},
        trained_from=long_ago - timedelta(days=30), trained_to=long_ago,
    )  # fmt: skip
    aliases.set_champion(settings, known.version)
    return known


@pytest.mark.services
def test_the_first_model_is_champion_and_its_twin_from_logged_vectors_is_challenger(shop):
    first = retrain(shop, family=FOREST, trees=TREES, alert_rate=0.02)
    assert (first.alias, first.reason, first.vectors) == ("champion", "the first model", "recomputed")
    known = aliases.champion(shop)
    assert (known.version, known.family) == (first.version, "isolation_forest")
    assert known.threshold == first.threshold
    assert known.metrics["average_precision"] == pytest.approx(first.metrics["average_precision"])
    assert known.trained_from < known.trained_to < stored_world.END - timedelta(days=3)
    assert first.metrics["frauds"] > 10 and 0.5 < first.metrics["auc"] <= 1
    assert json.loads(json.dumps(first.summary()))["version"] == first.version

    data = read(shop, window_days=30)
    scorer = loading.load_scorer(shop, first.version)
    held = data.rows.features[data.held_from(0.02) :]
    assert scorer.is_alert(scorer.score(held)).mean() == pytest.approx(0.02, abs=0.002)
    client = MlflowClient(shop.mlflow_tracking_uri)
    run = client.get_run(known.run_id)
    assert run.data.params["trees"] == str(TREES) and run.data.tags["decision"] == "champion: the first model"
    assert int(run.data.params["rows_fit"]) == first.rows["fit"]
    plots = {file.path for file in client.list_artifacts(known.run_id, "plots")}
    assert plots == {"plots/score_distribution.png", "plots/precision_recall.png", "plots/per_day.png"}
    assert len(client.get_metric_history(known.run_id, "daily/average_precision")) > 1

    stored_world.log_scores(shop, scorer.score, scorer.threshold, first.version)
    decided, rescored = evaluate(shop, draws=0), evaluate(shop, version=first.version, draws=0)
    assert decided == rescored and decided["versions"] == [first.version] and decided["alerts"] > 0
    assert "reliability" not in first.metrics  # a forest's scores are no probabilities
    twin = retrain(shop, family=FOREST, trees=TREES, alert_rate=0.02)
    assert f"measured by version {first.measured_by}, on the same" in twin.reason
    assert (twin.alias, twin.vectors) == ("challenger", "logged")
    assert "on the same" in twin.reason
    assert twin.metrics["average_precision"] == pytest.approx(first.metrics["average_precision"])
    assert twin.champion_metrics["transactions"] == twin.rows["later"]
    assert aliases.champion(shop).version == first.version
    assert aliases.challenger(shop).version == twin.version


@pytest.mark.services
def test_a_better_model_becomes_champion_and_a_worse_one_only_challenger(shop):
    data = read(shop, window_days=30)
    noise = np.random.default_rng(0).normal(size=(500, len(FEATURES)))
    blind = make_champion(shop, IsolationForestDetector(trees=2, samples=4).fit(noise))
    better = retrain(shop, family=FOREST, trees=TREES)
    assert better.alias == "champion" and f"version {blind.version}" in better.reason
    assert better.metrics["average_precision"] > better.champion_metrics["average_precision"]

    make_champion(shop, IsolationForestDetector(trees=2, samples=4).fit(noise))
    asked = shop.model_copy(update={"promotion_mode": "human"})
    waiting = retrain(asked, family=FOREST, trees=TREES)
    assert waiting.alias == "challenger" and aliases.challenger(shop).version == waiting.version
    assert f"a person decides: `fraudstream model promote {waiting.version}`" in waiting.reason

    rows = data.rows
    _, fraud, _ = data.labels.of(rows.key)
    seer = make_champion(shop, GradientBoostingDetector(trees=40).fit(rows.features, fraud))
    worse = retrain(shop, family=FOREST, trees=2)
    assert worse.alias == "challenger"
    assert worse.metrics["average_precision"] < worse.champion_metrics["average_precision"]
    assert aliases.champion(shop).version == seer.version
    assert aliases.challenger(shop).version == worse.version


@pytest.mark.services
def test_a_better_model_is_not_promoted_while_logged_features_differ(shop):
    noise = np.random.default_rng(0).normal(size=(500, len(FEATURES)))
    blind = make_champion(shop, IsolationForestDetector(trees=2, samples=4).fit(noise))
    stored_world.log_scores(shop, lambda X: np.zeros(len(X)), 0.5, blind.version)
    unchecked = retrain(shop, family=FOREST, trees=TREES)
    assert unchecked.alias == "challenger" and "no parity check has compared" in unchecked.reason

    altered = (
        'update shop.fraud_scores set features[2] = features[2] + %s where partition = 1 and "offset" = 500'
    )
    with psycopg.connect(shop.conninfo("owner"), autocommit=True) as connection:
        connection.execute(altered, [3])
        with pytest.raises(ParityBroken, match="amount_ratio in 1 rows, by up to 3 .partition 1, offset 500"):
            parity_check.require(parity_check.check(shop))
        refused = retrain(shop, family=FOREST, trees=TREES)
        assert refused.alias == "challenger" and refused.vectors == "logged"
        assert "average precision" in refused.reason and "amount_ratio in 1 rows" in refused.reason
        with pytest.raises(
            PromotionRefused, match="does not become champion: the parity check of .*amount_ratio"
        ):
            promotion.promote(shop, refused.version)
        promotion.promote(shop, refused.version, despite_parity=True)
        assert aliases.champion(shop).version == refused.version
        promotion.promote(shop, blind.version, despite_parity=True)
        assert aliases.champion(shop).version == blind.version

        connection.execute(altered, [-3])
        parity_check.require(parity_check.check(shop))
    assert retrain(shop, family=FOREST, trees=TREES).alias == "champion"


@pytest.mark.services
def test_without_enough_known_fraud_a_new_model_does_not_replace_the_champion(shop):
    first = retrain(shop, family=FOREST, trees=2)
    with psycopg.connect(shop.conninfo("owner")) as connection:
        connection.execute("truncate shop.fraud_transactions")
    second = retrain(shop, family=FOREST, trees=TREES)
    assert second.alias == "challenger"
    assert "not comparable" in second.reason and "0 customers with known fraud" in second.reason
    assert second.metrics == {"transactions": second.rows["later"], "decision_rule": second.decision_rule}
    assert second.decision_rule["rule"] == "capacity" and second.decision_rule["expected_money_a_day"] is None
    assert aliases.champion(shop).version == first.version


@pytest.mark.services
def test_a_champion_that_is_refused_is_replaced(shop):
    known = make_champion(shop, IsolationForestDetector(trees=2).fit(np.eye(len(FEATURES))))
    with psycopg.connect(shop.conninfo("owner")) as connection:
        connection.execute("update shop.models set sha256 = 'another'")
    result = retrain(shop, family=FOREST, trees=TREES)
    assert result.alias == "champion" and f"refused: version {known.version} was changed" in result.reason


@pytest.mark.services
def test_gradient_boosting_learns_from_the_labels_known_at_the_split(shop):
    result = retrain(shop, family="gradient_boosting", trees=20)
    assert (result.alias, result.family) == ("champion", "gradient_boosting")
    assert loading.load_scorer(shop, result.version).family == "gradient_boosting"
    with psycopg.connect(shop.conninfo("owner")) as connection:
        connection.execute("truncate shop.fraud_transactions")
    with pytest.raises(NotEnoughData, match="learns from labels"):
        retrain(shop, family="gradient_boosting")


@pytest.mark.services
def test_every_family_is_compared_and_the_best_is_fitted_again(shop):
    result = retrain(shop, trees=TREES, alert_rate=0.02)
    assert result.compared.keys() == FAMILIES.keys() and result.left_out == {}
    assert result.compared[result.family] == max(result.compared.values())
    assert result.metrics["average_precision"] == result.compared[result.family]
    known = {version.version: version for version in aliases.versions(shop)}
    measured, final = known[result.measured_by], known[result.version]
    assert (measured.family, measured.aliases) == (result.family, ())
    assert final.aliases == ("champion",) and final.sha256 != measured.sha256
    assert measured.trained_to == result.measured_from < result.trained_to == final.trained_to
    assert final.metrics == {**measured.metrics, "measured_by": measured.version}
    run = MlflowClient(shop.mlflow_tracking_uri).get_run(final.run_id)
    assert run.data.params["role"] == "the measured recipe, fitted again"
    assert all(f"{name} 0." in run.data.params["compared"] for name in FAMILIES)


@pytest.mark.services
def test_the_model_that_is_fitted_again_has_seen_later_labels_but_no_row_that_sets_its_threshold(shop):
    data = read(shop, window_days=30)
    X, y = data.to_refit(0.02)
    held = data.held_from(0.02)
    assert len(X) == held and data.parts.fit.stop < held <= data.parts.later.stop
    assert len(data.rows) - held >= split.HELD_ALERTS / 0.02
    assert (y >= 0).all() and y.sum() > (data.to_fit(supervised=False, maturity=None)[1] == 1).sum()
    assert data.held_from(0.0001) == data.parts.fit.stop  # too few rows: none is given away


@pytest.mark.services
def test_scores_of_a_labelled_family_are_probabilities(shop):
    result = retrain(shop, family="gradient_boosting")
    reliability = result.metrics["reliability"]
    assert reliability["transactions"] == pytest.approx(result.rows["later"] / 2, abs=1)
    assert reliability["frauds"] / 3 < reliability["expected"] < 3 * reliability["frauds"]  # of few frauds
    data = read(shop, window_days=30)
    measured = data.later(loading.load_scorer(shop, result.measured_by))
    assert measured.score.sum() == pytest.approx(measured.fraud.sum(), rel=0.02)
    run_id = aliases.champion(shop).run_id
    plots = MlflowClient(shop.mlflow_tracking_uri).list_artifacts(run_id, "plots")
    assert "plots/reliability.png" in {file.path for file in plots}


@pytest.mark.services
def test_the_registry_and_the_scorer_have_what_the_threshold_was_chosen_for(shop):
    result = retrain(shop, alerts_per_day=20)
    rule = result.decision_rule
    assert rule["rule"] == "money" and 0 < rule["expected_alerts_a_day"] <= 20 == rule["alerts_per_day"]
    assert rule["expected_money_a_day"] > 0
    for version in (result.measured_by, result.version):
        known = {model.version: model for model in aliases.versions(shop)}[version]
        assert known.capacity == 20 and known.metrics["decision_rule"] == rule
        scorer = loading.load_scorer(shop, version)
        assert (scorer.threshold, scorer.block_threshold, scorer.capacity) == (
            known.threshold, known.block_threshold, known.capacity)  # fmt: skip
    client = MlflowClient(shop.mlflow_tracking_uri)
    tags = client.get_model_version(shop.model_name, str(result.version)).tags
    assert (tags["rule"], tags["alerts_per_day"]) == ("money", "20")
    assert float(tags["expected_money_a_day"]) == pytest.approx(rule["expected_money_a_day"], rel=1e-5)
    run = client.get_run(aliases.champion(shop).run_id)
    assert run.data.metrics["decision_rule/expected_alerts_a_day"] == rule["expected_alerts_a_day"]
    assert any("the team can read 20" in line for line in training_report.lines(result))


@pytest.mark.services
def test_what_cannot_be_done_is_said_and_leaves_nothing_behind(shop):
    with pytest.raises(UnknownFamily, match="isolation_forest, gradient_boosting"):
        retrain(shop, family="oracle")
    with pytest.raises(NotEnoughData, match="use a longer window"):
        retrain(shop, as_of=stored_world.END - timedelta(days=20))
    down = shop.model_copy(update={"mlflow_tracking_uri": "http://127.0.0.1:9"})
    with pytest.raises(RegistryUnavailable):
        retrain(down)
    assert aliases.versions(shop) == []


@pytest.mark.services
def test_a_retraining_that_dies_before_promotion_leaves_the_old_champion(shop, monkeypatch):
    first = retrain(shop, family=FOREST, trees=2)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(promotion, "promote", interrupt)
        patched.setattr(aliases, "set_challenger", interrupt)
        retrain(shop, family=FOREST, trees=3)
    assert aliases.champion(shop).version == first.version
    assert aliases.challenger(shop) is None
    assert (
        retrain(shop, family=FOREST, trees=4, wait_seconds=1).version == first.version + 4
    )  # the lock is free again


def interrupt(*_, **__):
    raise KeyboardInterrupt


KILLED = """
import os, signal, sys
from include.registry import aliases, library
from include.training import retraining
from include.settings import load

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def with_alias(*arguments):
    set_alias(*arguments)
    die()

client, set_alias = library._client, aliases._point
def client_that_dies(settings):
    made = client(settings)
    made.set_terminated = die
    return made

if sys.argv[1] == "before shop.models":
    library._client = client_that_dies
else:
    aliases._point = die if sys.argv[1] == "before the alias" else with_alias
retraining.decide = lambda *_: retraining.Decision("champion", "it is better")
retraining.retrain(load(), family="isolation_forest", trees=3)
"""


@pytest.mark.services
def test_a_retraining_that_is_killed_leaves_the_old_champion_or_the_new_one(shop):
    """SIGKILL: nothing is caught and nothing is tidied up."""
    old = retrain(shop, family=FOREST, trees=2).version
    points = {
        "before shop.models": 1,
        "before the alias": 3,
        "after the alias": 5,
    }  # versions made until then
    for point, made in points.items():
        done = subprocess.run(
            [sys.executable, "-c", KILLED, point],
            cwd=PROJECT_ROOT,
            env=os.environ | shop.as_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
        champion = aliases.champion(shop).version
        assert champion == (old + made if point == "after the alias" else old)
        assert loading.load_scorer(shop, champion).version == champion
        assert aliases.challenger(shop) is None
    assert retrain(shop, family=FOREST, trees=4, wait_seconds=1).version == old + 7  # the lock is free again


@pytest.mark.services
def test_a_second_retraining_waits_for_the_first_or_says_that_it_runs(shop):
    with psycopg.connect(shop.conninfo("trainer")) as running:
        running.execute("select pg_advisory_lock(%s)", (retraining.LOCK,))
        with pytest.raises(RetrainingRuns, match="another retraining still runs"):
            retrain(shop, trees=2, wait_seconds=0.1)
    assert aliases.versions(shop) == []
    with ThreadPoolExecutor(2) as both:
        results = list(both.map(lambda trees: retrain(shop, family=FOREST, trees=trees), (2, 3)))
    assert sorted(result.version for result in results) == [2, 4]
    assert [result.reason for result in results].count("the first model") == 1
    promoted = [result.version for result in results if result.alias == "champion"]
    assert aliases.champion(shop).version == max(promoted)
