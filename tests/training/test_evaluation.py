"""Every measure against scikit-learn or a case that can be counted by hand; `evaluate` against a real shop."""

from datetime import UTC, datetime, timedelta

import numpy as np
import psycopg
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from include.cli.evaluation_report import tables
from include.training import evaluation
from include.training.evaluation import LabelledScores, NothingToEvaluate, Ranking, evaluate
from include.training.stored_rows import Labels
from tests import sample_data

DAY = 86_400.0


def scored(**columns) -> LabelledScores:
    """Decisions of one day and one customer each unless told otherwise."""
    n = len(columns["score"])
    defaults = {
        "user": np.arange(n),
        "timestamp": np.arange(n, dtype=float),
        "amount": np.full(n, 10.0),
        "alert": np.zeros(n, bool),
        "fraud": np.zeros(n, bool),
        "scenario": np.full(n, "", object),
    }
    given = {name: np.asarray(value) for name, value in columns.items()}
    return LabelledScores(**defaults | given)


def random_scores(n: int = 3_000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    fraud = rng.random(n) < 0.05
    return fraud, np.round(rng.random(n) + 0.3 * fraud, 2)  # rounded: many ties


def test_areas_agree_with_scikit_learn_with_ties_and_weights():
    fraud, score = random_scores()
    weight = np.random.default_rng(2).integers(0, 4, len(fraud))
    for given in (None, weight):
        auc, average_precision = Ranking(fraud, score).areas(given)
        assert auc == pytest.approx(roc_auc_score(fraud, score, sample_weight=given))
        assert average_precision == pytest.approx(average_precision_score(fraud, score, sample_weight=given))


def test_areas_without_a_class_are_not_defined():
    score = np.array([0.1, 0.2])
    assert np.isnan(Ranking(np.array([False, False]), score).areas()).all()
    auc, average_precision = Ranking(np.array([True, True]), score).areas()
    assert np.isnan(auc) and average_precision == 1
    assert np.isnan(Ranking(np.array([], bool), np.array([])).areas()).all()


def test_at_k_is_counted_within_each_day():
    day = np.array([0, 0, 0, 1, 1, 1]) * DAY
    fraud = [True, False, True, False, True, False]
    rows = scored(score=[0.9, 0.8, 0.1, 0.9, 0.8, 0.1], timestamp=day, fraud=fraud)
    # Day one: 1 of 2 investigated is fraud, 1 of 2 frauds found. Day two: 1 of 2, and 1 of 1.
    assert evaluation.at_k_per_day(rows, 2) == {"precision": 0.5, "recall": 0.75}
    assert evaluation.at_k_per_day(rows, 50) == {"precision": pytest.approx(0.5), "recall": 1.0}


def test_a_caught_customer_is_left_out_of_later_days():
    rows = scored(
        user=[1, 2, 1, 2, 3],
        timestamp=np.array([0, 0, 1, 1, 1]) * DAY,
        score=[0.9, 0.5, 0.99, 0.2, 0.6],
        fraud=[True, False, True, False, True],
    )
    # Day one investigates customer 1 (fraud). Day two must investigate 3, not 1 again.
    assert evaluation.customers_at_k_per_day(rows, 1) == {"precision": 1.0, "recall": 1.0}


def test_a_customer_counts_once_a_day_with_the_highest_score():
    rows = scored(
        user=[1, 1, 2], score=[0.2, 0.9, 0.5], fraud=[True, False, False], timestamp=np.array([0.0, 1.0, 2.0])
    )
    assert evaluation.customers_at_k_per_day(rows, 1) == {"precision": 1.0, "recall": 1.0}


def test_detection_and_money_are_split_at_the_first_fraud_with_an_alert():
    hours = 3600 * np.array([0, 2, 5, 1, 0])
    rows = scored(
        user=[1, 1, 1, 2, 3],
        timestamp=hours.astype(float),
        score=np.zeros(5),
        amount=[100.0, 30.0, 7.0, 50.0, 1.0],
        alert=[False, True, False, False, True],
        fraud=[True, True, True, True, False],
    )
    result = evaluation.detection(rows)
    assert result["detection"] == {"customers": 2, "detected": 1, "median_hours": 2.0, "mean_hours": 2.0}
    assert result["money"] == {
        "fraud": 187.0,
        "caught": 30.0,
        "lost_before_detection": 150.0,
        "stopped": 37.0,
    }


def test_recall_is_shown_for_each_scenario():
    rows = scored(
        score=np.zeros(4),
        fraud=[True, True, True, False],
        alert=[True, False, False, True],
        scenario=np.array(["takeover", "takeover", "", ""], object),
    )
    assert evaluation.per_scenario(rows) == {
        "takeover": {"frauds": 2, "caught": 1, "recall": 0.5},
        "unknown": {"frauds": 1, "caught": 0, "recall": 0.0},
    }


def test_the_daily_series_names_utc_days_and_leaves_undefined_measures_empty():
    rows = scored(
        score=[0.9, 0.1, 0.5],
        timestamp=np.array([0.0, 1.0, DAY]),
        alert=[True, False, False],
        fraud=[True, False, False],
    )
    first, second = evaluation.metrics(rows, draws=0, rng=np.random.default_rng(0))["per_day"]
    assert first["day"] == "1970-01-01" and first["precision"] == 1 and first["average_precision"] == 1
    assert second["day"] == "1970-01-02" and second["precision"] is None and second["recall"] is None


def test_intervals_hold_the_value_and_widen_when_few_customers_carry_the_rows():
    fraud, score = random_scores()
    rows = scored(score=score, fraud=fraud, alert=score > 0.9)
    auc = Ranking(fraud, score).areas()[0]
    low, high = evaluation.intervals(rows, 100, np.random.default_rng(0))["auc"]
    assert low < auc < high
    few = scored(score=score, fraud=fraud, alert=score > 0.9, user=np.arange(len(score)) // 300)
    narrow = evaluation.intervals(rows, 100, np.random.default_rng(0))["recall_at_threshold"]
    wide = evaluation.intervals(few, 100, np.random.default_rng(0))["recall_at_threshold"]
    assert len(narrow) == len(wide) == 2
    assert narrow != wide


def test_a_better_score_wins_nearly_every_draw_and_an_equal_one_none():
    fraud, score = random_scores()
    user, rng = np.arange(len(fraud)), np.random.default_rng(0)
    better = score + 0.2 * fraud
    assert evaluation.better_share(fraud, user, better, score, 50, rng) > 0.95
    assert evaluation.better_share(fraud, user, score, score, 50, rng) == 0


def known(*delays: float) -> Labels:
    """Labels of frauds that became known these days after the transaction."""
    n = len(delays)
    return Labels(np.arange(n), np.ones(n, bool), np.full(n, "", object), np.array(delays) * DAY)


def test_labels_are_settled_at_the_maturity_or_at_once_when_they_come_with_the_events():
    timestamp = np.arange(20) * DAY
    some, all_of_them = np.arange(20) % 5 == 0, np.ones(20, bool)
    week = timedelta(days=7)
    assert evaluation.settled_until(timestamp, known(), some, 20 * DAY, week) == 13 * DAY
    assert evaluation.settled_until(timestamp, known(), all_of_them, 20 * DAY, week) == 20 * DAY
    assert evaluation.settled_until(timestamp[:5], known(), all_of_them[:5], 20 * DAY, week) == 13 * DAY


def test_the_maturity_follows_the_labels_that_took_long():
    timestamp, none = np.arange(20) * DAY, np.zeros(20, bool)
    assert evaluation.settled_until(timestamp, known(), none, 20 * DAY) == 17 * DAY
    assert evaluation.settled_until(timestamp, known(0.1, 0.2, 0.3), none, 20 * DAY) == 17 * DAY
    assert evaluation.settled_until(timestamp, known(*[7.0] * 10), none, 20 * DAY) == 13 * DAY


@pytest.mark.services
def test_evaluate_measures_the_stored_decisions(clean_postgres):
    sample_data.fill(clean_postgres, transactions=3000, days=10)
    now = datetime.now(UTC)
    result = evaluate(clean_postgres, draws=20, maturity=timedelta(days=1))
    assert result["transactions"] + result["left_out"] == 3000
    assert result["versions"] == [1, 2]
    assert 0.5 < result["auc"] <= 1 and result["intervals"]["auc"][0] < result["auc"]
    assert set(result["per_scenario"]) <= {
        "account_takeover", "card_testing", "large_amount", "low_and_slow", "unknown"
    }  # fmt: skip
    half = evaluate(clean_postgres, now - timedelta(days=4), now - timedelta(days=2), draws=0)
    assert 0 < half["transactions"] < result["transactions"]
    assert half["intervals"] == {}


@pytest.mark.services
def test_evaluate_uses_only_labels_known_by_then(clean_postgres):
    sample_data.fill(clean_postgres, transactions=3000, days=10)
    now = datetime.now(UTC)
    week = {"start": now - timedelta(days=9), "end": now - timedelta(days=6), "draws": 0}
    later = evaluate(clean_postgres, **week)
    earlier = evaluate(clean_postgres, **week, as_of=week["end"], maturity=timedelta(0))
    assert 0 < earlier["frauds"] < later["frauds"]
    assert earlier["transactions"] == later["transactions"]


@pytest.mark.services
def test_labels_of_no_stored_event_are_counted(clean_postgres):
    """A label names its event by id and time: one of them wrong, and it is nobody's."""
    sample_data.fill(clean_postgres, transactions=3000, days=10)
    before = evaluate(clean_postgres, draws=0)
    assert before["labels_without_event"] == 0
    with psycopg.connect(clean_postgres.conninfo("owner")) as connection:
        connection.execute("""
            insert into shop.fraud_transactions (transaction_id, timestamp, is_fraud, known_at)
            (select transaction_id, timestamp + interval '1 second', true, timestamp + interval '1 hour'
             from shop.transactions where timestamp < now() - interval '5 days' limit 3)
            union all select 'nobody', now() - interval '5 days', true, now() - interval '4 days'
            union all select 'too late', now() - interval '5 days', true, now() + interval '1 day'""")
    after = evaluate(clean_postgres, draws=0)
    assert after == before | {"labels_without_event": 4}
    assert any("4 labels of this range are of no stored transaction" in str(line) for line in tables(after))


@pytest.mark.services
def test_an_event_that_lost_its_id_changes_nothing(clean_postgres):
    sample_data.fill(clean_postgres, transactions=3000, days=10)
    fixed = {"as_of": datetime.now(UTC), "maturity": timedelta(days=1), "draws": 0}
    before = evaluate(clean_postgres, **fixed)
    with psycopg.connect(clean_postgres.conninfo("owner")) as connection:
        sample_data.add_conflict(connection, "tx-0000100")
    after = evaluate(clean_postgres, **fixed)
    for name in ("transactions", "frauds", "alerts", "caught", "per_scenario"):
        assert after[name] == before[name] != 0, name


@pytest.mark.services
def test_evaluate_says_when_there_is_nothing_to_measure(clean_postgres):
    with pytest.raises(NothingToEvaluate, match="shop.transactions is empty"):
        evaluate(clean_postgres)
    sample_data.fill(clean_postgres, transactions=500, days=2)
    with pytest.raises(NothingToEvaluate, match="0 scores between"):
        evaluate(clean_postgres, datetime(2001, 1, 1, tzinfo=UTC), datetime(2001, 2, 1, tzinfo=UTC))
