"""A shop with some days in it, a real champion in a real registry, and the app's settings pointed at them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np
import psycopg
import pytest
import streamlit as st

from include import settings
from include.events.rows import SELECTED, with_transactions
from include.features import behaviour
from include.models.isolation_forest import IsolationForestDetector
from include.registry import aliases, registration
from include.settings import Settings
from tests import sample_data
from tests.conftest import EMPTY

SAVE_STATE = "insert into shop.user_state (user_id, partition, layout, state) values (%s, %s, %s, %s)"
OLDER_VERSION = """
update shop.models set trained_from = now() - interval '30 days', trained_to = now() - %(age)s * interval '1 day',
    created_at = now() - %(age)s * interval '1 day' where version = %(version)s"""


@pytest.fixture(scope="module")
def shop(postgres: Settings) -> Settings:
    """The PostgreSQL with the sample data; its model versions are in no registry."""
    with psycopg.connect(postgres.conninfo("owner"), autocommit=True) as connection:
        connection.execute(EMPTY)
    sample_data.fill(postgres)
    return postgres


@pytest.fixture(scope="module")
def shop_with_champion(shop: Settings, mlflow_server: Settings, request: pytest.FixtureRequest) -> Settings:
    """The same, with versions 1 and 2 in MLflow, the second one champion, and states of all customers."""
    # A model of its own for each module: its versions start at 1 in the registry that all share.
    settings = shop.model_copy(update={"model_name": request.module.__name__.replace(".", "-")})
    with psycopg.connect(settings.conninfo("owner"), autocommit=True) as connection:
        connection.execute("delete from shop.models")
        vectors = recompute(connection)
    threshold = {1: 0.58, 2: 0.59}
    for version in threshold:
        detector = IsolationForestDetector(trees=50, seed=version).fit(vectors)
        metrics = {"auc": 0.9, "average_precision": 0.4 + version / 20, "precision_at_threshold": 0.5,
                   "recall_at_threshold": 0.6}  # fmt: skip
        made = registration.register(
            settings, detector, threshold=threshold[version], metrics=metrics, params={}, figures={},
            trained_from=sample_time(-30), trained_to=sample_time(-4),
        )  # fmt: skip
        assert made.version == version
    aliases.set_champion(settings, 2)
    with psycopg.connect(settings.conninfo("owner"), autocommit=True) as connection:
        connection.execute(OLDER_VERSION, {"version": 1, "age": 6})
        connection.execute(OLDER_VERSION, {"version": 2, "age": 2})
    return settings


def sample_time(days: float) -> datetime:
    return datetime.now(UTC) + timedelta(days=days)


class Stored(NamedTuple):
    offset: int


def recompute(connection: psycopg.Connection) -> np.ndarray:
    """Feature vectors of the stored transactions, and their customers' states stored as the stream would."""
    everything = []
    for partition in (0, 1):
        cursor = connection.cursor(row_factory=with_transactions(Stored))
        query = (
            f'select t."offset", {SELECTED} from shop.transactions t where partition = %s order by "offset"'
        )
        transactions = [transaction for _, transaction in cursor.execute(query, [partition])]
        users, index = np.unique([t.user_id for t in transactions], return_inverse=True)
        state = behaviour.new_state(len(users))
        everything.append(behaviour.compute(state, index, behaviour.columns(transactions)))
        connection.cursor().executemany(
            SAVE_STATE,
            [
                (u, partition, behaviour.LAYOUT, s.tobytes())
                for u, s in zip(users.tolist(), state, strict=True)
            ],
        )
    return np.concatenate(everything)


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """`use(settings)` makes them the settings of this process, with no cached figure of an earlier test."""

    def become(chosen: Settings, **changed: object) -> None:
        for name, value in chosen.model_copy(update=changed).as_environment().items():
            monkeypatch.setenv(name, value)
        settings.load.cache_clear()
        st.cache_data.clear()
        st.cache_resource.clear()

    yield become
    settings.load.cache_clear()
    st.cache_data.clear()
    st.cache_resource.clear()
