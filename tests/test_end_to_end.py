"""The whole platform in a temporary folder on free ports: started, used, hurt and stopped as its users do it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import psycopg
import pytest

from include import kafka, registry
from include.platform import airflow, ports, processes
from include.settings import Settings

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(1500)]

COMMAND = str(Path(sys.prefix) / "bin" / "fraudstream")
SERVICES = {
    "postgres", "kafka", "mlflow", "streamlit",
    "airflow-api-server", "airflow-scheduler", "airflow-dag-processor", "airflow-triggerer",
}  # fmt: skip


class Platform:
    """A platform of the tests' own, driven through the console script."""

    def __init__(self, home: Path):
        names = ("postgres", "kafka", "kafka_controller", "mlflow", "airflow", "streamlit")
        numbers = dict(zip((f"{name}_port" for name in names), ports.free(len(names)), strict=True))
        self.settings = Settings(
            _env_file=None, home=home, history_days=10, history_events=20_000, rate_per_second=5, **numbers
        )
        self.environment = os.environ | self.settings.as_environment()

    def run(self, *arguments: str, timeout: float = 600) -> subprocess.CompletedProcess:
        return subprocess.run(
            [COMMAND, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def status(self) -> dict:
        return json.loads(self.run("status", "--json", timeout=60).stdout)

    def query(self, statement: str) -> list[tuple]:
        with psycopg.connect(self.settings.conninfo("owner")) as connection:
            return connection.execute(statement).fetchall()

    def drivers(self, job: str) -> list[psutil.Process]:
        """The Java and Python processes of a Spark job."""
        return [
            each
            for each in processes.ours(self.settings)
            if f"spark_jobs/{job}.py" in " ".join(_command(each))
        ]

    def wait(self, what: str, condition: Callable[[], bool], timeout: float = 180) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                pytest.fail(
                    f"{what} did not happen within {timeout:.0f} s; status: {self.run('status').stdout}"
                )
            time.sleep(1)


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    platform = Platform(tmp_path_factory.mktemp("end-to-end"))
    try:
        started = platform.run("up", timeout=900)
        assert started.returncode == 0, started.stdout + started.stderr
        platform.started = started.stdout
        yield platform
    finally:
        platform.run("down", timeout=180)
        processes.end(processes.ours(platform.settings), grace=5)


def test_up_ends_with_addresses_logins_and_how_to_stop(platform):
    for port in (
        platform.settings.airflow_port,
        platform.settings.streamlit_port,
        platform.settings.mlflow_port,
    ):
        assert f"http://127.0.0.1:{port}" in platform.started
    assert "airflow-users.json" in platform.started
    assert "make down" in platform.started


def test_every_service_is_healthy_and_counts_grow(platform):
    platform.wait("health of every service and stream", lambda: _all_well(platform.status()))
    before = platform.status()
    assert before["services"].keys() == SERVICES
    assert before["counts"]["transactions"] > 20_000
    assert before["counts"]["alerts"] > 0
    assert before["champion"]["version"] == 1
    assert before["first_scored_seconds"] > 0
    platform.wait(
        "a growing number of scores",
        lambda: platform.status()["counts"]["scored"] > before["counts"]["scored"],
        60,
    )


def _all_well(status: dict) -> bool:
    return {each["state"] for each in status["services"].values()} == {"healthy"} and {
        each["state"] for each in status["streams"].values()
    } == {"running"}


def test_up_again_changes_nothing_that_runs(platform):
    before = {each.pid for each in platform.drivers("fraud_stream")}
    assert platform.run("up", timeout=300).returncode == 0
    assert {each.pid for each in platform.drivers("fraud_stream")} == before


def test_retraining_makes_a_version_that_the_stream_uses(platform):
    client = airflow.Client(platform.settings)
    run = client.trigger(airflow.RETRAIN_DAG, {"trees": 60})
    assert client.wait_for_run(airflow.RETRAIN_DAG, run, timeout=300) == "success"
    assert platform.query("select max(version) from shop.models") == [(2,)]
    registry.set_champion(platform.settings, 2)  # whatever the judgement was
    platform.wait("scores by version 2", lambda: platform.status()["champion"]["version"] == 2)
    platform.wait(
        "a stored score by version 2",
        lambda: (
            platform.query("select exists (select from shop.fraud_scores where model_version = 2)")
            == [(True,)]
        ),
    )


@pytest.mark.parametrize("job", ["transaction_stream", "fraud_stream"])
def test_a_killed_driver_comes_back_and_loses_nothing(platform, job):
    victims = platform.drivers(job)
    assert victims
    victims[0].kill()
    _recovers(platform, lambda: set(platform.drivers(job)) - set(victims))


def test_a_killed_broker_comes_back_and_loses_nothing(platform):
    (broker,) = [each for each in processes.ours(platform.settings) if "kafka.Kafka" in _command(each)]
    broker.kill()
    _recovers(platform, lambda: not broker.is_running())


def _recovers(platform: Platform, restarted: Callable[[], object]) -> None:
    """Waits until everything that the broker acknowledged up to now is accounted for; then closes the books."""
    platform.wait("a restart", lambda: bool(restarted()))
    platform.wait("a broker that answers", lambda: platform.status()["problems"] == [])
    ends = kafka.end_offsets(platform.settings, platform.settings.transactions_topic)
    platform.wait("the books of both streams", lambda: _ledger(platform, ends), timeout=240)
    topic = platform.settings.transactions_topic
    counted = f"""
        select (select sum(stored) from shop.stream_offsets
                where stream = 'transaction_stream' and topic = '{topic}'),
               (select count(*) from shop.transactions),
               (select count(distinct transaction_id) from shop.transactions)
    """
    ((ledger, rows, ids),) = platform.query(counted)
    assert ledger == rows == ids
    ((rows, places),) = platform.query(
        'select count(*), count(distinct (topic, partition, "offset")) from shop.fraud_scores'
    )
    assert rows == places


def _ledger(platform: Platform, ends: dict[int, int]) -> bool:
    """True when both streams have accounted for all offsets below `ends`."""
    rows = platform.query(
        "select stream, partition, next_offset from shop.stream_offsets"
        f" where topic = '{platform.settings.transactions_topic}'"
    )
    done = {(stream, partition): next_offset for stream, partition, next_offset in rows}
    return all(
        done.get((stream, partition), 0) >= end
        for stream in ("transaction_stream", "fraud_stream")
        for partition, end in ends.items()
    )


def _runs(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_stopping_from_airflow_ends_the_job_and_its_children(platform):
    client, dag_id = airflow.Client(platform.settings), "stream_fraud_scores"
    victims = platform.drivers("fraud_stream")
    victims += [child for each in victims for child in each.children(recursive=True)]
    client.request("PATCH", f"/dags/{dag_id}", {"is_paused": True})
    (run,) = client.active_runs(dag_id)
    task = f"/dags/{dag_id}/dagRuns/{run}/taskInstances/fraud_stream"
    client.request("PATCH", task, {"new_state": "failed"})
    platform.wait("the end of the job", lambda: not any(map(_runs, victims)), 90)
    assert platform.drivers("fraud_stream") == []
    client.unpause(dag_id)
    platform.wait("the stream, switched on again", lambda: _all_well(platform.status()))


def test_logs_are_found_by_name(platform):
    assert "epoch" in platform.run("logs", "stream_transactions", "-n", "2000").stdout
    unknown = platform.run("logs", "nothing")
    assert unknown.returncode != 0
    assert "postgres" in unknown.stderr


def test_down_leaves_no_process(platform):
    stopped = platform.run("down", timeout=120)
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    assert processes.ours(platform.settings) == []
    assert platform.run("status").returncode == 1
