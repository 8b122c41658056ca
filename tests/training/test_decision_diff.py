"""A candidate's decisions against stored ones, on a real shop and registry."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import timedelta
from uuid import uuid4

import numpy as np
import psycopg
import pytest
from mlflow import MlflowClient

from include.features.behaviour import FEATURE_SET, FEATURES
from include.models.isolation_forest import IsolationForestDetector
from include.registry import aliases, loading
from include.settings import PROJECT_ROOT
from include.training import decision_diff, stored_rows
from include.training.decision_diff import NothingToCompare, Offsets, Part, diff
from include.training.evaluation import label
from tests import registered, stored_world
from tests.conftest import EMPTY

pytestmark = pytest.mark.services
START = stored_world.END - timedelta(days=5)
THRESHOLD = 0.55


@pytest.fixture(scope="module")
def shop(postgres, mlflow_server, tmp_path_factory):
    """A stored world whose decisions version 1 made, which is champion; version 2 is its challenger."""
    with psycopg.connect(postgres.conninfo("owner"), autocommit=True) as connection:
        connection.execute(EMPTY)
    stored_world.fill(postgres, history_events=3_000, fraud_rate=0.05)
    settings = postgres.model_copy(
        update={"model_name": f"model-{uuid4().hex}", "home": tmp_path_factory.mktemp("diff")}
    )
    with psycopg.connect(settings.conninfo("owner")) as connection:
        vectors = decision_diff.recomputed_rows(
            connection, stored_world.END - timedelta(days=30), stored_world.END
        )
    for seed in (1, 2):
        detector = IsolationForestDetector(trees=20, seed=seed).fit(vectors.features)
        threshold = float(np.quantile(detector.score(vectors.features), 0.95))
        registered.register(settings, detector, threshold=threshold)
    aliases.set_champion(settings, 1)
    aliases.set_challenger(settings, 2)
    scorer = loading.load_scorer(settings, 1)
    stored_world.log_scores(settings, scorer.score, scorer.threshold, 1)
    return settings


def stored(shop, start=START, end=None) -> stored_rows.FeatureRows:
    end = end or stored_world.END + timedelta(days=1)
    with psycopg.connect(shop.conninfo("trainer")) as connection:
        return stored_rows.feature_rows(connection, start, end, feature_set=FEATURE_SET, width=len(FEATURES))


def test_a_model_against_itself_differs_nowhere(shop):
    result = diff(shop, 1, start=START, keep=False)
    total = result.total
    assert (total.gained, total.lost, result.gained, result.lost) == (0, 0, [], [])
    assert total.stored == total.candidate and total.stored.alerts > 10
    assert (result.money, result.net_money, result.vectors) == (0, 0, "logged")


def test_a_moved_threshold_is_what_counting_gives(shop):
    rows = stored(shop)
    with psycopg.connect(shop.conninfo("trainer")) as connection:
        labels = stored_rows.labels(connection, START, stored_world.END + timedelta(days=1), stored_world.END)
    truth = label(rows, labels)
    for quantile in (0.9, 0.98):
        threshold = float(np.quantile(rows.score, quantile))
        result = diff(shop, threshold=threshold, start=START, as_of=stored_world.END, keep=False)
        alert = rows.score >= threshold
        total = result.total
        assert (total.gained, total.lost) == ((alert & ~rows.alert).sum(), (rows.alert & ~alert).sum())
        assert total.gained + total.lost > 5 and result.version == 1
        changed = truth.amount[truth.fraud & alert].sum() - truth.amount[truth.fraud & rows.alert].sum()
        assert result.money == pytest.approx(changed)
        reviews = (int(alert.sum()) - int(rows.alert.sum())) * shop.review_cost
        assert result.net_money == pytest.approx(changed - reviews)


def test_parts_add_up_to_the_whole_and_examples_are_the_largest(shop):
    result = diff(shop, start=START, keep=False)  # the challenger
    assert result.version == 2 and result.stored_versions == [1] and result.total.gained > 10
    for parts in (result.per_day, result.per_scenario, result.per_group):
        whole = sum(parts.values(), Part())
        assert (whole.transactions, whole.frauds, whole.gained, whole.lost) == (
            result.total.transactions, result.total.frauds, result.total.gained, result.total.lost)  # fmt: skip
        assert whole.candidate.caught_amount == pytest.approx(result.total.candidate.caught_amount)
    assert len(result.per_group) >= 2 and "no known fraud" in result.per_scenario
    rows = stored(shop)
    score = loading.load_scorer(shop, 2).score(rows.features)
    gained = (score >= result.threshold) & ~rows.alert
    assert [e.amount for e in result.gained] == sorted(rows.amount[gained], reverse=True)[:10]
    assert all(e.stored_score < loading.load_scorer(shop, 1).threshold for e in result.gained)
    assert json.loads(json.dumps(result.described()))["hash"] == result.hash


def test_offsets_are_compared_whatever_their_time(shop):
    result = diff(shop, 2, offsets=[Offsets(0, 100, 180), Offsets(1, 5, 25)], keep=False)
    assert result.total.transactions == 100
    assert {e.partition for e in (*result.gained, *result.lost)} <= {0, 1}
    with pytest.raises(NothingToCompare, match="no event of these offsets is scored"):
        diff(shop, 2, offsets=[Offsets(0, 10**9, 10**9 + 1)])


def test_vectors_of_another_feature_set_are_recomputed(shop):
    logged = diff(shop, 2, start=START, keep=False)
    with psycopg.connect(shop.conninfo("owner"), autocommit=True) as connection:
        connection.execute("update shop.fraud_scores set feature_set = feature_set - 1 where partition = 0")
        try:
            recomputed = diff(shop, 2, start=START, keep=False)
        finally:
            connection.execute(
                "update shop.fraud_scores set feature_set = feature_set + 1 where partition = 0"
            )
    assert (recomputed.vectors, recomputed.hash) == ("recomputed", logged.hash)


KILLED = """
import os, signal
from include.settings import load
from include.training import decision_diff

