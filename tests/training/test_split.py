"""The parts of a training window: separated by time, and blind to whatever became known later."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import psycopg
import pytest

from include.training import split
from include.training.split import NotEnoughData, divide
from tests import stored_world
from tests.conftest import EMPTY


def test_parts_follow_one_another_in_time():
    timestamp = np.arange(2_000, dtype=float)
    parts = divide(timestamp, settled_until=999.0)
    assert (parts.fit, parts.later, parts.newest) == (slice(0, 600), slice(600, 1000), slice(1000, 2000))
    assert parts.split == 600
    assert parts.sizes() == {"fit": 600, "later": 400, "newest": 1000}


def test_rows_of_one_instant_stay_together():
    timestamp = np.repeat(np.arange(4.0), 1_000)
    parts = divide(timestamp, settled_until=3.0)
    assert parts.fit == slice(0, 2000) and parts.later == slice(2000, 4000) and parts.split == 2.0


def test_without_settled_rows_nothing_is_measured():
    parts = divide(np.arange(1_000.0), settled_until=-1.0)
    assert parts.sizes() == {"fit": 800, "later": 0, "newest": 200}
    assert divide(np.array([]), 0.0).sizes() == {"fit": 0, "later": 0, "newest": 0}


@pytest.mark.services
def test_what_happens_or_becomes_known_after_as_of_changes_nothing(clean_postgres):
    stored_world.fill(clean_postgres, history_events=3_000)
    as_of = stored_world.END - timedelta(days=3)
    before = split.read(clean_postgres, window_days=30, as_of=as_of)
    with psycopg.connect(clean_postgres.conninfo("owner")) as connection:
        removed = connection.execute("delete from shop.transactions where timestamp > %s", (as_of,)).rowcount
        removed_labels = connection.execute(
            "delete from shop.fraud_transactions where known_at > %s", (as_of,)
        ).rowcount
    assert removed > 100 and removed_labels > 5
    after = split.read(clean_postgres, window_days=30, as_of=as_of)
    assert before.parts == after.parts and before.settled_until == after.settled_until
    assert (before.rows.features == after.rows.features).all()
    assert before.labels.key.tolist() == after.labels.key.tolist()
    assert before.rows.timestamp[-1] <= as_of.timestamp()


@pytest.mark.services
def test_a_supervised_family_learns_only_from_labels_settled_at_the_split(clean_postgres):
    stored_world.fill(clean_postgres, history_events=6_000, fraud_rate=0.1)
    data = split.read(clean_postgres, window_days=30)
    X, y = data.to_fit(supervised=True, maturity=None)
    assert len(X) == len(y) == data.parts.sizes()["fit"] and set(y.tolist()) == {-1, 0, 1}
    assert (y == 1).sum() >= split.MIN_FRAUDS
    assert (np.diff(np.sign(y + 0.5)) <= 0).all()  # the rows that were not settled then come last
    with psycopg.connect(clean_postgres.conninfo("owner")) as connection:
        late = connection.execute(
            "delete from shop.fraud_transactions where known_at > %s", (data.trained_to,)
        ).rowcount
    assert late > 10
    again, same = split.read(clean_postgres, window_days=30).to_fit(supervised=True, maturity=None)
    assert again.shape == X.shape and (same == y).all()


@pytest.mark.services
def test_too_little_data_is_said_with_counts_and_remedy(clean_postgres):
    with pytest.raises(NotEnoughData, match="shop.transactions is empty"):
        split.read(clean_postgres, window_days=30)
    stored_world.fill(clean_postgres, history_events=400)
    with pytest.raises(
        NotEnoughData, match=r"\d+ to fit and \d+ after them; 500 and 100 are needed. Let more"
    ):
        split.read(clean_postgres, window_days=30)
    with psycopg.connect(clean_postgres.conninfo("owner")) as connection:
        connection.execute(EMPTY)
    stored_world.fill(clean_postgres, history_events=2_000)
    with psycopg.connect(clean_postgres.conninfo("owner")) as connection:
        connection.execute("truncate shop.fraud_transactions")
    data = split.read(clean_postgres, window_days=30)
    with pytest.raises(NotEnoughData, match="there are 0 among the .* train an isolation_forest"):
        data.to_fit(supervised=True, maturity=None)
