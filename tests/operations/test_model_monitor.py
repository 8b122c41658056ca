"""The monitor on a stored world with a real champion: incidents open, keep one name, and close."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import numpy as np
import psycopg
import pytest

from include.models.isolation_forest import IsolationForestDetector
from include.operations import model_monitor
from include.operations.incidents import Kind
from include.operations.model_monitor import monitor, tell
from include.registry import aliases, loading
from include.training.drift import Cause, Health
from include.training.recompute import recomputed_rows
from tests import registered, stored_world
from tests.conftest import EMPTY

pytestmark = pytest.mark.services
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def filled(postgres, mlflow_server, tmp_path_factory):
    with psycopg.connect(postgres.conninfo("owner"), autocommit=True) as connection:
        connection.execute(EMPTY)
    stored_world.fill(postgres, history_events=8_000)
    settings = postgres.model_copy(
        update={"model_name": f"model-{uuid4().hex}", "home": tmp_path_factory.mktemp("monitor")}
    )
    with psycopg.connect(settings.conninfo("owner")) as connection:
        vectors = recomputed_rows(connection, stored_world.END - 30 * DAY, stored_world.END).features
    detector = IsolationForestDetector(trees=20).fit(vectors)
    threshold = float(np.quantile(detector.score(vectors), 0.98))
    registered.register(settings, detector, threshold=threshold, trained_to=stored_world.END - 5 * DAY)
    aliases.set_champion(settings, 1)
    scorer = loading.load_scorer(settings, 1)
    stored_world.log_scores(settings, scorer.score, scorer.threshold, 1)
    return settings


@pytest.fixture
def shop(filled):
    with psycopg.connect(filled.conninfo("owner"), autocommit=True) as connection:
        connection.execute(
            "truncate shop.incidents, shop.outbox, shop.model_health, shop.fraud_alerts restart identity"
        )
    return filled


def incidents(settings) -> list[tuple[str, str, bool]]:
    with psycopg.connect(settings.conninfo("owner")) as connection:
        query = "select kind, summary, closed_at is null from shop.incidents order by id"
        return connection.execute(query).fetchall()


def test_what_is_as_usual_is_kept_and_raises_nothing(shop):
    assert monitor(shop) == ["as usual"]
    assert incidents(shop) == []
    with psycopg.connect(shop.conninfo("grafana")) as connection:
        ((version, cause, shift),) = connection.execute(
            "select version, cause, shift from monitoring.model_health"
        )
    assert (version, cause) == (1, None) and {"amounts", "place", "device"} <= shift.keys()


def test_a_field_that_is_missing_opens_one_incident_which_closes_when_it_is_back(shop):
    with psycopg.connect(shop.conninfo("owner"), autocommit=True) as connection:
        connection.execute("create table public.kept as select transaction_id, device from shop.transactions")
        connection.execute(
            "update shop.transactions set device = null where timestamp > %s", [stored_world.END - DAY]
        )
        try:
            assert "device is missing" in monitor(shop)[0]
            monitor(shop)
            (incident,) = incidents(shop)
            assert incident[0] == Kind.FIELD_FAULT and "device is missing in" in incident[1] and incident[2]
            told = connection.execute("select value ->> 'event' from shop.outbox").fetchall()
            assert told == [("opened",)]
        finally:
            connection.execute("update shop.transactions t set device = k.device from public.kept k "
                               "where k.transaction_id = t.transaction_id")  # fmt: skip
            connection.execute("drop table public.kept")
    monitor(shop)
    assert [kind_and_open[2] for kind_and_open in incidents(shop)] == [False]


def test_one_fault_has_one_name_while_it_lasts(shop):
    fault = Health(Cause.PIPELINE, "amount", {}, {}, {})
    with psycopg.connect(shop.conninfo("trainer")) as connection:
        tell(connection, "model", fault)
        tell(connection, "model", Health(Cause.POPULATION, "amounts", {}, {}, {}))
        tell(connection, "model", fault)
        assert [row[0] for row in connection.execute("select kind from shop.incidents")] == [Kind.FIELD_FAULT]
        tell(connection, "model", Health(None, "", {}, {}, {}))
        tell(connection, "model", Health(Cause.POPULATION, "amounts", {}, {}, {}))
    assert [(kind, opened) for kind, _, opened in incidents(shop)] == [
        (Kind.FIELD_FAULT, False), (Kind.POPULATION_CHANGED, True)]  # fmt: skip


def test_a_retraining_is_asked_for_once_when_an_incident_opens_that_a_new_model_may_end(shop):
    with psycopg.connect(shop.conninfo("trainer"), autocommit=True) as connection:
        (before,) = connection.execute("select clock_timestamp()").fetchone()
        assert not model_monitor.asks_for_retraining(shop, before)
        tell(connection, shop.model_name, Health(Cause.PIPELINE, "amount", {}, {}, {}))
        assert not model_monitor.asks_for_retraining(shop, before)
        tell(connection, shop.model_name, Health(None, "", {}, {}, {}))
        tell(connection, shop.model_name, Health(Cause.POPULATION, "amounts", {}, {}, {}))
        assert model_monitor.asks_for_retraining(shop, before)
        (after,) = connection.execute("select clock_timestamp()").fetchone()
        tell(connection, shop.model_name, Health(Cause.POPULATION, "amounts", {}, {}, {}))
        assert not model_monitor.asks_for_retraining(shop, after)


def test_every_cause_has_a_kind_of_incident():
    assert model_monitor.KINDS.keys() == set(Cause)


def test_a_champion_without_a_successor_for_weeks_is_stale(shop):
    with psycopg.connect(shop.conninfo("owner"), autocommit=True) as connection:
        connection.execute("update shop.models set trained_to = trained_to - interval '12 days'")
        try:
            assert "stale champion: no model has learned anything newer" in monitor(shop)[0]
        finally:
            connection.execute("update shop.models set trained_to = trained_to + interval '12 days'")
    assert [kind for kind, _, _ in incidents(shop)] == [Kind.CHAMPION_STALE]


def test_a_day_with_more_alerts_than_the_team_can_read_says_why_until_the_next_day(shop):
    add = """insert into shop.fraud_alerts (transaction_id, user_id, timestamp, amount, score, threshold, model_version,
             topic, partition, "offset", capacity)
             select 'a' || n, 'u', %s, 10, 0.9, 0.5, 1, 'transactions-data', 0, n, 5
             from generate_series(%s::int, %s) n"""
    with psycopg.connect(shop.conninfo("owner"), autocommit=True) as connection:
        connection.execute(add, (stored_world.END, 1, 30))
        (summary, _) = monitor(shop)
        assert (
            "30 alerts of 2026-03-22, the team can read 5; 25 are held back" in summary
            and "usually" in summary
        )
        assert [row[0] for row in incidents(shop)] == [Kind.ALERTS_OVER_CAPACITY]
        connection.execute(add, (stored_world.END + DAY, 31, 33))
    monitor(shop)
    assert [opened for _, _, opened in incidents(shop)] == [False]


def test_without_a_champion_there_is_nothing_to_compare(shop):
    unknown = shop.model_copy(update={"model_name": f"model-{uuid4().hex}"})
    assert monitor(unknown) == ["there is no champion, or no payment yet: nothing to compare"]
