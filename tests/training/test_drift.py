"""Each cause by samples that are made for it; the whole with real features is in tests/bench/test_drift.py."""

from dataclasses import replace

import numpy as np
import pytest

from include.features.definitions import FEATURES
from include.training import drift
from include.training.drift import ASPECTS, Cause, Now, Reports, Sample, Usual, judge

AMOUNT, DEVICE, COUNTRY = (FEATURES.index(name) for name in ("amount", "new_device", "foreign"))
RATE = FEATURES.index("rate_1d")


def decide(vectors: np.ndarray) -> np.ndarray:
    """Alerts on large amounts, on new devices abroad and on many payments."""
    return (
        vectors[:, AMOUNT] + 2 * vectors[:, DEVICE] + 2 * vectors[:, COUNTRY] + 0.1 * vectors[:, RATE] > 2.3
    )


def sample(rows: int, days: float, seed: int = 0, **missing: float) -> Sample:
    features = np.random.default_rng(seed).normal(size=(rows, len(FEATURES))).astype(np.float32)
    features[:, [DEVICE, COUNTRY]] = features[:, [DEVICE, COUNTRY]] > 2
    return Sample(features, decide(features), {"device": 0.01} | missing, days)


def reports(count: int, days: float, delay: float = 4.0, caught: float = 0.8, gap: float = 1.0) -> Reports:
    rng = np.random.default_rng(count)
    return Reports(rng.lognormal(np.log(delay), 0.4, count), rng.random(count) < caught, days, gap)


def usual() -> Usual:
    weeks = sample(14_000, 28.0, seed=1)
    shares = np.array([day.mean() for day in np.array_split(weeks.alert, 28)])
    return Usual(weeks, reports(140, 28.0), shares)


def now(**changed: object) -> Now:
    events = {"events": {0: 60, 1: 60}, "expected": {0: 60.0, 1: 60.0}}
    samples = {
        "day": sample(500, 1.0, 2),
        "week": sample(3_500, 7.0, 3),
        "reports": reports(35, 7.0, gap=0.3),
    }
    return Now(**samples | events | changed)


def shifted(given: Sample, by: float, *features: str) -> Sample:
    vectors = given.features.copy()
    vectors[:, [FEATURES.index(name) for name in features]] += by
    return replace(given, features=vectors, alert=decide(vectors))


def test_the_distance_is_that_of_kolmogorov_and_smirnov():
    from scipy.stats import ks_2samp

    rng = np.random.default_rng(0)
    one, other = np.round(rng.normal(size=(300, 2)), 1), np.round(rng.normal(0.5, 1, (200, 2)), 1)
    expected = [ks_2samp(one[:, i], other[:, i]).statistic for i in range(2)]
    assert drift.distance(one, other) == pytest.approx(expected)


def test_values_as_usual_have_the_usual_distribution_and_their_own_order():
    rng = np.random.default_rng(0)
    values, before = rng.normal(5, 2, (200, 1)), rng.normal(0, 1, (5_000, 1))
    mapped = drift.as_usual(values, before)
    assert (np.argsort(mapped[:, 0]) == np.argsort(values[:, 0])).all()
    assert abs(mapped.mean()) < 0.1 and drift.distance(mapped, before)[0] < 0.02


def test_what_is_as_usual_has_no_cause():
    for seed in range(10):
        today = now(day=sample(500, 1.0, 10 + seed))
        assert judge(today, usual(), decide).cause is None


def test_one_field_that_lies_elsewhere_is_a_fault_of_that_field():
    amounts = [FEATURES[column] for column in ASPECTS["amounts"]]
    health = judge(now(day=shifted(sample(500, 1.0, 2), 3.0, *amounts)), usual(), decide)
    assert (health.cause, health.subject.partition(":")[0]) == (Cause.PIPELINE, "amount")
    before, after = (
        decide(given.features) for given in (sample(500, 1.0, 2), shifted(sample(500, 1.0, 2), 3.0, *amounts))
    )
    assert health.changed["amounts"] == pytest.approx((before != after).sum(), rel=0.15)


