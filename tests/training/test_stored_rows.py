"""Binary reading of stored rows against plain SQL, and labels as they were known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import psycopg
import pytest

from include.features.behaviour import FEATURE_SET, FEATURES
from include.training import stored_rows
from include.training.stored_rows import Labels, UnreadableRows
from tests import stored_world

START, END = datetime(2020, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)
WIDTH = len(FEATURES)


def test_labels_are_found_by_hash_and_missing_ones_are_not_fraud():
    labels = Labels(
        np.array([-5, 3, 9]), np.array([True, False, True]), np.array(["a", "", "b"], object), np.ones(3)
    )
    labelled, fraud, scenario = labels.of(np.array([9, 4, -5, 3, 100]))
    assert labelled.tolist() == [True, False, True, True, False]
    assert fraud.tolist() == [True, False, True, False, False]
    assert scenario.tolist() == ["b", "", "a", "", ""]
    nothing = Labels(np.array([], int), np.array([], bool), np.array([], object), np.array([]))
    assert [part.tolist() for part in nothing.of(np.array([1]))] == [[False], [False], [""]]


@pytest.fixture
def world(clean_postgres):
    stored_world.fill(clean_postgres, history_events=1_500)
    stored_world.log_scores(clean_postgres, lambda X: 1 / (1 + np.abs(X[:, 0])), threshold=0.3, version=4)
    return clean_postgres


def read(settings, **changed):
    with psycopg.connect(settings.conninfo("trainer")) as connection:
        arguments = {"feature_set": FEATURE_SET, "width": WIDTH} | changed
        return stored_rows.feature_rows(connection, START, END, **arguments)


@pytest.mark.services
def test_rows_are_what_plain_sql_says_in_order_of_event_time(world, monkeypatch):
    monkeypatch.setattr(stored_rows, "CHUNK", 50_000)  # several chunks
    rows = read(world)
    with psycopg.connect(world.conninfo("trainer")) as connection:
        expected = connection.execute(
            "select shop.event_key(transaction_id, timestamp), hashtextextended(user_id, 0), "
            "extract(epoch from timestamp)::float8, amount::float8, score, is_alert, model_version, features "
            "from shop.fraud_scores join shop.transactions using (transaction_id, user_id, timestamp) "
            "order by timestamp, 1"
        ).fetchall()
        scored = stored_rows.scored_rows(connection, START, END)
        assert stored_rows.counts(connection, START, END, FEATURE_SET, WIDTH) == (len(rows), len(rows))
        assert stored_rows.newest_event(connection).timestamp() == pytest.approx(rows.timestamp[-1])
    assert len(rows) == len(expected) > 1_400
    columns = list(zip(*expected, strict=True))
    read_columns = (rows.key, rows.user, rows.timestamp, rows.amount, rows.score, rows.alert, rows.version)
    for column, values in zip(columns, read_columns, strict=False):
        assert values.tolist() == list(column)
    assert (rows.features == np.array(columns[-1], np.float32)).all()
    assert rows.alert.any() and not rows.alert.all()
    assert scored.key.tolist() == rows.key.tolist()


@pytest.mark.services
def test_a_share_is_whole_customers_and_always_the_same(world):
    everything, some = read(world), read(world, share=0.3)
    assert 0 < len(some) < len(everything)
    kept = np.isin(everything.user, some.user)
    assert kept.sum() == len(some)
    assert read(world, share=0.3).key.tolist() == some.key.tolist()


@pytest.mark.services
def test_only_the_score_of_the_stored_event_counts_and_only_its_feature_set(world):
    before = read(world)
    with psycopg.connect(world.conninfo("owner")) as connection:
        connection.execute(
            "insert into shop.fraud_scores select transaction_id, user_id, timestamp, 1, true, 9, feature_set, "
            'features, topic, 1 - partition, "offset", broker_time from shop.fraud_scores limit 20'
        )
        connection.execute(
            "update shop.fraud_scores set feature_set = feature_set + 1 "
            "where transaction_id in (select transaction_id from shop.fraud_scores where score < 1 limit 5)"
        )
    after = read(world)
    assert len(after) == len(before) - 5
    assert 9 not in after.version


@pytest.mark.services
def test_a_null_in_a_vector_is_refused(world):
    with psycopg.connect(world.conninfo("owner")) as connection:
        connection.execute(
            "update shop.fraud_scores set features[3] = null where transaction_id = "
            "(select min(transaction_id) from shop.fraud_scores)"
        )
    with pytest.raises(UnreadableRows, match="feature_rows"):
        read(world)


@pytest.mark.services
def test_labels_are_the_latest_known_by_then(clean_postgres):
    at = datetime(2026, 3, 1, tzinfo=UTC)
    with psycopg.connect(clean_postgres.conninfo("owner")) as connection:
        connection.cursor().executemany(
            "insert into shop.fraud_transactions values (%s, %s, %s, %s, %s)",
            [
                ("a", at, True, at + timedelta(hours=2), "takeover"),
                ("a", at, False, at + timedelta(days=2), None),
                ("b", at, True, at + timedelta(days=3), None),
                (
                    "a",
                    at + timedelta(hours=1),
                    True,
                    at + timedelta(days=3),
                    None,
                ),  # another event with its id
            ],
        )
    with psycopg.connect(clean_postgres.conninfo("trainer")) as connection:
        known = {
            days: stored_rows.labels(connection, START, END, at + timedelta(days=days))
            for days in (0, 1, 2, 3)
        }
        key_of_a = connection.execute("select shop.event_key('a', %s)", [at]).fetchone()[0]
    assert [len(labels.key) for labels in known.values()] == [0, 1, 1, 3]
    assert known[1].scenario.tolist() == ["takeover"] and known[1].delay.tolist() == [7200]
    assert known[1].of(np.array([key_of_a]))[1].tolist() == [True]
    assert known[2].of(np.array([key_of_a]))[1].tolist() == [False]
    assert known[3].of(np.array([key_of_a]))[1].tolist() == [False]