finish, days = decision_diff._Progress.finish, []
def die(self, name, content):
    if len(days) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    days.append(name)
    return finish(self, name, content)

decision_diff._Progress.finish = die
decision_diff.diff(load(), 2)
"""


def test_a_diff_that_was_killed_goes_on_and_gives_the_same_hash(shop):
    whole = diff(shop, 2, keep=False)
    done = subprocess.run(
        [sys.executable, "-c", KILLED], cwd=PROJECT_ROOT, env=os.environ | shop.as_environment(),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    (folder,) = (shop.home / "diffs").iterdir()
    assert len(list(folder.glob("2*.json"))) == 2
    compared = []
    original = decision_diff._compared

    def counted(*given):
        compared.append(given)
        return original(*given)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(decision_diff, "_compared", counted)
        resumed = diff(shop, 2, keep=False)
    assert resumed.hash == whole.hash and len(compared) == len(whole.per_day) - 2
    assert list((shop.home / "diffs").iterdir()) == []


def test_the_result_is_kept_for_the_page_and_in_the_run_of_the_version(shop):
    result = diff(shop, 2, start=START)
    with psycopg.connect(shop.conninfo("app")) as connection:
        rows = connection.execute("select version, threshold, result from shop.decision_diffs").fetchall()
    assert rows == [(2, result.threshold, json.loads(json.dumps(result.described())))]
    run_id = aliases.challenger(shop).run_id
    client = MlflowClient(shop.mlflow_tracking_uri)
    path = client.download_artifacts(run_id, decision_diff.ARTIFACT)
    with open(path) as file:
        assert json.load(file)["hash"] == result.hash
    text = " ".join(decision_diff.sentences(result))
    assert f"{result.total.gained:,} alerts gained and {result.total.lost:,} lost" in text


def test_what_cannot_be_compared_is_said(shop):
    with pytest.raises(NothingToCompare, match="no decision is stored between"):
        diff(shop, 2, start=stored_world.END + timedelta(days=10), end=stored_world.END + timedelta(days=11))