def test_a_field_that_is_missing_and_a_partition_that_is_dead_are_faults():
    without = judge(now(day=sample(500, 1.0, 2, device=0.6)), usual(), decide)
    assert (without.cause, "device is missing in 60%" in without.subject) == (Cause.PIPELINE, True)
    dead = judge(now(events={0: 60, 1: 0}), usual(), decide)
    assert (dead.cause, "partition 1" in dead.subject) == (Cause.PIPELINE, True)
    assert judge(now(events={0: 0, 1: 0}), usual(), decide).cause is None  # nothing comes: another alarm
    assert judge(now(events={0: 60, 1: 0}, expected={0: 60.0, 1: 5.0}), usual(), decide).cause is None


def test_several_aspects_together_are_other_customers():
    day = shifted(sample(500, 1.0, 2), 0.8, "amount", "new_device", "foreign")
    health = judge(now(day=day), usual(), decide)
    assert health.cause == Cause.POPULATION and {"amounts", "place"} <= health.changed.keys()


def test_a_slow_shift_is_seen_in_a_week():
    slow = shifted(sample(3_500, 7.0, 3), 0.5, "amount")
    assert (
        judge(now(day=shifted(sample(500, 1.0, 2), 0.5, "amount"), week=slow), usual(), decide).cause
        is not None
    )


def test_a_slow_shift_that_changes_no_decision_and_a_longer_history_are_nothing():
    slow = shifted(sample(3_500, 7.0, 3), 0.5, "distance")
    assert judge(now(week=slow), usual(), decide).cause is None
    older = judge(now(day=shifted(sample(500, 1.0, 2), 2.0, "history")), usual(), decide)
    assert older.cause is None and older.shift["history"] < 0.1
    newer = judge(now(day=shifted(sample(500, 1.0, 2), -2.0, "history")), usual(), decide)
    assert newer.cause == Cause.POPULATION


def test_many_payments_are_a_holiday():
    busy = shifted(sample(1_500, 1.0, 2), 2.0, "rate_1d", "rate_1h", "count_1d", "spend_1d")
    assert judge(now(day=busy), usual(), decide).cause is None


def test_more_alerts_of_a_busy_day_are_a_peak():
    rng = np.random.default_rng(0)
    for rows, cause in ((500, Cause.FRAUD), (700, None)):
        day = sample(rows, 1.0, 2)
        day = replace(day, alert=day.alert | (rng.random(rows) < 0.3))
        assert judge(now(day=day), usual(), decide).cause == cause


def test_the_hours_of_a_busy_day_say_nothing():
    for rows, cause in ((500, Cause.PIPELINE), (700, None)):
        day = shifted(sample(rows, 1.0, 2), 2.0, "hour")
        assert judge(now(day=day), usual(), decide).cause == cause


@pytest.mark.parametrize(
    ("newest", "words"),
    [
        (reports(30, 7.0, delay=8.0, gap=0.3), "instead of"),
        (reports(3, 7.0, gap=4.0), "no report of fraud for 4.0 days"),
    ],
)
def test_reports_that_are_late_or_missing_are_stalled(newest, words):
    health = judge(now(reports=newest), usual(), decide)
    assert health.cause == Cause.LABELS and words in health.subject


def test_more_alerts_of_usual_payments_and_less_fraud_found_are_other_fraud():
    day = sample(500, 1.0, 2)
    rng = np.random.default_rng(0)
    wave = replace(day, alert=day.alert | (rng.random(500) < 0.3))
    assert judge(now(day=wave), usual(), decide).cause == Cause.FRAUD
    just_begun = replace(day, alert=day.alert | (np.arange(500) > 400))
    assert judge(now(day=just_begun), usual(), decide).cause is None
    blind = judge(now(reports=reports(40, 7.0, caught=0.2, gap=0.3)), usual(), decide)
    assert blind.cause == Cause.FRAUD and "usually 8" in blind.subject


def test_with_too_few_payments_nothing_is_said():
    assert judge(now(day=sample(20, 1.0), week=sample(100, 7.0)), usual(), decide).cause is None
    empty = Usual(sample(0, 28.0), Reports(np.empty(0), np.empty(0, bool), 28.0, 28.0), np.empty(0))
    assert judge(now(), empty, decide).cause is None
