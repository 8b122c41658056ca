"""The gate: better on average precision and on money beyond noise, and clearly worse for no group."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from include.features.behaviour import FEATURES
from include.training import gate
from include.training.evaluation import LabelledScores
from tests.payments import detector

N = 6_000


@pytest.fixture
def scored() -> LabelledScores:
    """A champion that finds most frauds: 120 frauds of 120 customers, amounts from 10 to 200."""
    rng = np.random.default_rng(1)
    fraud = np.zeros(N, bool)
    fraud[:: N // 120] = True
    score = np.where(fraud, rng.uniform(0.3, 1.0, N), rng.uniform(0.0, 0.6, N))
    scenario = np.where(fraud, np.where(np.arange(N) % 100 == 0, "card_testing", "large_amount"), "").astype(
        object
    )
    return LabelledScores(
        user=np.arange(N) % 2_000, timestamp=np.arange(N, dtype=float), amount=rng.uniform(10, 200, N),
        score=score, alert=score > 0.55, fraud=fraud, scenario=scenario,
    )  # fmt: skip


def vectors(new: np.ndarray) -> np.ndarray:
    features = np.zeros((N, len(FEATURES)), np.float32)
    features[:, FEATURES.index("history")] = np.log1p(np.where(new, 2, 100))
    return features


def decided(scored: LabelledScores, score: np.ndarray) -> LabelledScores:
    return replace(scored, score=score, alert=score > 0.55)


def against(ours: LabelledScores, theirs: LabelledScores, new: np.ndarray | None = None) -> set[str]:
    groups = gate.groups_of(ours, vectors(np.arange(N) % 2 == 0 if new is None else new))
    checks = gate.compare(ours, theirs, groups, 0.1, np.random.default_rng(0))
    assert all(str(check).startswith("for: " if check.passed else "against: ") for check in checks)
    return {check.name for check in checks if not check.passed}


def test_a_clearly_better_model_has_no_reason_against_it(scored):
    better = decided(scored, np.where(scored.fraud, scored.score + 0.2, scored.score))
    assert against(better, scored) == set()
    assert {"average precision", "money"} <= against(scored, better)


def test_the_same_model_is_not_better_and_not_worse(scored):
    assert against(scored, scored) == {"average precision"}


def test_more_frauds_of_less_money_are_refused(scored):
    worth = scored.amount > 150
    score = np.where(scored.fraud, np.where(worth, 0.1, 0.99), scored.score * 0.8)
    assert "money" in against(decided(scored, score), scored)


def test_a_champion_that_alerts_on_everything_is_compared_at_the_same_number_of_alerts(scored):
    everything = replace(scored, alert=np.ones(N, bool))
    better = decided(scored, np.where(scored.fraud, scored.score + 0.2, scored.score))
    assert against(better, everything) == set()


def test_a_kind_of_fraud_that_is_lost_is_named(scored):
    lost = scored.scenario == "card_testing"
    score = np.where(scored.fraud, np.where(lost, 0.5, 0.99), scored.score * 0.5)
    assert "fraud card_testing" in against(decided(scored, score), scored)


def test_alerts_on_the_honest_of_one_group_are_named(scored):
    new = np.arange(N) % 2 == 0
    score = np.where(scored.fraud, scored.score + 0.3, np.where(new, scored.score + 0.1, scored.score - 0.1))
    refused = against(decided(scored, score), scored, new)
    assert "honest new customers" in refused and "honest known customers" not in refused


def test_a_model_that_is_too_large_or_too_slow_is_named(monkeypatch):
    scorer = detector()[0].scorer(threshold=0.5, version=1, feature_set=1)
    features = vectors(np.ones(N, bool))
    assert [check.passed for check in gate.bounds(scorer, features)] == [True, True]
    monkeypatch.setattr(gate, "MOST_BYTES", 10)
    monkeypatch.setattr(gate, "MOST_MICROSECONDS", 0.0)
    assert [check.passed for check in gate.bounds(scorer, features)] == [False, False]


def test_the_same_facts_have_the_same_hash_whatever_their_order():
    text, digest = gate.evidence({"b": 1, "a": {"d": 2, "c": None}})
    assert gate.evidence({"a": {"c": None, "d": 2}, "b": 1}) == (text, digest) and len(digest) == 64
    assert gate.evidence({"a": {"c": None, "d": 2}, "b": 2})[1] != digest
