"""Old logs and Airflow's old records go; what is in use stays."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from include.platform import airflow, tidy
from include.settings import Settings

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
OLD = NOW - timedelta(days=40)


@pytest.fixture
def home(tmp_path) -> Settings:
    return Settings(_env_file=None, home=tmp_path)


def task_log(settings: Settings, dag_id: str, run: str, written: datetime):
    path = (
        settings.home
        / "logs"
        / "airflow"
        / f"dag_id={dag_id}"
        / f"run_id={run}"
        / "task_id=t"
        / "attempt=1.log"
    )
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    os.utime(path, (written.timestamp(), written.timestamp()))
    return path


def test_old_logs_go_with_their_folders_but_the_newest_of_each_dag_stays(home, monkeypatch):
    cleaned = []
    monkeypatch.setattr(airflow, "clean", lambda settings, before: cleaned.append(before))
    old = [task_log(home, "reconcile", f"{i}", OLD - timedelta(days=i)) for i in range(3)]
    young = task_log(home, "reconcile", "young", NOW - timedelta(days=1))
    quiet = task_log(home, "stream_transactions", "endless", OLD)
    parsed = home.home / "airflow" / "logs" / "dag_processor" / "2026-10-01" / "a.log"
    parsed.parent.mkdir(parents=True)
    parsed.write_text("")
    os.utime(parsed, (OLD.timestamp(), OLD.timestamp()))
    tidy.delete_old_records(home.model_copy(update={"keep_logs_days": 0}), NOW)
    assert all(path.exists() for path in [*old, parsed]) and cleaned == []
    tidy.delete_old_records(home, NOW)
    assert cleaned == [NOW - timedelta(days=30)]
    assert not any(path.parent.parent.exists() for path in old) and not parsed.parent.exists()
    assert young.exists() and quiet.exists()


RUN = """
insert into dag_run (dag_id, run_id, run_type, state, start_date, logical_date, data_interval_start, data_interval_end,
    queued_at, run_after, clear_number)
values (%(dag)s, %(run)s, 'scheduled', %(state)s, %(at)s, %(at)s, %(at)s, %(at)s, %(at)s, %(at)s, 0)"""


@pytest.mark.services
def test_airflows_old_records_go_and_those_of_endless_tasks_stay(postgres):
    airflow.migrate(postgres, os.environ | airflow.environment(postgres))
    with psycopg.connect(postgres.conninfo("airflow", "airflow"), autocommit=True) as connection:
        for dag, run, state, at in (
            ("reconcile", "old", "success", OLD),
            ("reconcile", "young", "success", NOW),
            ("stream_transactions", "endless", "running", OLD),
            ("stream_transactions", "another", "failed", NOW),
        ):
            connection.execute(RUN, {"dag": dag, "run": run, "state": state, "at": at})
        for at in (OLD, NOW):
            connection.execute("insert into log (dttm, event) values (%s, 'something')", [at])
        airflow.clean(postgres, NOW - timedelta(days=30))
        runs = connection.execute("select run_id from dag_run order by 1").fetchall()
        assert [run for (run,) in runs] == ["another", "endless", "young"]
        events = connection.execute("select dttm from log where event = 'something'").fetchall()
        assert events == [(NOW,)]


@pytest.mark.services
def test_an_airflow_that_cannot_be_cleaned_is_named(postgres):
    away = postgres.model_copy(update={"postgres_port": 1})
    with pytest.raises(airflow.AirflowError, match="airflow db clean failed"):
        airflow.clean(away, NOW)
