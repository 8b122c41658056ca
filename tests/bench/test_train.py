"""What the benchmark of a training writes is what training reads, and it measures."""

import numpy as np
import psycopg
import pytest

from include.bench import train
from include.features.behaviour import FEATURE_SET, FEATURES
from include.training import stored_rows
from tests.conftest import EMPTY

pytestmark = pytest.mark.services


@pytest.fixture
def filled(postgres):
    with psycopg.connect(postgres.conninfo("owner"), autocommit=True) as connection:
        connection.execute(EMPTY)
    with psycopg.connect(postgres.conninfo("owner")) as connection:
        train._fill(connection, 0, 2_000)
    with psycopg.connect(postgres.conninfo("owner")) as connection:
        train._fill(connection, 2_000, 4_000)
    return postgres


def test_what_is_written_is_read_back(filled):
    start, end = train.START, train.START.replace(year=train.START.year + 1)
    with psycopg.connect(filled.conninfo("trainer")) as connection:
        rows = stored_rows.feature_rows(connection, start, end, feature_set=FEATURE_SET, width=len(FEATURES))
        labels = stored_rows.labels(connection, start, end, end)
    assert len(rows) == 4_000 and len(np.unique(rows.user)) == 40
    assert rows.amount.min() >= 0.01 and rows.amount.max() < 1_000
    assert np.allclose(rows.amount * 100, np.round(rows.amount * 100))
    _, fraud, _ = labels.of(rows.key)
    assert fraud.sum() == (rows.features[:, 0] >= 5).sum() > 20
    assert np.ptp(rows.timestamp) > 29 * 86_400 * 0.9


def test_a_training_is_measured(filled):
    result = train._trained(filled)
    assert result["trained_rows"] == 4_000
    assert 0.1 < result["gib"] < 4 and list(result["seconds"]) == ["read", "fit and measure", "fit again"]
