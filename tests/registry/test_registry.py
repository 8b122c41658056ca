"""The registry on a real MLflow server and PostgreSQL: what is registered, verified, refused and fallen back on."""

from __future__ import annotations

import functools
import os
import pickle
import socket
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from uuid import uuid4

import numpy as np
import psycopg
import pytest
import skops.io
from matplotlib.figure import Figure
from mlflow import MlflowClient

from include import registry
from include.features.behaviour import FEATURE_SET, FEATURES
from include.models.gradient_boosting import GradientBoostingDetector
from include.models.isolation_forest import IsolationForestDetector
from include.registry import ModelRejected, RegistryError, RegistryUnavailable
from include.settings import Settings
from tests.tampering import Malicious, bless, replace_artifact

pytestmark = pytest.mark.services

X = np.random.default_rng(0).normal(size=(400, len(FEATURES))).astype(np.float32)
Y = X[:, 0] > 1.5
METRICS = {
    "average_precision": 0.4,
    "auc": None,
    "intervals": {"average_precision": [0.3, 0.5]},
    "per_day": [{"day": "2026-03-01", "frauds": 2}, {"day": "2026-03-02", "frauds": 3}],
}


@pytest.fixture
def shop(clean_postgres: Settings, mlflow_server: Settings, tmp_path) -> Settings:
    """Empty tables, an empty registry (a model name of its own) and an empty home."""
    return clean_postgres.model_copy(update={"model_name": f"model-{uuid4().hex}", "home": tmp_path})


def register(settings: Settings, detector=None, **changed) -> registry.ModelVersion:
    given = {
        "threshold": 0.6,
        "metrics": METRICS,
        "params": {"trees": 10},
        "figures": {"scores": Figure()},
        "trained_from": datetime(2026, 3, 1, tzinfo=UTC),
        "trained_to": datetime(2026, 3, 20, tzinfo=UTC),
    }
    return registry.register(
        settings, detector or IsolationForestDetector(trees=10).fit(X), **given | changed
    )


def down(settings: Settings) -> Settings:
    return settings.model_copy(update={"mlflow_tracking_uri": "http://127.0.0.1:9"})


@pytest.mark.parametrize(
    "detector", [IsolationForestDetector(trees=10), GradientBoostingDetector(trees=5)], ids=lambda d: d.family
)
def test_a_registered_model_scores_like_the_one_that_was_trained(shop, detector):
    known = register(shop, detector.fit(X, Y))
    scorer = registry.load_scorer(shop, known.version)
    assert scorer.score(X) == pytest.approx(detector.score(X), abs=1e-5)
    assert (scorer.threshold, scorer.version, scorer.feature_set) == (0.6, known.version, FEATURE_SET)
    assert scorer.family == known.family == detector.family


def test_a_run_tells_what_was_trained_on_what_by_which_code(shop):
    known = register(shop)
    client = MlflowClient(shop.mlflow_tracking_uri)
    run = client.get_run(known.run_id)
    assert run.info.status == "FINISHED"
    assert client.get_experiment(run.info.experiment_id).name == shop.model_name
    assert run.data.params["trees"] == "10"
    assert run.data.params["trained_to"] == "2026-03-20T00:00:00+00:00"
    assert run.data.params["code_version"] == registry.code_version()
    assert run.data.metrics["average_precision"] == 0.4 and "auc" not in run.data.metrics
    assert run.data.metrics["intervals/average_precision/high"] == 0.5
    assert [(m.step, m.value) for m in client.get_metric_history(known.run_id, "daily/frauds")] == [
        (0, 2),
        (1, 3),
    ]
    assert [file.path for file in client.list_artifacts(known.run_id, "plots")] == ["plots/scores.png"]
    version = client.get_model_version(shop.model_name, str(known.version))
    assert version.tags["sha256"] == known.sha256
    import mlflow

    mlflow.set_tracking_uri(shop.mlflow_tracking_uri)
    signature = mlflow.models.get_model_info(version.source).signature
    assert tuple(signature.inputs.input_names()) == FEATURES


def test_the_hash_is_that_of_the_bytes_that_mlflow_gives_back(shop):
    known = register(shop)
    assert sha256(registry._bytes(shop, known)).hexdigest() == known.sha256


