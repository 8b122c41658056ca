"""What is verified, refused and fallen back on, on a real MLflow server and PostgreSQL."""

from __future__ import annotations

import functools
import os
import pickle

import psycopg
import pytest
import skops.io

from include.features.behaviour import FEATURE_SET
from include.models.gradient_boosting import GradientBoostingDetector
from include.models.isolation_forest import IsolationForestDetector
from include.registry import aliases, loading
from include.registry.errors import ModelRejected, RegistryUnavailable
from tests.registered import X, Y, down, register
from tests.tampering import Malicious, bless, replace_artifact

pytestmark = pytest.mark.services


@pytest.mark.parametrize(
    "detector", [IsolationForestDetector(trees=10), GradientBoostingDetector(trees=5)], ids=lambda d: d.family
)
def test_a_registered_model_scores_like_the_one_that_was_trained(shop, detector):
    known = register(shop, detector.fit(X, Y))
    scorer = loading.load_scorer(shop, known.version)
    assert scorer.score(X) == pytest.approx(detector.score(X), abs=1e-5)
    assert (scorer.threshold, scorer.version, scorer.feature_set) == (0.6, known.version, FEATURE_SET)
    assert scorer.family == known.family == detector.family


def test_a_tampered_artifact_is_refused_before_it_is_read(shop, monkeypatch):
    known = register(shop)
    raw = bytearray(loading.model_bytes(shop, known))
    raw[len(raw) // 2] ^= 1
    replace_artifact(shop, known, bytes(raw))
    monkeypatch.setattr(skops.io, "loads", lambda *_, **__: pytest.fail("the bytes were deserialised"))
    with pytest.raises(ModelRejected, match="was changed"):
        loading.load_scorer(shop, known.version)
    with pytest.raises(ModelRejected):
        aliases.set_champion(shop, known.version)
    assert aliases.champion(shop) is None


@pytest.mark.parametrize("blessed", [False, True], ids=["hash differs", "hash fits"])
def test_a_malicious_pickle_never_runs(shop, tmp_path, blessed):
    marker = tmp_path / "marker"
    known = register(shop)
    raw = pickle.dumps(Malicious(marker))
    replace_artifact(shop, known, raw)
    if blessed:
        bless(shop, known.version, raw)
    with pytest.raises(ModelRejected, match="not a readable skops file" if blessed else "was changed"):
        loading.load_scorer(shop, known.version)
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
        loading.load_scorer(shop, known.version)


def test_another_object_or_family_or_feature_set_is_refused(shop):
    known = register(shop)
    other = skops.io.dumps({"not": "a detector"})
    replace_artifact(shop, known, other)
    bless(shop, known.version, other)
    with pytest.raises(ModelRejected, match="holds a dict"):
        loading.load_scorer(shop, known.version)
    narrow = register(shop, IsolationForestDetector(trees=2).fit(X[:, :3]))
    with pytest.raises(ModelRejected, match="takes 3 features"):
        loading.load_scorer(shop, narrow.version)
    with psycopg.connect(shop.conninfo("owner")) as connection:
        connection.execute(
            "update shop.models set feature_set = feature_set + 1 where version = %s", (known.version,)
        )
    with pytest.raises(ModelRejected, match=f"feature set {FEATURE_SET + 1}"):
        loading.load_scorer(shop, known.version)
    with psycopg.connect(shop.conninfo("owner")) as connection:
        connection.execute("update shop.models set feature_set = %s, family = 'other'", (FEATURE_SET,))
    with pytest.raises(ModelRejected, match="family 'other'"):
        loading.load_scorer(shop, known.version)


def test_a_version_that_training_did_not_register_is_refused(shop):
    with pytest.raises(ModelRejected, match="not in shop.models"):
        loading.load_scorer(shop, 7)


def test_without_a_champion_there_is_nothing_to_score_with(shop):
    loaded = loading.load_champion(shop)
    assert loaded.scorer is None and "run a retraining first" in loaded.problem


def test_a_new_champion_is_picked_up_and_an_unchanged_one_is_kept(shop):
    first, second = register(shop), register(shop)
    aliases.set_champion(shop, first.version)
    scorer = loading.load_champion(shop).scorer
    assert scorer.version == first.version
    assert loading.load_champion(shop, scorer).scorer is scorer
    aliases.set_champion(shop, second.version)
    loaded = loading.load_champion(shop, scorer)
    assert loaded.scorer.version == second.version and loaded.problem is None
    assert [path.name for path in (shop.home / "champion").iterdir()] == [f"{second.version}.skops"]


def test_while_mlflow_is_down_a_restarted_stream_scores_with_the_last_good_champion(shop):
    known = register(shop)
    aliases.set_champion(shop, known.version)
    assert loading.load_champion(down(shop)).scorer is None
    scorer = loading.load_champion(shop).scorer
    restarted = loading.load_champion(down(shop))
    assert restarted.scorer.score(X) == pytest.approx(scorer.score(X))
    assert f"goes on with version {known.version}" in restarted.problem
    running = loading.load_champion(down(shop), scorer)
    assert running.scorer is scorer and running.problem
    with pytest.raises(RegistryUnavailable):
        aliases.champion(down(shop))
    with pytest.raises(RegistryUnavailable):
        register(down(shop))


def test_a_kept_champion_that_was_changed_is_refused_too(shop):
    known = register(shop)
    aliases.set_champion(shop, known.version)
    loading.load_champion(shop)
    (shop.home / "champion" / f"{known.version}.skops").write_bytes(b"something else")
    assert loading.load_champion(down(shop)).scorer is None
    assert loading.load_champion(shop).scorer.version == known.version  # and comes again from MLflow


def test_a_champion_that_is_refused_leaves_the_last_good_one_scoring(shop):
    good, bad = register(shop), register(shop)
    aliases.set_champion(shop, good.version)
    scorer = loading.load_champion(shop).scorer
    aliases.set_champion(shop, bad.version)
    replace_artifact(shop, bad, b"PK tampered")
    for current in (scorer, None):
        loaded = loading.load_champion(shop, current)
        assert loaded.scorer.version == good.version
        assert "was changed" in loaded.problem


def test_a_refused_champion_is_not_fetched_again_until_something_changes(shop, monkeypatch):
    good, bad = register(shop), register(shop)
    aliases.set_champion(shop, good.version)
    scorer = loading.load_champion(shop).scorer
    aliases.set_champion(shop, bad.version)
    raw, wrong = loading.model_bytes(shop, bad), b"PK tampered"
    replace_artifact(shop, bad, wrong)
    fetched = []
    fetch = loading.model_bytes
    monkeypatch.setattr(
        loading, "model_bytes", lambda *given: fetched.append(given[1].version) or fetch(*given)
    )

    loaded = loading.load_champion(shop, scorer)
    assert (loaded.refused.version, loaded.refused.sha256) == (bad.version, bad.sha256)
    for _ in range(3):
        again = loading.load_champion(shop, scorer, refused=loaded.refused)
        assert again == loaded and "not fetched again" in again.problem
    away = loading.load_champion(down(shop), scorer, refused=loaded.refused)
    assert away.refused == loaded.refused and "not fetched" not in away.problem
    assert fetched == [bad.version]

    bless(shop, bad.version, wrong)
    other = loading.load_champion(shop, scorer, refused=loaded.refused)
    assert "not a readable skops file" in other.problem and fetched == [bad.version] * 2
    replace_artifact(shop, bad, raw)
    bless(shop, bad.version, raw)
    assert loading.load_champion(shop, scorer, refused=other.refused).scorer.version == bad.version
    aliases.set_champion(shop, good.version)
    assert loading.load_champion(shop, None, refused=other.refused).scorer.version == good.version


def test_an_address_that_cannot_be_asked_counts_as_unavailable(shop):
    """httpx.InvalidURL is none of httpx.HTTPError."""
    nowhere = shop.model_copy(update={"mlflow_tracking_uri": "http://[broken"})
    assert loading.load_champion(nowhere).scorer is None
    with pytest.raises(RegistryUnavailable, match="broken"):
        aliases.champion(nowhere)
    with pytest.raises(RegistryUnavailable, match="broken"):
        loading.load_scorer(nowhere, register(shop).version)


def test_a_detector_that_was_never_fitted_is_refused(shop):
    known = register(shop)
    raw = skops.io.dumps(IsolationForestDetector())
    replace_artifact(shop, known, raw)
    bless(shop, known.version, raw)
    with pytest.raises(ModelRejected, match="takes 0 features"):
        loading.load_scorer(shop, known.version)
    hollow = IsolationForestDetector()
    hollow.n_features_in_ = X.shape[1]
    raw = skops.io.dumps(hollow)
    replace_artifact(shop, known, raw)
    bless(shop, known.version, raw)
    with pytest.raises(ModelRejected, match="unusable isolation_forest: .*has no attribute"):
        loading.load_scorer(shop, known.version)


def test_a_kept_champion_that_cannot_be_read_comes_from_mlflow(shop):
    known = register(shop)
    aliases.set_champion(shop, known.version)
    kept = shop.home / "champion" / f"{known.version}.skops"
    kept.mkdir(parents=True)  # reading it is an OSError, also for root
    assert loading.load_champion(shop).scorer.version == known.version
    assert "no earlier champion" in loading.load_champion(down(shop)).problem


def test_a_foreign_file_beside_the_kept_champion_is_passed_over(shop):
    known = register(shop)
    aliases.set_champion(shop, known.version)
    loading.load_champion(shop)
    (shop.home / "champion" / "copy of mine.skops").write_bytes(b"")
    assert loading.load_champion(down(shop)).scorer.version == known.version
