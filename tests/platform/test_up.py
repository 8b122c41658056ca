"""Which DAGs `up` switches on, at a first start and at later ones."""

from __future__ import annotations

import psycopg
import pytest
from rich.console import Console

from include.operations import jobs
from include.platform import airflow, up
from include.platform.progress import Progress
from include.platform.status import status
from include.settings import Settings
from include.training import first_champion
from tests import sample_data


class Airflow:
    """What `switch_on` uses of `airflow.Client`; `paused` has every DAG."""

    def __init__(self, *others: str):
        self.paused = dict.fromkeys((*airflow.DAGS, *others), True)
        self.triggered: list[str] = []

    def dags(self) -> dict[str, bool]:
        return dict(self.paused)

    def unpause(self, dag_id: str) -> None:
        self.paused[dag_id] = False

    def ensure_pool(self, name: str, slots: int, description: str) -> None:
        pass

    def active_runs(self, dag_id: str) -> list[str]:
        return self.triggered

    def trigger(self, dag_id: str) -> None:
        self.triggered.append(dag_id)

    def on(self) -> set[str]:
        return {dag_id for dag_id, paused in self.paused.items() if not paused}


PRODUCER = jobs.JobState("stopped", "", held=False, stop_requested=False, age=0.0)


@pytest.fixture
def home(tmp_path, monkeypatch) -> Settings:
    monkeypatch.setattr(jobs, "state", lambda settings, job: PRODUCER)
    return Settings(_env_file=None, home=tmp_path)


def test_a_first_start_switches_on_the_platforms_dags_and_starts_the_producer_once(home):
    client = Airflow("somebodys_own")
    for _ in range(2):
        up.switch_on(home, client)
        assert client.on() == set(airflow.DAGS)
        assert client.triggered == [airflow.PRODUCER_DAG]


def test_without_demo_the_producer_stays_off_also_at_later_starts(home):
    client = Airflow()
    for demo in (False, True):
        up.switch_on(home, client, demo)
        assert client.on() == set(airflow.DAGS) - {airflow.PRODUCER_DAG}
        assert client.triggered == []


@pytest.mark.services
def test_the_first_model_is_left_to_airflow_without_demo_or_with_a_short_history(clean_postgres, tmp_path):
    settings = clean_postgres.model_copy(update={"home": tmp_path})
    client = Airflow()
    with pytest.raises(
        up.NotReady, match="switched off in Airflow, so nothing is scored: stream_transactions, str"
    ):
        up.reach_first_score(settings, client, Progress(Console(quiet=True)))
    client.paused |= dict.fromkeys(airflow.STREAM_DAGS, False)
    with psycopg.connect(settings.conninfo("owner")) as connection:
        connection.execute("update shop.stream_leases set state = 'waiting', heartbeat_at = now() + '1 hour'")
    for _ in range(2):  # a second start triggers nothing again
        assert up.reach_first_score(settings, client, Progress(Console(quiet=True))) is False
        assert client.triggered == [airflow.FIRST_CHAMPION_DAG]
    jobs.hold(settings, "fraud_stream", True)
    with pytest.raises(up.NotReady, match="an operator stopped fraud_stream.*start_stream"):
        up.reach_first_score(settings, client, Progress(Console(quiet=True)))
    jobs.hold(settings, "fraud_stream", False)
    client.paused[airflow.PRODUCER_DAG] = False
    without_history = settings.model_copy(update={"history_events": 0})
    assert up.reach_first_score(without_history, client, Progress(Console(quiet=True))) is False


@pytest.mark.services
def test_stored_transactions_are_counted_until_there_are_enough_or_a_model(clean_postgres, monkeypatch):
    sample_data.fill(clean_postgres, transactions=300, days=10)
    with psycopg.connect(clean_postgres.conninfo("owner"), autocommit=True) as connection:
        connection.execute("delete from shop.models")
        state = first_champion.awaited(connection, clean_postgres.training_window_days)
        assert state is not None and 0 < state.stored <= 300
        assert first_champion.awaited(connection, 0) == first_champion.Awaited(0)
    assert not first_champion.is_due(clean_postgres)
    monkeypatch.setattr(first_champion, "ENOUGH", state.stored)
    assert status(clean_postgres)["first_champion"]["stored"] == state.stored


def test_what_an_operator_paused_stays_paused(home):
    client = Airflow()
    up.switch_on(home, client)
    client.paused |= dict.fromkeys(("parity", "reconcile"), True)
    up.switch_on(home, client)
    assert client.on() == set(airflow.DAGS) - {"parity", "reconcile"}


def test_a_producer_that_an_operator_stopped_stays_stopped(home, monkeypatch):
    monkeypatch.setattr(jobs, "state", lambda settings, job: PRODUCER._replace(held=True))
    client = Airflow()
    up.switch_on(home, client)
    assert client.triggered == []
    monkeypatch.setattr(jobs, "state", lambda settings, job: PRODUCER)
    up.switch_on(home, client)
    assert client.triggered == [airflow.PRODUCER_DAG]


def test_a_dag_of_a_newer_release_is_switched_on_once(home, monkeypatch):
    client = Airflow("newer")
    up.switch_on(home, client)
    client.paused["reconcile"] = True
    monkeypatch.setattr(airflow, "DAGS", (*airflow.DAGS, "newer"))
    up.switch_on(home, client)
    assert client.on() == set(airflow.DAGS) - {"reconcile"}
    client.paused["newer"] = True
    up.switch_on(home, client)
    assert client.on() == set(airflow.DAGS) - {"reconcile", "newer"}


def test_a_start_that_dies_half_way_is_finished_by_the_next(home, monkeypatch):
    client = Airflow()

    def away(dag_id: str) -> None:
        raise airflow.AirflowError("away")

    with monkeypatch.context() as patched:
        patched.setattr(client, "unpause", away)
        with pytest.raises(airflow.AirflowError):
            up.switch_on(home, client)
    up.switch_on(home, client)
    assert client.on() == set(airflow.DAGS)


def test_dags_that_airflow_does_not_read_are_named(home, monkeypatch):
    client = Airflow()
    del client.paused["parity"]
    monkeypatch.setattr(client, "import_errors", lambda: ["parity.py: SyntaxError"], raising=False)
    monkeypatch.setattr(
        up, "wait_until", lambda done, timeout, otherwise: None if done() else pytest.fail(otherwise())
    )
    with pytest.raises(pytest.fail.Exception, match="not read these DAGs: parity\n  parity.py: SyntaxError"):
        up.switch_on(home, client)
    assert client.on() == set()