def test_aliases_are_set_by_the_caller_only_and_a_promoted_challenger_is_no_longer_one(shop):
    assert registry.champion(shop) is None
    first, second = register(shop), register(shop)
    assert registry.champion(shop) is None and registry.challenger(shop) is None
    registry.set_champion(shop, first.version)
    registry.set_challenger(shop, second.version)
    assert registry.champion(shop).version == first.version
    assert registry.challenger(shop) == replace(second, aliases=("challenger",))
    registry.set_champion(shop, second.version)
    assert [(known.version, known.aliases) for known in registry.versions(shop)] == [
        (second.version, ("champion",)),
        (first.version, ()),
    ]


def test_a_tampered_artifact_is_refused_before_it_is_read(shop, monkeypatch):
    known = register(shop)
    raw = bytearray(registry._bytes(shop, known))
    raw[len(raw) // 2] ^= 1
    replace_artifact(shop, known, bytes(raw))
    monkeypatch.setattr(skops.io, "loads", lambda *_, **__: pytest.fail("the bytes were deserialised"))
    with pytest.raises(ModelRejected, match="was changed"):
        registry.load_scorer(shop, known.version)
    with pytest.raises(ModelRejected):
        registry.set_champion(shop, known.version)
    assert registry.champion(shop) is None


@pytest.mark.parametrize("blessed", [False, True], ids=["hash differs", "hash fits"])
def test_a_malicious_pickle_never_runs(shop, tmp_path, blessed):
    marker = tmp_path / "marker"
    known = register(shop)
    raw = pickle.dumps(Malicious(marker))
    replace_artifact(shop, known, raw)
    if blessed:
        bless(shop, known.version, raw)
    with pytest.raises(ModelRejected, match="not a readable skops file" if blessed else "was changed"):
        registry.load_scorer(shop, known.version)
    assert not marker.exists()
    pickle.loads(raw)  # the weapon is loaded: this is what would have happened
    assert marker.exists()


def test_types_that_the_family_does_not_need_are_refused_even_with_the_right_hash(shop, tmp_path):
    known = register(shop)
    detector = IsolationForestDetector(trees=10).fit(X)
    detector.extra_ = functools.partial(os.mkdir, str(tmp_path / "marker"))
    raw = skops.io.dumps(detector)
    replace_artifact(shop, known, raw)
    bless(shop, known.version, raw)
    with pytest.raises(ModelRejected, match=r"does not need: .*mkdir"):
        registry.load_scorer(shop, known.version)


def test_another_object_or_family_or_feature_set_is_refused(shop):
    known = register(shop)
    other = skops.io.dumps({"not": "a detector"})
    replace_artifact(shop, known, other)
    bless(shop, known.version, other)
    with pytest.raises(ModelRejected, match="holds a dict"):
        registry.load_scorer(shop, known.version)
    narrow = register(shop, IsolationForestDetector(trees=2).fit(X[:, :3]))
    with pytest.raises(ModelRejected, match="takes 3 features"):
        registry.load_scorer(shop, narrow.version)
    with psycopg.connect(shop.conninfo("owner")) as connection:
        connection.execute(
            "update shop.models set feature_set = feature_set + 1 where version = %s", (known.version,)
        )
    with pytest.raises(ModelRejected, match=f"feature set {FEATURE_SET + 1}"):
        registry.load_scorer(shop, known.version)
    with psycopg.connect(shop.conninfo("owner")) as connection:
        connection.execute("update shop.models set feature_set = %s, family = 'other'", (FEATURE_SET,))
    with pytest.raises(ModelRejected, match="family 'other'"):
        registry.load_scorer(shop, known.version)


def test_a_version_that_training_did_not_register_is_refused(shop):
    with pytest.raises(ModelRejected, match="not in shop.models"):
        registry.load_scorer(shop, 7)


def test_a_registration_that_dies_half_way_leaves_the_champion_and_an_unusable_version(shop):
    first = register(shop)
    registry.set_champion(shop, first.version)
    with psycopg.connect(shop.conninfo("owner"), autocommit=True) as connection:
        connection.execute("revoke insert on shop.models from trainer")
        try:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                register(shop)
        finally:
            connection.execute("grant insert on shop.models to trainer")
    assert registry.champion(shop).version == first.version
    with pytest.raises(ModelRejected, match="not in shop.models"):
        registry.set_champion(shop, first.version + 1)
    assert registry.champion(shop).version == first.version


def test_a_second_mlflow_database_cannot_take_over_a_version_number(shop):
    known = register(shop)
    anew = shop.model_copy(update={"model_name": f"model-{uuid4().hex}"})
    with pytest.raises(RegistryError, match=f"already has a version {known.version}"):
        register(anew)
    assert registry.load_scorer(shop, known.version).version == known.version


def test_without_a_champion_there_is_nothing_to_score_with(shop):
    loaded = registry.load_champion(shop)
    assert loaded.scorer is None and "run a retraining first" in loaded.problem


def test_a_new_champion_is_picked_up_and_an_unchanged_one_is_kept(shop):
    first, second = register(shop), register(shop)
    registry.set_champion(shop, first.version)
    scorer = registry.load_champion(shop).scorer
    assert scorer.version == first.version
    assert registry.load_champion(shop, scorer).scorer is scorer
    registry.set_champion(shop, second.version)
    loaded = registry.load_champion(shop, scorer)
    assert loaded.scorer.version == second.version and loaded.problem is None
    assert [path.name for path in (shop.home / "champion").iterdir()] == [f"{second.version}.skops"]


def test_while_mlflow_is_down_a_restarted_stream_scores_with_the_last_good_champion(shop):
    known = register(shop)
    registry.set_champion(shop, known.version)
    assert registry.load_champion(down(shop)).scorer is None
    scorer = registry.load_champion(shop).scorer
    restarted = registry.load_champion(down(shop))
    assert restarted.scorer.score(X) == pytest.approx(scorer.score(X))
    assert f"goes on with version {known.version}" in restarted.problem
    running = registry.load_champion(down(shop), scorer)
    assert running.scorer is scorer and running.problem
    with pytest.raises(RegistryUnavailable):
        registry.champion(down(shop))
    with pytest.raises(RegistryUnavailable):
        register(down(shop))


def test_a_kept_champion_that_was_changed_is_refused_too(shop):
    known = register(shop)
    registry.set_champion(shop, known.version)
    registry.load_champion(shop)
    (shop.home / "champion" / f"{known.version}.skops").write_bytes(b"something else")
    assert registry.load_champion(down(shop)).scorer is None
    assert registry.load_champion(shop).scorer.version == known.version  # and comes again from MLflow


def test_a_champion_that_is_refused_leaves_the_last_good_one_scoring(shop):
    good, bad = register(shop), register(shop)
    registry.set_champion(shop, good.version)
    scorer = registry.load_champion(shop).scorer
    registry.set_champion(shop, bad.version)
    replace_artifact(shop, bad, b"PK tampered")
    for current in (scorer, None):
        loaded = registry.load_champion(shop, current)
        assert loaded.scorer.version == good.version
        assert "was changed" in loaded.problem


def test_a_refused_champion_is_not_fetched_again_until_something_changes(shop, monkeypatch):
    good, bad = register(shop), register(shop)
    registry.set_champion(shop, good.version)
    scorer = registry.load_champion(shop).scorer
    registry.set_champion(shop, bad.version)
    raw, wrong = registry._bytes(shop, bad), b"PK tampered"
    replace_artifact(shop, bad, wrong)
    fetched = []
    fetch = registry._bytes
    monkeypatch.setattr(registry, "_bytes", lambda *given: fetched.append(given[1].version) or fetch(*given))

    loaded = registry.load_champion(shop, scorer)
    assert (loaded.refused.version, loaded.refused.sha256) == (bad.version, bad.sha256)
    for _ in range(3):
        again = registry.load_champion(shop, scorer, refused=loaded.refused)
        assert again == loaded and "not fetched again" in again.problem
    away = registry.load_champion(down(shop), scorer, refused=loaded.refused)
    assert away.refused == loaded.refused and "not fetched" not in away.problem
    assert fetched == [bad.version]

    bless(shop, bad.version, wrong)
    other = registry.load_champion(shop, scorer, refused=loaded.refused)
    assert "not a readable skops file" in other.problem and fetched == [bad.version] * 2
    replace_artifact(shop, bad, raw)
    bless(shop, bad.version, raw)
    assert registry.load_champion(shop, scorer, refused=other.refused).scorer.version == bad.version
    registry.set_champion(shop, good.version)
    assert registry.load_champion(shop, None, refused=other.refused).scorer.version == good.version


def test_a_server_that_accepts_but_never_answers_counts_as_down(shop, monkeypatch):
    monkeypatch.setattr(registry, "TIMEOUT", registry.httpx.Timeout(0.2))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hanging = shop.model_copy(
            update={"mlflow_tracking_uri": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        )
        with pytest.raises(RegistryUnavailable, match="timed out"):
            registry.champion(hanging)
