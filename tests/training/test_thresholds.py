"""Thresholds from capacity and money: against every possible choice, and on quiet and bad days."""

import numpy as np
import pytest

from include.training import thresholds
from include.training.evaluation import DAY, LabelledScores, days_of
from include.training.thresholds import FALLBACK_RATE, Choice, Limits, choose, threshold_at

LIMITS = Limits(alerts_per_day=100, review_cost=5, decline_cost=50)
DAYS = 10


def later(rows: int = 6_000, fraud_rate: float = 0.027, noise: float = 0.15, seed: int = 3) -> LabelledScores:
    """Decisions of ten days, with scores that separate fraud up to some noise, and many equal ones."""
    rng = np.random.default_rng(seed)
    fraud = rng.random(rows) < fraud_rate
    score = np.clip(np.round(0.2 + 0.5 * fraud + noise * rng.normal(size=rows), 3), 0, 1)
    amount = np.round(rng.lognormal(4, 1, rows), 2)
    none = np.zeros(rows, bool)
    at = np.sort(rng.random(rows) * DAYS * DAY)
    return LabelledScores(np.arange(rows), at, amount, score, none, fraud, np.full(rows, "", object))


def a_day(scored: LabelledScores) -> float:
    return len(scored) / DAYS


def money(scored: LabelledScores, alert: np.ndarray, limits: Limits) -> float:
    """What these alerts bring when the highest of each day are read, counted one day after another."""
    total = 0.0
    for day in np.unique(days_of(scored.timestamp)):
        rows = np.flatnonzero(alert & (days_of(scored.timestamp) == day))
        read = rows[np.argsort(-scored.score[rows], kind="stable")[: limits.alerts_per_day]]
        total += (scored.fraud[read] * scored.amount[read]).sum() - limits.review_cost * len(read)
    return total


@pytest.mark.parametrize("capacity", [7, 40, 100, 10_000])
@pytest.mark.parametrize("noise", [0.1, 0.3])
def test_no_other_threshold_within_the_capacity_brings_more(capacity, noise):
    limits = Limits(alerts_per_day=capacity, review_cost=5, decline_cost=1e6)  # nothing is declined
    scored = later(noise=noise)
    choice = choose(scored, a_day(scored), limits)
    brought = {}
    for threshold in np.unique(scored.score):
        alert = scored.score >= threshold
        if alert.sum() <= capacity * DAYS:
            brought[threshold] = money(scored, alert, limits)
    chosen = threshold_at(scored.score, choice.alert_share)
    assert choice.rule == "money" and choice.block_share == 0
    assert brought[chosen] == pytest.approx(max(brought.values()))
    assert choice.expected_money_a_day == pytest.approx(brought[chosen] / DAYS)
    assert choice.expected_alerts_a_day <= capacity
    assert choice.expected_alerts_a_day == pytest.approx((scored.score >= chosen).sum() / DAYS)


def test_where_a_fixed_share_of_one_percent_misses_most_of_the_fraud_money_finds_it():
    scored = later(noise=0.05)
    fixed, ours = (
        scored.score >= threshold_at(scored.score, share)
        for share in (0.01, choose(scored, a_day(scored), LIMITS).alert_share)
    )
    recall = [(alert & scored.fraud).sum() / scored.fraud.sum() for alert in (fixed, ours)]
    assert recall[0] < 0.45 and recall[1] > 0.95


def test_no_alert_is_raised_where_none_brings_anything():
    scored = later()
    worthless = LabelledScores(**vars(scored) | {"amount": np.full(len(scored), 0.5)})
    choice = choose(worthless, a_day(scored), LIMITS)
    assert (choice.rule, choice.alert_share, choice.expected_money_a_day) == ("money", 0, 0)
    assert not (scored.score >= threshold_at(scored.score, 0)).any()


def test_a_quiet_day_has_no_alert_and_others_have_theirs():
    scored = later(noise=0.05)
    threshold = threshold_at(scored.score, choose(scored, a_day(scored), LIMITS).alert_share)
    honest = scored.score[~scored.fraud]
    assert (honest >= threshold).mean() < 0.001 and threshold > honest.mean()


def test_with_too_few_frauds_capacity_alone_decides_up_to_a_share():
    few = later(fraud_rate=0.001)
    assert 0 < few.fraud.sum() < thresholds.FEWEST_FRAUDS
    small, large = (choose(few, a_day(few), Limits(capacity, 5, 50)) for capacity in (3, 10_000))
    assert (small.rule, small.expected_alerts_a_day, small.expected_money_a_day) == ("capacity", 3, None)
    assert large.alert_share == FALLBACK_RATE


def test_a_fixed_share_is_kept_and_its_money_is_told():
    scored = later()
    choice = choose(scored, a_day(scored), Limits(100, 5, 50, alert_rate=0.02))
    assert (choice.rule, choice.alert_share) == ("fixed share", 0.02)
    alert = scored.score >= threshold_at(scored.score, 0.02)
    assert choice.expected_money_a_day >= money(scored, alert, LIMITS) / DAYS * 0.9


def declining(scored: LabelledScores, block: np.ndarray) -> float:
    return (LIMITS.review_cost - ~scored.fraud[block] * LIMITS.decline_cost).sum()


def test_payments_are_declined_from_the_score_where_that_saves_most():
    scored = later(noise=0.12)
    choice = choose(scored, a_day(scored), LIMITS)
    block = scored.score >= threshold_at(scored.score, choice.block_share)
    saved = [declining(scored, scored.score >= threshold) for threshold in np.unique(scored.score)]
    assert 0 < choice.block_share < choice.alert_share
    assert declining(scored, block) == pytest.approx(max(saved)) and scored.fraud[block].mean() > 0.9


def test_nothing_is_declined_where_few_or_honest_payments_have_the_highest_scores():
    noisy = later(noise=0.5)
    assert choose(noisy, a_day(noisy), LIMITS).block_share == 0
    dear = Limits(alerts_per_day=100, review_cost=5, decline_cost=5_000)
    assert choose(later(noise=0.05), 600, dear).block_share == 0


def test_the_block_threshold_is_never_below_the_one_that_was_measured():
    score = np.linspace(0, 1, 101)
    assert thresholds.block_threshold_at(score, 0.1, least=0.95) == 0.95
    assert thresholds.block_threshold_at(score, 0.1, least=0.5) == pytest.approx(0.9)
    assert thresholds.block_threshold_at(score, 0, least=0.5) is None


def test_the_volume_is_that_of_the_newest_days_of_all_customers():
    steady = np.arange(0, 20 * DAY, DAY / 10)
    assert thresholds.transactions_a_day(steady, 20 * DAY) == pytest.approx(10, rel=0.11)
    busy = np.sort(np.append(steady, np.linspace(19.5 * DAY, 20 * DAY, 90)))
    assert thresholds.transactions_a_day(busy, 20 * DAY) == pytest.approx(100, rel=0.11)
    assert thresholds.transactions_a_day(busy, 20 * DAY, sampled=0.5) == pytest.approx(200, rel=0.11)
    hour = np.linspace(0, 3600, 50)
    assert thresholds.transactions_a_day(hour, 3600.0) == 50  # not 24 times as many: who knows


def test_a_choice_is_plain_json():
    described = choose(later(), 600, LIMITS).described()
    assert described.keys() == Choice.__dataclass_fields__.keys()
    assert {type(value) for value in described.values()} <= {str, int, float, type(None)}
